import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile import dockerfile
from sandboxfile.dockerfile import Rendered, StepName
from sandboxfile.model import (
    Account,
    Copy,
    Env,
    ImageBase,
    Install,
    InstallProject,
    Instruction,
    Manager,
    ResolvedBase,
    Resources,
    Run,
    Template,
    Workdir,
)
from sandboxfile.places import Position

UPDATE = os.environ.get("SANDBOXFILE_UPDATE_GOLDEN") == "1"
GOLDEN = Path(__file__).parents[1] / "golden" / "dockerfile"
ROOT = Path("/workspace")
BASE = ResolvedBase(reference="docker.io/library/python@sha256:" + "ab" * 32, digest="")


def at(line: int) -> Position:
    return Position("novita.yaml", line, 3)


def env(line: int = 1, **values: str) -> Env:
    return Env(values=values, at=at(line))


def install(manager: Manager, *packages: str, line: int = 1) -> Install:
    return Install(manager=manager, packages=packages, at=at(line))


def copy(*sources: str, to: str, owner: str | None = None, line: int = 1) -> Copy:
    return Copy(sources=sources, to=to, root=ROOT, owner=owner, at=at(line))


def run(
    command: str, *, user: str | None = None, line: int = 1, secrets: tuple[str, ...] = ()
) -> Run:
    return Run(command=command, user=user, secrets=secrets, at=at(line))


def project(
    manager: Manager, *files: str, to: str = "/app", locked: bool = False
) -> InstallProject:
    sources = copy(*files, to=f"{to}/")
    return InstallProject(
        manager=manager, copy=sources, files=files, locked=locked, to=to, at=at(1)
    )


def template(*instructions: Instruction, user: str | None = None) -> Template:
    return Template(
        name="agent",
        base=ImageBase(image="python", at=at(90)),
        instructions=instructions,
        user=user,
        workdir=None,
        start=None,
        ready=None,
        resources=Resources(),
        tags=(),
        pre_boot=None,
        at=at(89),
        places={"env": at(91), "user": at(92)},
    )


def render(
    *instructions: Instruction,
    user: str | None = None,
    cache_mounts: bool = False,
    single_files: frozenset[int] = frozenset(),
    within: str = "",
) -> Rendered:
    return dockerfile.render(
        template(*instructions, user=user),
        base=BASE,
        cache_mounts=cache_mounts,
        single_files=single_files,
        within=within,
    )


# --- whole files -----------------------------------------------------------------------------

CASES: Mapping[str, Rendered] = {
    "empty": render(),
    "agent": render(
        env(PYTHONUNBUFFERED="1", GREETING='it is "so"'),
        install("apt", "git", "ripgrep=13.0.0-4+b2"),
        Account(user="user", at=at(1)),
        install("pip", "cowsay==6.1", "httpx[http2]>=0.28"),
        install("npm", "typescript@5.6.3"),
        copy("app/", to="/home/user/app", owner="user:user"),
        copy("run.sh", to="/usr/local/bin/run.sh"),
        run("python -m compileall -q /home/user/app"),
        Workdir(path="/home/user/app", owner="user", at=at(1)),
        user="user",
        single_files=frozenset({2}),
    ),
    "own-steps": render(
        copy("web/package*.json", to="/app/"),
        run("npm ci", user="user"),
        run("npm run build", user="user"),
        env(NODE_ENV="production"),
        run("npm prune", user="user"),
        run('cat > /etc/motd <<EOF\nhello "$USER"\nEOF'),
        run("echo příliš > ~/ž", user="user"),
        Workdir(path="/srv/my app", at=at(1)),
        user="node",
    ),
    "features": render(
        install("apt", "git"),
        run("npm ci", secrets=("npmrc",)),
        run("pip install x", user="user", secrets=("a", "b")),
        env(CERTIFICATE="one\ntwo\n", EMPTY=""),
        user="user",
        cache_mounts=True,
    ),
    "projects": render(
        project("pip", "requirements.txt", to="/opt/sandboxfile/pip"),
        project("pip", "locked.txt", "more.txt", locked=True),
        project("pip", "pyproject.toml"),
        project("uv", "requirements.txt", locked=True),
        project("uv", "pyproject.toml"),
        project("uv", "pyproject.toml", "uv.lock", locked=True),
        project("npm", "package.json"),
        project("npm", "package.json", "package-lock.json", locked=True),
        project("bun", "package.json"),
        project("bun", "package.json", "bun.lock", locked=True),
        install("uv", "ruff"),
        install("bun", "prettier"),
        single_files=frozenset({1}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_dockerfile_is_as_expected(name: str) -> None:
    expected = GOLDEN / f"{name}.Dockerfile"
    if UPDATE:
        expected.write_text(CASES[name].text)
    assert CASES[name].text == expected.read_text()


def test_every_expected_file_has_a_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == CASES.keys()


def test_the_same_template_gives_the_same_bytes() -> None:
    twice = [render(env(A="1\n2", B="2"), install("apt", "git"), user="u") for _ in range(2)]
    assert twice[0] == twice[1]


def test_places_are_not_in_the_text() -> None:
    assert render(run("true", line=1)).text == render(run("true", line=7)).text


# --- what a build needs ----------------------------------------------------------------------


def test_values_with_newlines_are_build_arguments() -> None:
    rendered = render(env(A="1\n2", B="b"), env(C="\n"), env(D="x" * 9000))
    assert rendered.args == {"SF_E1": "1\n2", "SF_E2": "\n", "SF_E3": "x" * 9000}
    assert "ARG SF_E2\nENV C=$SF_E2\n" in rendered.text


@pytest.mark.parametrize(
    ("instruction", "cache_mounts", "needs"),
    [
        (install("apt", "git"), False, set()),
        (install("apt", "git"), True, {"cache_mounts"}),
        (install("pip", "cowsay"), True, set()),
        (run("true", secrets=("token",)), False, {"secrets"}),
    ],
)
def test_needs_are_what_is_used(
    instruction: Instruction, needs: set[str], *, cache_mounts: bool
) -> None:
    assert render(instruction, cache_mounts=cache_mounts).needs == needs


def test_copies_are_numbered_with_projects() -> None:
    first, listed, last = copy("a", to="/a"), project("npm", "package.json"), copy("b", to="/b")
    given = template(env(A="1"), first, listed, run("true"), last)
    assert dockerfile.copies(given) == ((1, first), (2, listed.copy), (3, last))


@pytest.mark.parametrize(
    ("sources", "to", "single", "expected"),
    [
        (["run.sh"], "/bin/run", True, ["copy-1/run.sh", "/bin/run"]),
        (["./a/../run.sh"], "/bin/", True, ["copy-1/run.sh", "/bin/"]),
        (["a/it's [1].txt"], "/x", True, ["copy-1/*", "/x"]),
        (["app"], "/app", False, ["copy-1/", "/app/"]),
        (["app/"], "/app/", False, ["copy-1/", "/app/"]),
        (["a", "b"], "/", False, ["copy-1/", "/"]),
        (["app"], "/my $app's", False, ["copy-1/", "/my \\$app\\'s/"]),
    ],
)
def test_a_copy_puts_files_where_they_are_meant(
    sources: list[str], to: str, expected: list[str], *, single: bool
) -> None:
    singles = frozenset({1}) if single else frozenset[int]()
    rendered = render(copy(*sources, to=to), single_files=singles)
    assert f"COPY {json.dumps(expected)}\n" in rendered.text


def test_what_is_in_a_directory_of_a_context_is_copied_from_there_and_says_the_same_else() -> None:
    given = (copy("a", to="/a"), run("cat copy-1/"), copy("b.txt", to="/b", owner="me"))
    single = frozenset({2})
    alone = render(*given, single_files=single).text
    inside = render(*given, single_files=single, within="api/").text
    assert 'COPY ["api/copy-1/", "/a/"]' in inside
    assert 'COPY --chown=me ["api/copy-2/b.txt", "/b"]' in inside
    assert 'COPY ["api/environment/environment", "/etc/environment"]' in inside
    assert inside.replace('["api/', '["') == alone


# --- quoting: read back by a reader of our own -------------------------------------------------


def unquoted(text: str) -> str:
    """Read what stands between double quotes in ENV, by the rules of the Dockerfile reference."""
    assert text[0] == text[-1] == '"'
    return re.sub(r'\\([\\"$])', r"\1", text[1:-1])


def instructions(text: str) -> list[str]:
    """Split a Dockerfile into instructions, continuation lines joined."""
    joined = re.sub(r"(?m)(^|[^\\])\\\n", r"\1", text)
    return [line for line in joined.split("\n") if line and not line.startswith("#")]


VISIBLE = st.characters(exclude_categories=("Cs", "Cc"), include_characters="\t")


@given(st.text(VISIBLE, max_size=40))
def test_any_value_survives_the_quoting(value: str) -> None:
    line = instructions(render(env(NAME=value)).text)[2]
    assert not re.search(r"(?<!\\)(\\\\)*\$", line)
    assert unquoted(line.removeprefix("ENV NAME=")) == value


@given(st.text(VISIBLE | st.just("\n"), max_size=200))
def test_any_script_survives_the_quoting(script: str) -> None:
    line = instructions(render(run(script)).text)[2]
    assert json.loads(line.removeprefix("RUN ")) == ["/bin/sh", "-c", script]


@pytest.mark.parametrize("script", ["echo word; " * 9_000, "# ä\n" * 9_000, "\\" * 30_000 + "ab"])
def test_no_line_is_longer_than_docker_reads(script: str) -> None:
    text = render(run(script)).text
    line = instructions(text)[2]
    assert json.loads(line.removeprefix("RUN ")) == ["/bin/sh", "-c", script]
    if re.search("[a-z]{2}", script[:8_000]):
        assert max(len(each.encode()) for each in text.split("\n")) < 1 << 15


def test_the_user_of_a_run_lasts_for_that_run() -> None:
    text = render(
        run("a", user="u"), copy("x", to="/x"), run("b"), run("c", user="u"), user="u"
    ).text
    users = [line for line in instructions(text) if line.startswith(("USER", "RUN"))]
    assert [line[:24] for line in users[:-1]] == [
        "USER root",
        "USER u",
        'RUN ["/bin/sh", "-c", "a',
        "USER root",
        'RUN ["/bin/sh", "-c", "b',
        "USER u",
        'RUN ["/bin/sh", "-c", "c',
        "USER root",
    ]
    assert users[-1] == "USER u"


# --- places of steps -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ("[1/7] FROM docker.io/library/python@sha256:abab", 90),
        ("[2/7] RUN /bin/sh -c one", 3),
        ("[ 3/7] COPY copy-1/ /x/", 4),
        ("[stage-0 4/7] RUN chown", 5),
        ("[5/7] WORKDIR /x", 5),
        ("[linux/amd64 7/7] COPY environment", 91),
        ("[linux/amd64 stage-0 6/7] COPY environment", 91),
        ("[1/9] FROM docker.io/library/python@sha256:abab", 90),
        ("[3/9] RUN onbuild", 90),
        ("[4/9] RUN one", 3),
        ("[8/7] RUN more", None),
        ("[0/7] RUN less", None),
        ("Step 1/12 : FROM x", 90),
        ("Step 3/12 : ENV A=1", 2),
        ("STEP 5/12: COPY", 4),
        ("Step 10/12 : USER user", 92),
        ("Step 11/12 : LABEL a=b", None),
        ("[internal] load build context", None),
        ("exporting to image", None),
    ],
)
def test_a_step_of_a_builder_is_found_in_the_yaml(step: str, line: int | None) -> None:
    rendered = render(
        env(line=2, A="1"),
        run("one", line=3),
        copy("x/", to="/x", line=4),
        Workdir(path="/x", owner="user", at=at(5)),
        user="user",
    )
    assert rendered.place(step) == (at(line) if line else None)


def test_a_step_knows_its_stage() -> None:
    assert StepName.read("[builder 2/4] RUN x") == StepName(number=2, total=4, stage="builder")
    assert StepName.read("Step 2/4 : RUN x") == StepName(number=2, total=4, is_classic=True)
    assert StepName.read("[auth] library/python:pull token") is None
