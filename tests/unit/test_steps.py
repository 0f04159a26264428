import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import environment, scripts, steps
from sandboxfile.model import (
    Account,
    Copy,
    Env,
    ImageBase,
    Install,
    InstallProject,
    Instruction,
    Resources,
    Run,
    Template,
    Workdir,
)
from sandboxfile.places import Position
from sandboxfile.steps import Origin, Sent, Step

ROOT = Path("/workspace")
ON_TEMPLATE = Origin()


def at(line: int) -> Position:
    return Position("novita.yaml", line, 3)


def template(*instructions: Instruction, **changes: Any) -> Template:
    fields: dict[str, Any] = {
        "name": "t",
        "base": ImageBase(image="python:3.12", at=at(2)),
        "instructions": instructions,
        "user": None,
        "workdir": None,
        "start": None,
        "ready": None,
        "resources": Resources(),
        "tags": (),
        "pre_boot": None,
        "at": at(1),
        "places": {"user": at(50), "workdir": at(60)},
    }
    return Template(**(fields | changes))


def rendered(
    *instructions: Instruction,
    origin: Origin = ON_TEMPLATE,
    copies: Mapping[int, Sent] | None = None,
    **changes: Any,
) -> tuple[Step, ...]:
    return steps.render(template(*instructions, **changes), origin=origin, copies=copies or {})


def ran(step: Step) -> tuple[str, str, str]:
    """Return directory, script and user of a step that runs a command."""
    command, user = step.args
    assert step.type == "RUN"
    *way, script = shlex.split(command)
    assert way[:2] == ["cd", "--"]
    assert way[3:] == ["&&", "exec", "/bin/sh", "-c"]
    return way[2], script, user


def copy(**changes: Any) -> Copy:
    fields: dict[str, Any] = {"sources": ("app",), "to": "/app/", "root": ROOT, "at": at(7)}
    return Copy(**(fields | changes))


# --- commands --------------------------------------------------------------------------------


def test_a_command_is_run_by_sh_as_root_in_the_root() -> None:
    (step,) = rendered(Run(command="echo 'it''s' \"$HOME\"\ncd /", at=at(5)))
    assert ran(step) == ("/", "echo 'it''s' \"$HOME\"\ncd /", "root")
    assert step.at == at(5)


def test_a_command_is_run_as_the_user_that_it_names() -> None:
    (step,) = rendered(Run(command="id", user="alice", at=at(5)))
    assert ran(step)[2] == "alice"


def test_a_directory_is_made_and_entered_by_what_follows() -> None:
    made, first, other, second = rendered(
        Workdir(path="/srv/my app", owner="alice", at=at(3)),
        Run(command="one", at=at(4)),
        Workdir(path="/tmp/x", at=at(5)),
        Run(command="two", at=at(6)),
        origin=Origin(workdir="/before"),
    )
    assert ran(made) == ("/before", scripts.directory("/srv/my app", "alice"), "root")
    assert ran(first)[0] == "/srv/my app"
    assert ran(other)[1] == "set -e; mkdir -p -- /tmp/x"
    assert ran(second)[0] == "/tmp/x"


def test_packages_and_accounts_run_the_scripts_of_a_dockerfile() -> None:
    install = Install(manager="apt", packages=("git",), at=at(3))
    project = InstallProject(
        manager="npm", copy=copy(), files=("package.json",), locked=False, to="/app", at=at(8)
    )
    found = rendered(
        Account(user="alice", at=at(2)),
        install,
        project,
        copies={1: Sent(source="app", to="/app/")},
    )
    assert [step.type for step in found] == ["RUN", "RUN", "COPY", "RUN"]
    expected = [
        scripts.account("alice"),
        scripts.install(install),
        scripts.install_project(project),
    ]
    assert [ran(step)[1] for step in found if step.type == "RUN"] == expected


# --- files -----------------------------------------------------------------------------------


def test_a_copy_is_roots_unless_it_has_an_owner() -> None:
    first, second = rendered(
        copy(),
        copy(owner="alice:staff", at=at(9)),
        copies={1: Sent(source="app", to="/a/"), 2: Sent(source="files", to="/b/", mode="0755")},
    )
    assert first == Step(type="COPY", args=("app", "/a/", "root:root", ""), at=at(7), copy=1)
    assert second.args == ("files", "/b/", "alice:staff", "0755")
    assert (second.copy, second.at) == (2, at(9))


# --- environment -----------------------------------------------------------------------------


def test_an_image_begins_with_its_own_environment() -> None:
    (step,) = rendered(origin=Origin(environment={"LANG": "C.UTF-8"}))
    path = environment.PATH
    assert f"; export PATH={path} LANG=C.UTF-8; exec /bin/sh -c " in step.args[0]
    assert (step.args[1], step.at, step.title) == ("root", at(2), "keep the environment")


def test_the_path_of_an_image_is_kept() -> None:
    (step,) = rendered(origin=Origin(environment={"PATH": "/opt/bin:/bin"}))
    assert "; export PATH=/opt/bin:/bin; exec " in step.args[0]


def test_the_environment_is_added_to_what_there_is() -> None:
    value = "a$HOME '\"`id`\\\nb"
    (step,) = rendered(Env(values={"A": value}, at=at(4)))
    words = shlex.split(step.args[0])
    assert words[words.index("export", words.index("done;")) + 1] == f"A={value};"
    assert f"; if [ -f {scripts.PROFILE} ]; then . {scripts.PROFILE}; fi; export " in step.args[0]


def test_what_no_shell_can_set_is_exported_by_none() -> None:
    (step,) = rendered(Env(values={"UID": "7", "not-a-name": "x"}, at=at(4)))
    before, _, after = step.args[0].partition("exec /bin/sh -c ")
    assert "UID" not in before
    assert "UID=7" in after
    assert "not-a-name" not in step.args[0]


def test_a_long_environment_takes_several_steps() -> None:
    values = {name: name * 30_000 for name in "ABC"}
    found = rendered(Env(values=values, at=at(4)), origin=Origin(environment={}))
    assert [step.args[0].count("PATH=/usr") for step in found] == [1, 0, 0, 0]
    assert all(len(step.args[0]) < 131_072 for step in found)


# --- the end ---------------------------------------------------------------------------------


def test_the_last_steps_are_the_templates_own() -> None:
    found = rendered(user="alice", workdir="/srv")
    assert [(step.type, step.args, step.at) for step in found] == [
        ("USER", ("alice",), at(50)),
        ("WORKDIR", ("/srv",), at(60)),
    ]


def test_nothing_is_inherited_from_the_template_below() -> None:
    found = rendered(origin=Origin(has_user=True, has_workdir=True))
    assert [step.args for step in found] == [("user",), ("/home/user",)]
    assert [each.args for each in rendered(user="bob", origin=Origin(has_workdir=True))] == [
        ("bob",),
        ("/home/user",),
    ]


def test_a_template_hands_its_last_directory_down() -> None:
    made: list[Instruction] = [
        Workdir(path="/a", at=at(1)),
        Run(command="x", at=at(2)),
        Workdir(path="/b", at=at(3)),
    ]
    assert steps.workdir(made, "/") == "/b"
    assert steps.workdir((), "/c") == "/c"


# --- what is not possible --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (Run(command="x", secrets=("token",), at=at(5)), "cannot mount the build secret `token`"),
        (Run(command="x", user="1000", at=at(5)), "knows users by name, not as `1000`"),
        (Run(command="x", user="a;b", at=at(5)), "`a;b` is no user that the service takes"),
        (Run(command="'" * 40_000, at=at(5)), "this command is too long"),
        (Env(values={"A": "x", "B": "'" * 30_000}, at=at(5)), "the value of `B` is too long"),
        (copy(to='/a"b', at=at(5)), '`/a"b` is no path that the service takes'),
        (copy(owner="$(id)", at=at(5)), "`$(id)` is no owner that the service takes"),
        (copy(mode="u+x", at=at(5)), "`u+x` is no mode that the service takes"),
        (Workdir(path="/a`b`", at=at(5)), "`/a`b`` is no path that the service takes"),
        (Workdir(path="/a", owner="-R", at=at(5)), "`-R` is no owner that the service takes"),
        (
            InstallProject(
                manager="pip",
                copy=copy(to="/$x", at=at(5)),
                files=("requirements.txt",),
                locked=False,
                to="/$x",
                at=at(5),
            ),
            "`/$x` is no path that the service takes",
        ),
    ],
)
def test_what_the_service_cannot_do_is_told_at_its_place(
    instruction: Instruction, expected: str
) -> None:
    (problem,) = steps.problems(template(instruction))
    assert expected in problem.message
    assert problem.at == at(5)
    assert problem.hint


def test_a_templates_user_is_a_name() -> None:
    (problem,) = steps.problems(template(user="1000"))
    assert problem.at == at(50)


def test_a_directory_that_an_image_names_is_checked_too() -> None:
    (problem,) = steps.problems(template(workdir='/a"$(id)'))
    assert problem.at == at(60)


def test_everything_else_is_possible() -> None:
    fine = template(
        Account(user="alice", at=at(2)),
        copy(owner="alice:0", mode="0755", to="/a b/c@1+x"),
        Run(command="x", user="alice", at=at(3)),
        Env(values={"A": "$(x)"}, at=at(4)),
        user="alice",
    )
    assert steps.problems(fine) == ()
