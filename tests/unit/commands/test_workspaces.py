"""Commands in a workspace of several files, from any directory of it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.fakes import built
from tests.fakes.shell import User

ROOT = """\
version: 1
members: ["services/*/novita.yaml"]
variables: {channel: {default: dev, env: CHANNEL}}
templates:
  python: {base: debian:12}
groups:
  default: [python, api]
  apis: ["*:api"]
"""


@pytest.fixture
def mono(user: User) -> User:
    user.write("novita.yaml", ROOT)
    user.write(
        "services/a/novita.yaml",
        "version: 1\ntemplates:\n  api: {base: {template: python}, matrix: {v: [x, y]}}\n"
        '  worker: {base: debian:12, env: {C: "${var.channel}"}}\n',
    )
    user.write("services/b/novita.yaml", "version: 1\nbase: debian:12\nextends: worker\n")
    return user


def listed(user: User, *argv: str) -> list[str]:
    ran = user.run("list", "--json", *argv)
    assert (ran.code, ran.err) == (0, "")
    return [each["name"] for each in ran.data["templates"]]


@pytest.mark.parametrize("below", [".", "services", "services/a", "services/a/src"])
def test_a_command_does_the_same_from_every_directory(mono: User, below: str) -> None:
    assert listed(mono.at(mono.root / below)) == ["python", "api-x", "api-y", "worker", "b"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["api"], ["api-x", "api-y"]),
        (["api-y", "python"], ["python", "api-y"]),
        (["services/a:api"], ["api-x", "api-y"]),
        (["services/a:api-x", "services/b:b"], ["api-x", "b"]),
        ([":python"], ["python"]),
        (["apis"], ["api-x", "api-y"]),
        (["default"], ["python", "api-x", "api-y"]),
        (["*-y"], ["api-y"]),
        (["services/*:*"], ["api-x", "api-y", "worker", "b"]),
        (["services/"], ["api-x", "api-y", "worker", "b"]),
        (["services/b"], ["b"]),
        (["."], ["python", "api-x", "api-y", "worker", "b"]),
        (["services/b/novita.yaml", "novita.yaml"], ["python", "b"]),
        (["./services/a/novita.yaml"], ["api-x", "api-y", "worker"]),
    ],
)
def test_templates_are_meant_by_many_kinds_of_words(
    mono: User, words: list[str], expected: list[str]
) -> None:
    assert listed(mono, *words) == expected


def test_a_directory_is_relative_to_where_the_command_is_given(mono: User) -> None:
    assert listed(mono.at(mono.root / "services/a"), ".") == ["api-x", "api-y", "worker"]
    assert listed(mono.at(mono.root / "services/a"), "../b") == ["b"]
    assert listed(mono.at(mono.root / "services/a"), "../b/novita.yaml") == ["b"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("services/c:api", "hint: did you mean `services/a:api`?"),
        ("services/c", "error: no template is written in or below `services/c`"),
        ("deflt", "hint: did you mean `default`?"),
        (
            "x*",
            "hint: templates: python, api-x, api-y, worker, b; matrices: api; groups: default, ap",
        ),
        ("x:y", "hint: templates: :python, services/a:api, services/a:worker, services/b:b\n"),
        ("services/c.yaml", "no template is written in or below `services/c.yaml`"),
        ("other.yaml", "no template of this workspace is written in `other.yaml`"),
    ],
)
def test_a_word_that_means_nothing_is_refused(mono: User, word: str, said: str) -> None:
    mono.write("other.yaml", "version: 1\n")
    ran = mono.run("list", word)
    assert ran.code == 64
    assert said in ran.err


def test_a_short_name_of_several_is_refused(mono: User) -> None:
    mono.write("services/c/novita.yaml", "version: 1\ntemplates: {api: {base: x, name: c-api}}\n")
    mono.replace("novita.yaml", "[python, api]", "[python]")
    ran = mono.run("list", "api")
    assert ran.code == 64
    assert "`api` stands for several templates" in ran.err
    assert "name one of services/a:api, services/c:api" in ran.err


def test_the_group_default_is_meant_where_nothing_is_named(mono: User) -> None:
    built.pretend(mono.root)
    ran = mono.run("build")
    assert (ran.code, ran.err.splitlines()[1:]) == (0, ["3 up to date, nothing to do"])
    assert "worker" not in mono.run("status").out
    assert "worker" in mono.run("list").out


def test_there_is_one_lock_at_the_root(mono: User) -> None:
    built.pretend(mono.root)
    ran = mono.at(mono.root / "services/a").run("build", "*")
    assert ran.err.splitlines()[1:] == ["5 up to date, nothing to do"]
    assert not (mono.root / "services/a/novita.local.lock").exists()
    assert not (mono.root / "services/a/.sandboxfile").exists()


def test_a_variable_is_given_by_option_or_environment(mono: User) -> None:
    built.pretend(mono.root)

    def stale(user: User, *argv: str) -> bool:
        return user.run(*argv, "status", "worker").out.split()[1] == "stale"

    assert not stale(mono)
    assert stale(mono, "--var", "channel=prod")
    assert not stale(mono, "--var", "channel=prod", "--var", "channel=dev")
    assert stale(mono.having(CHANNEL="prod"))
    assert not stale(mono.having(CHANNEL="prod"), "--var", "channel=dev")
    assert stale(mono.having(SANDBOXFILE_VAR="\nchannel=dev\nchannel=prod\n"))
    ran = mono.run("list", "--var", "channel=x", "python", "--var", "chanel=y")
    assert (ran.code, ran.err.splitlines()[0]) == (
        64, "error: `--var chanel=...`: there is no variable `chanel`",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["channel", "=x"])
def test_a_variable_needs_a_name_and_a_value(mono: User, text: str) -> None:
    ran = mono.run("list", "--var", text)
    assert ran.code == 64
    assert "is no NAME=VALUE" in ran.err
    ran = mono.having(SANDBOXFILE_VAR=text).run("list")
    assert ran.code == 64
    assert "`SANDBOXFILE_VAR`: " in ran.err


# --- the first stage -------------------------------------------------------------------------


def _said(user: User, *argv: str, **environ: str) -> tuple[str, str] | None:
    return user.having(**environ).look(*argv).said


@pytest.fixture
def remembered(mono: User, grown_old: Callable[[], None]) -> User:
    """A workspace of which the last build found nothing to do, and remembers it."""
    built.pretend(mono.root)
    (mono.root / ".sandboxfile").mkdir(exist_ok=True)
    (mono.root / ".sandboxfile/.gitignore").write_text("*\n")
    mono.run("validate")
    grown_old()
    assert mono.run("build", "*").code == 0
    grown_old()
    assert mono.run("build", "*").code == 0
    assert _said(mono, "build", "*") is not None
    return mono


def test_a_variable_that_changed_is_never_answered_from_the_record(remembered: User) -> None:
    assert _said(remembered, "build", "*", CHANNEL="prod") is None
    assert _said(remembered, "build", "*", "--var", "channel=prod") is None
    assert _said(remembered, "build", "*", SANDBOXFILE_VAR="channel=prod") is None
    assert _said(remembered, "build", "*", OTHER="x") is not None


def test_an_option_of_a_run_is_part_of_its_record(
    mono: User, grown_old: Callable[[], None]
) -> None:
    built.pretend(mono.root)
    mono.run("status")
    grown_old()
    assert mono.run("build", "python", "--var", "channel=prod").code == 0
    grown_old()
    assert mono.run("build", "python", "--var", "channel=prod").code == 0
    assert _said(mono, "build", "python", "--var", "channel=prod") is not None
    assert _said(mono, "build", "python", "--var", "channel=dev") is None


def _new_member(user: User) -> object:
    return user.write("services/c/novita.yaml", "version: 1\nbase: debian:12\n")


def _file_in_a_directory_without_a_member(user: User) -> object:
    return user.write("services/x/README", "")


def _root_above(user: User) -> object:
    return (user.root.parent / "novita.yaml").write_text("version: 1\nmembers: [work]\n")


@pytest.mark.parametrize(
    "change",
    [
        _new_member,
        _file_in_a_directory_without_a_member,
        _root_above,
        lambda user: user.replace("services/b/novita.yaml", "debian:12", "debian:11"),
        lambda user: shutil.rmtree(user.root / "services/b"),
    ],
)
def test_a_change_of_the_workspace_is_for_the_second_stage(
    remembered: User, change: Callable[[User], object]
) -> None:
    change(remembered)
    assert _said(remembered, "build", "*") is None


# --- since, list, graph ----------------------------------------------------------------------


@pytest.fixture
def committed(mono: User) -> User:
    built.pretend(mono.root)
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        assert mono.process(["git", *who, *argv]).returncode == 0
    return mono


def test_only_what_has_changed_is_built_and_planned_and_listed(committed: User) -> None:
    for command in ("list", "graph"):
        ran = committed.run(command, "--since", "HEAD")
        assert (ran.code, ran.out, ran.err) == (0, "", "nothing has changed since HEAD\n")
        assert committed.run(command, "--since", "HEAD", "--quiet").err == ""
    assert committed.run("list", "--changed", "--json").err == ""
    committed.replace("services/a/novita.yaml", "worker: {", "worker: {user: root, ")
    assert committed.run("list", "--changed").out == (
        "worker  debian:12  its configuration\nb       debian:12  its configuration\n"
    )
    drawn = committed.run("graph", "--since", "HEAD", "--json").data
    assert {each["name"] for each in drawn["templates"]} >= {"worker", "b"}
    assert len(drawn["templates"]) < len(committed.run("graph", "--json").data["templates"])
    row, _ = committed.run("list", "--since", "HEAD", "--json").data["templates"]
    assert row == {
        "name": "worker",
        "path": "services/a",
        "key": "worker",
        "matrix": {},
        "base": "debian:12",
        "tags": [],
        "changed": ["its configuration"],
    }
    planned = committed.run("plan", "*", "--since", "HEAD", "--offline", "--json").data
    assert [each["name"] for each in planned["templates"]] == ["worker", "b"]
    ran = committed.run("build", "--since", "HEAD")
    assert ran.err.splitlines()[1:] == [
        "changed since HEAD: 0 of 3 templates",
        "0 up to date, nothing to do",
    ]


def test_what_depends_on_git_is_not_remembered(
    committed: User, grown_old: Callable[[], None]
) -> None:
    grown_old()
    committed.run("build", "--since", "HEAD")
    assert _said(committed, "build", "--since", "HEAD") is None


WORKER = "worker (debian:12)\nb (debian:12, extends worker)\n"


def test_changed_and_since_are_one_option(committed: User) -> None:
    ran = committed.run("list", "--changed", "--since", "main")
    assert (ran.code, ran.err) == (
        64,
        "error: `--changed` is `--since HEAD`: give one of the two\n",
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "python (debian:12)\n├── api-x\n└── api-y\n" + WORKER),
        (["api-y"], "python (debian:12)\n└── api-y\n"),
        (["b"], "b (debian:12)\n"),
    ],
)  # fmt: skip
def test_the_graph_has_what_is_named_and_what_that_is_built_on(
    mono: User, argv: list[str], expected: str
) -> None:
    ran = mono.run("graph", *argv)
    assert (ran.code, ran.out, ran.err) == (0, expected, "")


def test_the_graph_as_json(mono: User) -> None:
    assert mono.run("graph", "--json", "b").data["edges"] == []
    assert mono.run("graph", "--format", "json").data == mono.run("graph", "--json").data


STEPS = """\
generate:python
build:python     generate:python
push:python      build:python
snapshot:python  push:python
tag:python       snapshot:python
generate:api-x
build:api-x      generate:api-x, build:python
push:api-x       build:api-x
snapshot:api-x   push:api-x
tag:api-x        snapshot:api-x
"""
STEPS_AT_THE_SERVICE = """\
generate:python
snapshot:python  generate:python
tag:python       snapshot:python
generate:api-x
snapshot:api-x   generate:api-x, snapshot:python
tag:api-x        snapshot:api-x
"""


def test_the_graph_of_steps_is_that_of_the_target(mono: User) -> None:
    ran = mono.run("graph", "--steps", "api-x")
    assert (ran.code, ran.out) == (0, STEPS)
    assert ran.err == "target local: no API key is at hand\n"
    ran = mono.run("graph", "--steps", "api-x", "--target", "novita", "-q")
    assert (ran.code, ran.out, ran.err) == (0, STEPS_AT_THE_SERVICE, "")


def test_the_graph_of_steps_as_json(mono: User) -> None:
    ran = mono.run("graph", "--steps", "--json", "-t", "novita", "python")
    assert (ran.code, ran.err) == (0, "")
    assert ran.data["target"] == "novita"
    assert [each["step"] for each in ran.data["steps"]] == ["generate", "snapshot", "tag"]
    assert ran.data["edges"][0] == {
        "from": "generate:python",
        "to": "snapshot:python",
        "kind": "step",
    }


def test_a_template_that_starts_from_one_at_the_service_has_no_image(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: a\nbase: {remote: other}\n")
    assert user.run("graph", "--steps").out == "snapshot:a\ntag:a       snapshot:a\n"


def test_the_graph_of_the_steps_of_nothing_is_empty(committed: User) -> None:
    ran = committed.run("graph", "--steps", "--since", "HEAD")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "target local: no API key is at hand\nnothing has changed since HEAD\n"


def _graphviz(user: User, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = user.root.parent / "bin/dot"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_graphviz_draws_the_picture(mono: User, monkeypatch: pytest.MonkeyPatch) -> None:
    _graphviz(mono, 'test "$1" = -Tsvg && sed "s/^/drawn: /"', monkeypatch)
    ran = mono.run("graph", "--format", "svg", "b")
    assert ran.code == 0
    assert ran.out.startswith("drawn: digraph templates {\n")


def test_a_failing_graphviz_is_told(mono: User, monkeypatch: pytest.MonkeyPatch) -> None:
    _graphviz(mono, "echo no fonts >&2; exit 3", monkeypatch)
    ran = mono.run("graph", "--format", "svg")
    assert (ran.code, ran.out) == (1, "")
    assert "error: `dot` ended with status 3: no fonts" in ran.err


def test_without_graphviz_the_remedy_is_told(
    mono: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = mono.run("graph", "--format", "svg")
    assert ran.code == 6
    assert "error: `dot` is not installed\nhint: install graphviz" in ran.err


def test_graphviz_understands_what_we_write(mono: User) -> None:
    needs("dot", "graphviz")
    ran = mono.run("graph", "--format", "svg")
    assert "</svg>" in ran.out
    checked = subprocess.run(
        ["dot", "-Tcanon"],
        input=mono.run("graph", "--format", "dot").out,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert '"api-x"' in checked.stdout


def test_a_template_to_run_is_named_as_elsewhere(mono: User) -> None:
    ran = mono.at(mono.root / "docs").run("run", "services/a:worker", "--", "true")
    assert ran.code == 1
    assert "error: `services/a:worker` is not built on this machine" in ran.err


# --- files -----------------------------------------------------------------------------------


def test_the_configuration_is_never_copied(mono: User) -> None:
    mono.write("services/b/app/x", "1")
    mono.write("services/b/novita.yaml", "version: 1\nbase: debian:12\nfiles: [. -> /srv/]\n")
    mono.replace("novita.yaml", "python: {base: debian:12}", "python: {base: debian:12, "
                 "files: [services/ -> /s/]}")  # fmt: skip
    assert mono.run("show", "files", "b").out == "/srv/: app/\n/srv/: app/x\n"
    assert "novita.yaml" not in mono.run("show", "files", "python").out
