"""Projects of other command lines, and Dockerfiles, become a novita.yaml that says the same."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile import importing
from sandboxfile.config import load
from sandboxfile.model import DockerfileBase, Template
from tests.fakes.shell import User

ID = "wu9ol3m99x5h2d9y63rc"
WHOLE = f"""\
# This is a config for a sandbox template.
team_id = "4a1b"
start_cmd = "cd /app && exec node server.js"
ready_cmd = "curl -sf localhost:3000"
cpu_count = 4
memory_mb = 512
dockerfile = "e2b.Dockerfile"
template_name = "Code-Agent"
template_id = "{ID}"
"""


def written(user: User, name: str = "novita.yaml") -> Template:
    """Return the only template of what was written."""
    (template,) = load.load(user.root / name).templates.values()
    return template


def project(
    user: User, text: str, name: str = "e2b.toml", dockerfile: str = "e2b.Dockerfile"
) -> None:
    user.write(name, text)
    user.write(dockerfile, "FROM debian:12\n")


# --- what becomes of a project ---------------------------------------------------------------


def test_a_project_file_is_taken_over_whole(user: User) -> None:
    project(user, WHOLE)

    ran = user.run("import")

    assert (ran.code, ran.out) == (0, "")
    assert (user.root / "novita.yaml").read_text() == (
        "version: 1\n"
        "targets:\n"
        "  e2b: {provider: novita, domain: e2b.app}\n"
        "name: code-agent\n"
        f"# `e2b.toml`: {ID} keeps its ID, since builds find it by its name\n"
        "base: {dockerfile: e2b.Dockerfile}\n"
        "inherit: false  # that service takes over no USER, WORKDIR, ENTRYPOINT or CMD\n"
        'start: "cd /app && exec node server.js"\n'
        'ready: "curl -sf localhost:3000"\n'
        "resources: {cpu: 4, memory: 512}\n"
    )
    assert ran.err == (
        "wrote novita.yaml\n"
        f"`code-agent`: {ID} keeps its ID, since builds find it by its name\n"
        "`code-agent`: `team_id` of `e2b.toml` has no place here\n"
        "wrote .gitignore: results of target `local` are this machine's own\n"
        "next: `sandboxfile validate`\n"
    )
    assert user.run("validate").err == "novita.yaml: 1 template, no problem\n"
    template = written(user)
    assert (template.name, template.start, template.inherit) == (
        "code-agent",
        "cd /app && exec node server.js",
        (),
    )
    assert template.ready is not None
    assert (template.ready.kind, template.ready.value) == ("command", "curl -sf localhost:3000")
    assert (template.resources.cpu, template.resources.memory) == (4, 512)
    assert {each.name for each in user.root.iterdir()} == {
        "e2b.toml",
        "e2b.Dockerfile",
        "novita.yaml",
        ".gitignore",
    }


def test_the_context_is_the_directory_of_the_project_file(user: User) -> None:
    project(user, 'dockerfile = "docker/Dockerfile"\n', "a/novita.toml", "a/docker/Dockerfile")

    assert user.run("import", "a").code == 0

    base = written(user).base
    assert isinstance(base, DockerfileBase)
    assert base.dockerfile == user.root / "a/docker/Dockerfile"
    assert base.context == user.root / "a"
    assert written(user).name == "a"
    assert "targets" not in (user.root / "novita.yaml").read_text()


def test_keys_of_older_projects_are_known(user: User) -> None:
    project(
        user, f'id = "{ID}"\nname = "old"\ndockerfile = "Dockerfile"\n', "novita.toml", "Dockerfile"
    )

    ran = user.run("import", "novita.toml", "-q")

    assert (ran.code, ran.err) == (0, "")
    assert written(user).name == "old"
    assert f"# `novita.toml`: {ID} keeps its ID" in (user.root / "novita.yaml").read_text()


def test_a_template_stays_at_the_service_where_it_is(user: User) -> None:
    project(user, WHOLE, "novita.toml")

    assert user.run("import", "-f", "one.yaml").code == 0
    target = load.load(user.root / "one.yaml").targets["novita"]
    assert (target.domain, target.api, target.builder) == ("sandbox.novita.ai", "v1", "docker")

    there = user.having(NOVITA_DOMAIN="us-phx-1.sandbox.novita.ai", E2B_DOMAIN="x.dev")
    assert there.run("import", "-f", "two.yaml").code == 0
    target = load.load(user.root / "two.yaml").targets["novita"]
    assert (target.domain, target.builder) == ("us-phx-1.sandbox.novita.ai", "remote")


@pytest.mark.parametrize("name", ["novita.Dockerfile", "e2b.Dockerfile", "Dockerfile"])
@pytest.mark.parametrize("word", ["My App", "My App/{}"])
def test_a_dockerfile_is_a_template_called_as_its_directory(
    user: User, name: str, word: str
) -> None:
    user.write(f"My App/{name}", "FROM debian:12\n")

    assert user.run("import", word.format(name)).code == 0

    template = written(user)
    assert template.name == "my-app"
    assert isinstance(template.base, DockerfileBase)
    assert template.base.dockerfile == user.root / "My App" / name
    assert template.inherit == ("start", "user", "workdir")
    assert user.run("validate").code == 0


def test_many_become_one_workspace(user: User) -> None:
    project(user, WHOLE, "a/e2b.toml", "a/e2b.Dockerfile")
    project(user, WHOLE.replace("Code-Agent", "web"), "b/novita.toml", "b/e2b.Dockerfile")
    user.write("c/Dockerfile", "FROM debian:12\n")

    ran = user.run("import", "a", "b", "c", "--json")

    assert (ran.code, ran.err) == (0, "")
    assert ran.data == {
        "file": "novita.yaml",
        "templates": [
            {"name": "code-agent", "from": "a/e2b.toml", "template_id": ID, "called": "code-agent"},
            {"name": "web", "from": "b/novita.toml", "template_id": ID, "called": "web"},
            {"name": "c", "from": "c/Dockerfile", "template_id": None, "called": None},
        ],
        "targets": {"novita": "sandbox.novita.ai", "e2b": "e2b.app"},
    }
    workspace = load.load(user.root / "novita.yaml")
    assert list(workspace.templates) == ["code-agent", "web", "c"]
    assert user.run("validate").err == "novita.yaml: 3 templates, no problem\n"


def test_a_member_of_a_workspace_has_no_targets_of_its_own(user: User) -> None:
    target = "e2b: {provider: novita, domain: e2b.app}"
    user.write("novita.yaml", "version: 1\nmembers: [services/*]\n")
    for name in ("a", "b"):
        text = WHOLE.replace("Code-Agent", name)
        project(user, text, f"services/{name}/e2b.toml", f"services/{name}/e2b.Dockerfile")

    ran = user.at(user.root / "services/a").run("import")

    assert ran.code == 0
    assert (
        f"to do: add `{target}` to `targets` in ../../novita.yaml, where the IDs are\n" in ran.err
    )
    assert "wrote ../../.gitignore: " in ran.err
    assert not (user.root / "services/a/.gitignore").exists()
    assert user.run("validate").err == "novita.yaml: 1 template, no problem\n"

    user.write("novita.yaml", f"version: 1\nmembers: [services/*]\ntargets:\n  {target}\n")
    ran = user.at(user.root / "services/b").run("import")
    assert (ran.code, "to do" in ran.err) == (0, False)
    assert user.run("validate").err == "novita.yaml: 2 templates, no problem\n"


def test_a_name_is_asked_for_where_an_id_could_be_lost(user: User) -> None:
    project(user, f'template_id = "{ID}"\ndockerfile = "e2b.Dockerfile"\n')

    ran = user.run("import")
    assert ran.code == 64
    assert ran.err == (
        f"error: `e2b.toml` has the ID of a template, `{ID}`, but not its name\n"
        "hint: builds find a template by its name: give that with `--name NAME`\n"
    )
    ran = user.run("import", "--name", "api")
    assert f"`api`: {ID} keeps its ID if `api` is its name; else a new one is made\n" in ran.err


def test_another_name_is_another_template(user: User) -> None:
    project(user, WHOLE)

    ran = user.run("import", "--name", "api")

    assert f"`api`: {ID} is called `code-agent` there: as `api` a new one is made\n" in ran.err
    assert written(user).name == "api"


@pytest.mark.parametrize("called", ["-agent", "team/agent", "a b", "-" * 200])
def test_a_name_that_none_can_have_here_is_not_made_up(user: User, called: str) -> None:
    project(user, WHOLE.replace("Code-Agent", called))

    ran = user.run("import")

    assert ran.code == 64
    assert ran.err.startswith(f"error: `e2b.toml`: `{called[:59]}")
    assert "is no name for a template here\nhint: give it another one" in ran.err
    assert user.run("import", "--name", "agent").code == 0


@given(
    start=st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1).filter(
        str.strip
    ),
    ready=st.sampled_from(
        ["true", "$$", "${a.b} $$${key} $X", "a: b # c", "1e5", "-x", "~", "é ü"]
    ),
)
def test_commands_mean_themselves(
    tmp_path_factory: pytest.TempPathFactory, start: str, ready: str
) -> None:
    root = tmp_path_factory.mktemp("project")
    found = importing.Named(
        "a",
        importing.Project(
            source=root / "e2b.toml",
            dockerfile=root / "Dockerfile",
            context=root,
            start=start,
            ready=ready,
        ),
    )
    text = importing.text([found], root, {})
    (root / "novita.yaml").write_text(text, encoding="utf-8")
    (root / "Dockerfile").write_text("FROM debian:12\n")
    template = load.load(root / "novita.yaml").templates["a"]
    assert template.start == start
    assert template.ready is not None
    assert template.ready.value == ready


def test_a_project_file_may_have_any_name(user: User) -> None:
    project(user, WHOLE, "box.toml")

    assert user.run("import", "box.toml").code == 0
    assert "  novita: {provider: novita, domain: sandbox.novita.ai}\n" in (
        (user.root / "novita.yaml").read_text()
    )


def test_a_command_of_several_lines_is_refused_with_its_remedy(user: User) -> None:
    project(user, 'dockerfile = "e2b.Dockerfile"\nstart_cmd = """\none\ntwo"""\n')

    ran = user.run("import", "--name", "a")

    assert ran.code == 3
    assert 'start: "one\\ntwo"' in ran.err
    assert "a command is one line" in ran.err
    assert "join with `&&`" in ran.err


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "argv"),
    [("novita.yaml", []), ("novita.yml", []), ("x.yaml", ["-f", "x.yaml"])],
)
def test_nothing_is_overwritten(user: User, there: str, argv: list[str]) -> None:
    project(user, WHOLE)
    user.write(there, "mine")
    before = {each.name for each in user.root.iterdir()}

    ran = user.run("import", *argv)

    assert (ran.code, ran.out) == (64, "")
    assert ran.err == f"error: `{there}` is already there\nhint: `-f FILE` writes another file\n"
    assert (user.root / there).read_text() == "mine"
    assert {each.name for each in user.root.iterdir()} == before


def test_a_link_to_nowhere_is_there_too(user: User) -> None:
    project(user, WHOLE)
    (user.root / "novita.yaml").symlink_to("elsewhere.yaml")

    assert user.run("import").code == 64
    assert not (user.root / "elsewhere.yaml").exists()


MISTAKES = {
    'dockerfile = "e2b.Dockerfile"\ncpu_count = 3\nmemory_mb = 100\n': (
        "e2b.toml:2:13: error: `cpu` is 1 or an even number up to 32, not 3\n"
        '    1 | dockerfile = "e2b.Dockerfile"\n'
        "    2 | cpu_count = 3\n"
        "      |             ^ write 2 or 4\n"
        "e2b.toml:3:13: error: `memory` is at least 128 MiB, not 100\n"
        "    2 | cpu_count = 3\n"
        "    3 | memory_mb = 100\n"
        "      |             ^^^ write 128\n"
        "2 problems\n"
    ),
    'name = 1\ndockerfile = "missing"\ncpu_count = "2"\n': (
        "e2b.toml:1:8: error: `template_name` is a text\n"
        "    1 | name = 1\n"
        "      |        ^\n"
        "e2b.toml:2:14: error: there is no file `missing`\n"
        "    1 | name = 1\n"
        '    2 | dockerfile = "missing"\n'
        "      |              ^^^^^^^^^\n"
        "e2b.toml:3:13: error: this is no whole number\n"
        '    2 | dockerfile = "missing"\n'
        '    3 | cpu_count = "2"\n'
        "      |             ^^^\n"
        "3 problems\n"
    ),
    'template_id = "a\\nb: c"\ndockerfile = "../x"\n': (
        "e2b.toml:1:15: error: `a\\nb: c` is no ID of a template\n"
        '    1 | template_id = "a\\nb: c"\n'
        "      |               ^^^^^^^^^\n"
        "e2b.toml:2:14: error: `../x` is outside of the project\n"
        '    1 | template_id = "a\\nb: c"\n'
        '    2 | dockerfile = "../x"\n'
        "      |              ^^^^^^\n"
        "2 problems\n"
    ),
    'template_name = "a"\n': (
        "e2b.toml:1:1: error: there is no `dockerfile`\n"
        '    1 | template_name = "a"\n'
        "      | ^ add it: the path from here\n"
    ),
    "dockerfile = \n": (
        "e2b.toml:1:14: error: this is no TOML: invalid value\n"
        "    1 | dockerfile =\n"
        "      |              ^\n"
    ),
    'dockerfile = "x': (
        "e2b.toml:1:1: error: this is no TOML: unterminated string\n"
        '    1 | dockerfile = "x\n'
        "      | ^\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_of_a_project_file_are_told_at_their_places(user: User, text: str) -> None:
    project(user, text)

    ran = user.run("import")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err == MISTAKES[text]
    assert {each.name for each in user.root.iterdir()} == {"e2b.toml", "e2b.Dockerfile"}


@pytest.mark.parametrize("text", [f"cpu_count = {'9' * 5000}\n", f"x = {'[' * 9000}\n"])
def test_a_project_file_beyond_all_measure_is_no_bug(user: User, text: str) -> None:
    project(user, text)

    ran = user.run("import")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("e2b.toml:2:1: error: this is no TOML: it is beyond all measure\n")


def test_what_the_configuration_refuses_is_told_and_leaves_nothing(user: User) -> None:
    project(user, 'dockerfile = "e2b.Dockerfile"\nstart_cmd = "x \\u0007"\n')

    ran = user.run("import", "--name", "a")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (
        "novita.yaml:5:8: error: this would be written, but the character U+0007 is not accepted "
        "in a value\n"
        "    4 | inherit: false  # that service takes over no USER, WORKDIR, ENTRYPOINT or CMD\n"
        '    5 | start: "x \\U00000007"\n'
        "      |        ^^^^^^^^^^^^^^ remove the escape\n"
    )
    assert {each.name for each in user.root.iterdir()} == {"e2b.toml", "e2b.Dockerfile"}


def _two(user: User) -> None:
    project(user, WHOLE)
    user.write("novita.toml", "")


def _same(user: User) -> None:
    for name in ("a/x", "b/x"):
        user.write(f"{name}/Dockerfile", "FROM debian:12\n")


REFUSED: dict[str, tuple[Any, list[str], str]] = {
    "nothing": (
        lambda _: None,
        [],
        "there is nothing to import in `.`\nhint: it has none of novita.toml, e2b.toml, ",
    ),
    "two": (_two, [], "there are `novita.toml` and `e2b.toml`\nhint: name the one that counts\n"),
    "same": (
        _same,
        ["a/x", "b/x"],
        "`a/x/Dockerfile` and `b/x/Dockerfile` are both `x`\nhint: import one of them into",
    ),
    "missing": (lambda _: None, ["x"], "`x` cannot be read: No such file or directory\n"),
    "fifo": (
        lambda user: os.mkfifo(user.root / "e2b.toml"),
        [],
        "`e2b.toml` cannot be read: it is not a regular file\n",
    ),
    "binary": (
        lambda user: (user.root / "e2b.toml").write_bytes(b"\xff"),
        [],
        "`e2b.toml` is not UTF-8\n",
    ),
    "outside": (
        lambda user: user.write("../other/Dockerfile", "FROM debian:12\n"),
        ["../other"],
        "`../other/Dockerfile` is outside of the directory of `novita.yaml`\nhint: run it from ",
    ),
    "names": (_same, ["a/x", "b/x", "--name", "c"], "`--name` is for one template\nhint: "),
    "name": (_same, ["a/x", "--name", "C"], "`C` is not a template name\nhint: names have"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(user: User, case: str) -> None:
    make, argv, said = REFUSED[case]
    make(user)

    ran = user.run("import", *argv)

    assert (ran.code, ran.out) == (64, "")
    assert ran.err.startswith(f"error: {said}")
    assert not (user.root / "novita.yaml").exists()


def test_what_cannot_be_written_is_told(user: User) -> None:
    project(user, WHOLE)
    ran = user.run("import", "-f", "n" * 300)
    assert (ran.code, "` cannot be written: File name too long\nhint: " in ran.err) == (1, True)
    ran = user.run("import", "-f", "novita.yaml/x.yaml", "--name", "a")
    assert (ran.code, ran.out) == (64, "")
    user.at(user.root / ".gitignore")

    ran = user.run("import")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: `.gitignore` cannot be written: Is a directory\nhint: ")
    assert not (user.root / "novita.yaml").exists()


def test_a_directory_that_is_not_there_is_not_made(user: User) -> None:
    user.write("a/Dockerfile", "FROM debian:12\n")

    ran = user.at(user.root / "a").run("import", "-f", "../absent/novita.yaml", "Dockerfile")

    assert (ran.code, ran.out) == (64, "")
    assert "is outside of the directory of `novita.yaml`" in ran.err
    assert {each.name for each in user.root.iterdir()} == {"a"}


def test_another_run_may_write_the_file_meanwhile(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(user, WHOLE)
    link = os.link

    def later(*paths: Path) -> None:
        user.write("novita.yaml", "theirs")
        link(*paths)

    monkeypatch.setattr(os, "link", later)
    ran = user.run("import")

    told = "error: `novita.yaml` is already there\nhint: `-f FILE` writes another file\n"
    assert (ran.code, ran.err) == (64, told)
    assert (user.root / "novita.yaml").read_text() == "theirs"
