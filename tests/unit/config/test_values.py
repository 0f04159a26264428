"""Every grammar accepts what it should, refuses what it must, and offers the nearest good value."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from sandboxfile.config import addresses, specifiers, values
from sandboxfile.config.problems import Fault

Grammar = Callable[[str], Fault | None]


def pip(text: str) -> Fault | None:
    return specifiers.package("pip", text)


def apt(text: str) -> Fault | None:
    return specifiers.package("apt", text)


def npm(text: str) -> Fault | None:
    return specifiers.package("npm", text)


def variable_value(text: str) -> Fault | None:
    return values.variable_value("A", text)


GOOD: dict[Grammar, list[str]] = {
    values.name: ["a", "0", "code-agent", "a_b", "a" * 128],
    values.tag: ["stable", "v1.2.3", "1.0", "${key}", "v-${git.sha}", "a" * 128, "._-"],
    values.variable: ["A", "_", "a1", "PYTHONPATH", "LD_PRELOAD", "PATH"],
    variable_value: ["", "a b", "$HOME", "é", "x" * values.VALUE_LIMIT],
    values.user: ["root", "user", "_apt", "a-b_c1", "0", "1000", "4294967294", "a" * 32],
    values.owner: ["user", "user:user", "1000:1000", "user:0"],
    values.mode: ["755", "0755", "644", "4755", "0000"],
    values.image_path: ["/", "/app", "/home/user/my app/", "/a/b@2+c-d_e.f", "/..a/b.."],
    values.source: [".", "app/", "a/*.py", "web/package*.json", "a/../b", "[a-z]/?", "**/x"],
    values.path: ["Dockerfile", "docker/Dockerfile", "./a", "a/../b", "a b"],
    apt: ["git", "g++", "libstdc++6", "git=1:2.39.5-0+deb12u2", "libc6:i386", "python3.11"],
    pip: [
        "requests",
        "requests==2.32.3",
        "a>=1.0",
        "ruff~=0.8.4",
        "a[b]",
        "a[b,c]==1.0",
        "requests[socks]>=2,<3",
        "a==1.*",
        "a; python_version >= '3.9'",
        "zope.interface",
    ],
    npm: [
        "typescript",
        "typescript@5.6.3",
        "@types/node",
        "@types/node@^22",
        "a@>=1 <2",
        "a@latest",
        "a@1 || 2",
        "a@~1.2",
        "a@*",
        "~tilde",
        "a" * 214,
    ],
    values.command: ["python -m app", "echo 'é' && true", "x" * values.COMMAND_LIMIT],
    values.script: ["make", "a\nb\n\tc\n", "x" * values.SCRIPT_LIMIT],
    addresses.image: [
        "python",
        "python:3.12-slim",
        "127.0.0.1:5000/a/b",
        "ghcr.io/a@sha256:" + "0" * 64,
    ],
    addresses.remote: [
        "code-interpreter",
        "a:b",
        "team/a:stable",
        "a:3c52915f-59fc-4890-beeb-f249c4ae906c",
    ],
    values.stage: ["build", "Build-2.x", "0"],
    values.suite: ["bookworm", "trixie", "noble", "bookworm-backports"],
    values.component: ["main", "non-free-firmware"],
    values.snapshot: ["20240115T000000Z"],
    values.argument: ["VERSION", "_x"],
    addresses.url: ["http://localhost:8000/health", "https://a.b/c?d=e#f", "http://[::1]:80/"],
    addresses.service_url: ["http://127.0.0.1:8080", "https://api.example.com/base/"],
    addresses.domain: ["us-phx-1.sandbox.novita.ai", "localhost", "a.b"],
    addresses.registry: [
        "ghcr.io/acme/sandboxes",
        "127.0.0.1:5000",
        "localhost/a",
        "[::1]:5000/a",
        "r.io/a_b/c--d/e__f",
    ],
    values.secret_id: ["npm-token", "A.b_c", "0"],
    values.secret_variable: ["NPM_TOKEN"],
    values.process: ["nginx", "python3", "a-very-long-process-name"],
    values.builder: ["cluster", "my.builder-1"],
}

BAD: dict[Grammar, list[str]] = {
    values.name: ["", "A", "-a", "_a", "a b", "a.b", "a:b", "é", "a" * 129, "a\n"],
    values.tag: [
        "",
        "A",
        "a b",
        "a/b",
        "default",
        "sf-1",
        "$${key}",
        "a" * 129,
        "a\n",
        "3c52915f-59fc-4890-beeb-f249c4ae906c",
        "3C52915F-59FC-4890-BEEB-F249C4AE906C",
    ],
    values.variable: [
        "",
        "1A",
        "A-B",
        "A=B",
        "A B",
        "é",
        "A\n",
        "NOVITA_X",
        "E2B_X",
        "SANDBOXFILE_X",
    ],
    variable_value: ["a\nb", "a\tb", "\x00", "\x1b[0m", "\u202e", "x" * (values.VALUE_LIMIT + 1)],
    values.user: [
        "",
        "Root",
        "1a",
        "a b",
        "$(id)",
        "user:user",
        "-1",
        "01",
        "4294967295",
        "a" * 33,
        "user\n",
        "99999999999",
    ],
    values.owner: ["", ":", "user:", ":user", "a:b:c", "A", "user: group"],
    values.mode: ["", "75", "999", "77777", "rwx", "0o755", "755\n"],
    values.image_path: [
        "",
        "app",
        "~/app",
        "$HOME",
        "/a/../b",
        "/..",
        "/a;b",
        "/a'b",
        "/a\n",
        "/é",
    ],
    values.source: [
        "",
        "/a",
        "~",
        "../a",
        "a/../../b",
        "..",
        "C:\\a",
        "\\\\srv\\a",
        "file:a",
        "a\\b",
        "a;b",
        "a$b",
        "a\x00",
        "http://a/b",
        "a\n",
    ],
    values.path: ["a*", "[a]", "a?"],
    apt: [
        "",
        "Git",
        "a",
        "-y",
        "--option",
        "git-",
        "curl; rm",
        "$(id)",
        "./a.deb",
        "a.deb",
        "a=",
        "a b",
    ],
    pip: [
        "",
        "-e .",
        "./a",
        "/a",
        "git+https://h/x",
        "a @ https://h/x",
        "a @ file:///x",
        "x @ a",
        "a==1 --index-url=h",
        "a==",
        "a b",
        "a.whl",
        "a\n",
    ],
    npm: [
        "",
        "-g",
        "Left",
        "a b",
        "user/repo",
        "github:a/b",
        "git+ssh://h/x",
        "a@npm:b",
        "a@file:x",
        "../a",
        "@a",
        "@a/",
        "a@",
        "a@-x",
        "a" * 215,
        "a.tgz",
        "a;b",
    ],
    values.command: ["", "  ", "a\nb", "a\tb", "\x00", "x" * (values.COMMAND_LIMIT + 1)],
    values.script: ["", "\n\n", "a\x00", "a\rb", "a\r\nb", "\x1b", "x" * (values.SCRIPT_LIMIT + 1)],
    addresses.image: ["", "Python", "a b", "python:", "python@sha256:12", "https://a/b", "a/"],
    addresses.remote: ["", "A", "a:B", "a:", "a/b/c", "a b"],
    values.stage: ["", "a b", "-a", "1000"],
    values.suite: ["", "12", "Bookworm", "a b"],
    values.component: ["", "Main", "a/b"],
    values.snapshot: ["", "2024-01-15", "20240115T000000"],
    values.argument: ["", "a-b", "1"],
    addresses.url: [
        "",
        "localhost",
        "ftp://a",
        "http://",
        "http://a:b@c",
        "http://a@c",
        "http://a:0",
        "http://a:99999",
        "http://a b",
        "http://a/\n",
        "http://[::1",
        "http://[:::::]:80/",
        "http://[::1%25lo]/",
        "//a",
        "https://evil.com\\.novita.ai",
        "https://evil.com%2f.novita.ai",
        "https://evil.com\u3002novita.ai",
        "https://evil.com\xa0.novita.ai",
        "https://b\xfccher.de",
    ],
    addresses.service_url: ["https://a/?b", "https://a/#b", "a"],
    addresses.domain: [
        "",
        "A.b",
        "https://a.b",
        "a.b/c",
        "a:80",
        "me:pw@a.b",
        "a b",
        "-a",
        "a" * 254,
    ],
    addresses.registry: [
        "",
        "acme/x",
        "https://ghcr.io/a",
        "a:b@ghcr.io/a",
        "ghcr.io/A",
        "ghcr.io/a:b",
        "ghcr.io/a@sha256:0",
        "ghcr.io/a/",
        "ghcr.io/a b",
        "x.io:99999/y",
        "x.io:0",
        "[:::::]:5/y",
        "-x.io/y",
    ],
    values.secret_id: ["", "a b", "-a", "a" * 65, "a/b"],
    values.secret_variable: ["", "A-B", "NOVITA_API_KEY", "E2B_API_KEY"],
    values.process: ["", "a b", "/usr/sbin/nginx", "a/", "a\n"],
    values.builder: ["", "a b"],
}


def cases(table: dict[Grammar, list[str]]) -> list[object]:
    return [
        pytest.param(grammar, text, id=f"{grammar.__name__}-{text[:20]!r}-{len(text)}")
        for grammar, texts in table.items()
        for text in texts
    ]


@pytest.mark.parametrize(("grammar", "text"), cases(GOOD))
def test_a_good_value_is_accepted(grammar: Grammar, text: str) -> None:
    assert grammar(text) is None


@pytest.mark.parametrize(("grammar", "text"), cases(BAD))
def test_a_bad_value_is_refused(grammar: Grammar, text: str) -> None:
    assert grammar(text) is not None


SUGGESTED: list[tuple[Grammar, str, str]] = [
    (values.name, "Web App", "write `web-app`"),
    (values.name, "é", "names have a-z, 0-9, `-` and `_`, a letter or digit first"),
    (values.tag, "V 1", "write `v-1`"),
    (values.tag, "!", "tags have a-z, 0-9, `.`, `_` and `-`, at most 128"),
    (values.variable, "A-B", "write `A_B`"),
    (values.variable, "é", "names have letters, digits and `_`, no digit first"),
    (values.user, "Root", "write `root`"),
    (values.user, "user:user", "write the user without its group"),
    (values.image_path, "~/a", "write the home directory out"),
    (values.image_path, "a", "begin it with `/`"),
    (addresses.domain, "https://api.example.com/x", "write `example.com`, or use `api_url`"),
    (addresses.domain, "Example.com", "write `example.com`"),
    (addresses.domain, "me:pw@example.com", "write `example.com`"),
    (addresses.registry, "https://ghcr.io/acme/", "write `ghcr.io/acme`"),
    (addresses.registry, "ghcr.io/Acme", "write `ghcr.io/acme`"),
    (addresses.registry, "ghcr.io/a:b", "write `ghcr.io/a`"),
    (addresses.registry, "acme/x", "write `docker.io/acme/x` for Docker Hub"),
    (addresses.registry, "!", ""),
    (values.process, "/usr/sbin/nginx -g", "write `nginx`"),
    (values.process, "/", ""),
]


@pytest.mark.parametrize(("grammar", "text", "hint"), SUGGESTED)
def test_the_nearest_good_value_is_offered(grammar: Grammar, text: str, hint: str) -> None:
    fault = grammar(text)
    assert fault is not None
    assert fault.hint == hint


def test_no_message_repeats_a_password() -> None:
    for grammar in (
        addresses.url,
        addresses.service_url,
        addresses.domain,
        addresses.registry,
        addresses.image,
    ):
        fault = grammar("https://me:hunter2@example.com/a")
        assert fault is not None
        assert "hunter2" not in f"{fault.message}{fault.hint}"


def test_a_path_variable_is_not_expanded() -> None:
    assert values.variable_value("PATH", "/a:/b") is None
    fault = values.variable_value("PATH", "/a:$PATH")
    assert fault is not None
    assert fault.token == "$"


@given(st.from_regex(specifiers._SIMPLE_PIP, fullmatch=True))
def test_what_is_accepted_without_the_parser_the_parser_accepts(text: str) -> None:
    assert Requirement(text).url is None


@given(st.text())
def test_no_text_breaks_a_grammar(text: str) -> None:
    for grammar in GOOD:
        assert isinstance(grammar(text), (Fault, type(None)))


@given(st.text(alphabet="abAB09-=;$(`'\" /.:@\n", max_size=12))
def test_an_accepted_package_is_one_word_of_a_shell_or_harmless_in_quotes(text: str) -> None:
    for manager in ("apt", "npm"):
        if specifiers.package(manager, text) is None:
            assert not text.startswith("-")
            assert not set(text) & set(";$(`'\"\n")
