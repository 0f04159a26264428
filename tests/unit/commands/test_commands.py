"""The commands that read files only, each with what it prints and how it ends."""

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from sandboxfile import app, failures
from sandboxfile.errors import SandboxfileError
from sandboxfile.failures import Failure
from sandboxfile.lock import load
from tests.fakes import built
from tests.fakes.engine import Answer, serving
from tests.fakes.registry import running
from tests.fakes.shell import User, unprivileged


@pytest.fixture
def done(three: User) -> User:
    """A workspace of which everything is built."""
    built.pretend(three.root)
    return three


# --- every command ---------------------------------------------------------------------------

READERS = [
    ["validate"], ["show", "config"], ["show", "steps"], ["show", "files"], ["plan"],
    ["why", "parent"], ["status"], ["list"], ["env"], ["build"], ["clean"], ["logs", "parent"],
]  # fmt: skip


@pytest.mark.parametrize("argv", READERS)
def test_every_command_tells_a_bad_configuration(user: User, argv: list[str]) -> None:
    user.write("novita.yaml", "version: 1\nname: x\nbase: debian:12\nstrat: x\n")

    ran = user.run(*argv)

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("novita.yaml:4:1: error: unknown key `strat`")


@pytest.mark.parametrize("argv", READERS)
def test_every_command_tells_a_broken_lock_or_does_without(done: User, argv: list[str]) -> None:
    done.write("novita.local.lock", "version: 1\ntargets: []\n")

    ran = done.run(*argv)

    if ran.code != 3:
        assert argv[0] in {"validate", "show", "list", "clean", "logs"}
        assert ran.err.count("error:") == (argv[0] == "logs")
    else:
        assert "novita.local.lock:2:10: error: " in ran.err
        assert ran.out == ""


@pytest.mark.parametrize(
    "argv",
    [["plan", "x"], ["why", "x"], ["status", "x"], ["list", "x"], ["env", "x"], ["logs", "x"]],
)
def test_every_command_refuses_a_name_that_nobody_has(done: User, argv: list[str]) -> None:
    ran = done.run(*argv)

    assert (ran.code, ran.out) == (64, "")
    assert ran.err == ("error: no template is called `x`\nhint: templates: parent, child, other\n")


@pytest.mark.parametrize("argv", [["why", "*"], ["logs", "*"]])
def test_commands_for_one_template_refuse_several(done: User, argv: list[str]) -> None:
    ran = done.run(*argv)

    assert (ran.code, ran.err) == (
        64,
        "error: `*` stands for parent, child, other\nhint: name one of them\n",
    )


# --- init ------------------------------------------------------------------------------------

DIRECTORIES = {
    "empty": [],
    "dockerfile": ["Dockerfile"],
    "node": ["package.json"],
    "uv": ["uv.lock", "pyproject.toml"],
    "requirements": ["requirements.txt"],
    "python": ["pyproject.toml"],
}
BASES = {
    "empty": "base: debian:bookworm-slim",
    "dockerfile": "base: {dockerfile: Dockerfile}",
    "node": "npm: {project: .}",
    "uv": "uv: {project: .}",
    "requirements": "pip: {requirements: requirements.txt}",
    "python": "pip: {project: .}",
}
CONTENTS = {
    "Dockerfile": "FROM debian:12\n",
    "package.json": '{"name": "x", "dependencies": {}}\n',
    "pyproject.toml": '[project]\nname = "x"\nversion = "1"\n',
    "uv.lock": "version = 1\n",
    "requirements.txt": "cowsay==6.1\n",
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_init_writes_what_validate_accepts(user: User, kind: str) -> None:
    for name in DIRECTORIES[kind]:
        user.write(name, CONTENTS[name])

    ran = user.run("init")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == (
        "wrote novita.yaml\n"
        "wrote .gitignore: results of target `local` are this machine's own\n"
        "next: `sandboxfile build --target local`\n"
    )
    text = (user.root / "novita.yaml").read_text()
    assert text.startswith("version: 1\nname: work\n")
    assert BASES[kind] in text
    assert (user.root / ".gitignore").read_text() == "novita.local.lock\n.sandboxfile/\n"
    assert user.run("validate").err == "novita.yaml: 1 template, no problem\n"


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("My App (2)", "my-app-2"),
        ("2024", '"2024"'),
        ("1e5", '"1e5"'),
        ("true", '"true"'),
        ("no", '"no"'),
        ("проект", "sandbox"),
        ("_x_", "x"),
        ("a" * 140, "a" * 128),
    ],
)
def test_init_makes_a_name_of_the_directorys(user: User, directory: str, name: str) -> None:
    there = user.at(user.root / directory)

    assert there.run("init").code == 0
    assert (there.root / "novita.yaml").read_text().splitlines()[1] == f"name: {name}"
    assert there.run("list").out.split()[0] == name.strip('"')


@pytest.mark.parametrize("name", ["Web", "-web", "a b", "a: b", "x" * 129])
def test_init_refuses_a_name_that_is_none(user: User, name: str) -> None:
    ran = user.run("init", f"--name={name}")

    assert (ran.code, ran.out) == (64, "")
    assert ran.err.startswith(f"error: `{name}` is not a template name\n")
    assert list(user.root.iterdir()) == []


def test_init_takes_a_name(user: User) -> None:
    assert user.run("init", "--name", "null").code == 0
    assert user.run("list").out == "null  debian:bookworm-slim\n"


@pytest.mark.parametrize(
    ("there", "argv", "message"),
    [
        ("novita.yaml", [], "`novita.yaml` is already there\nhint: `--force` overwrites it"),
        ("novita.yml", [], "`novita.yml` is already there\nhint: there can be only one"),
        ("novita.yml", ["--force"], "`novita.yml` is already there\nhint: there can be only one"),
        ("x.yaml", ["-f", "x.yaml"], "`x.yaml` is already there\nhint: `--force` overwrites it"),
    ],
)
def test_init_overwrites_nothing(user: User, there: str, argv: list[str], message: str) -> None:
    user.write(there, "mine")

    ran = user.run("init", *argv)

    assert (ran.code, ran.err) == (64, f"error: {message}\n")
    assert [(path.name, path.read_text()) for path in user.root.iterdir()] == [(there, "mine")]


@pytest.mark.parametrize("argv", [[], ["--force"]])
@pytest.mark.parametrize("before", ["mine", None])
@pytest.mark.parametrize("name", ["novita.yaml", "x.yaml", ".gitignore"])
def test_init_writes_nothing_through_a_link(
    user: User, tmp_path: Path, name: str, before: str | None, argv: list[str]
) -> None:
    outside = tmp_path / "outside"
    if before:
        outside.write_text(before)
    (user.root / name).symlink_to(outside)
    (user.root / "Dockerfile").write_text("FROM debian:12\n")
    where = ["-f", name] if name == "x.yaml" else []

    for command in (["init", *argv, *where], ["import", *where]):
        ran = user.run(*command)

        assert (ran.code, ran.out, ran.err.count("\nhint: ")) == (64, "", 1)
        assert f"error: `{name}` is " in ran.err
        assert (outside.read_text() if outside.exists() else None) == before
        assert sorted(path.name for path in user.root.iterdir()) == sorted(["Dockerfile", name])


def test_init_waits_for_nobody(user: User) -> None:
    os.mkfifo(user.root / ".gitignore")

    ran = user.run("init")

    assert ran.code == 1
    assert "error: `.gitignore` cannot be written: it is not a regular file\n" in ran.err


def test_init_overwrites_when_forced(user: User) -> None:
    user.write("novita.yaml", "mine").chmod(0o640)

    assert user.run("init", "--force").code == 0
    assert user.run("validate").code == 0
    assert stat.S_IMODE((user.root / "novita.yaml").stat().st_mode) == 0o640


def test_init_writes_where_it_is_told(user: User) -> None:
    user.write("novita.yaml", "mine")

    assert user.run("init", "-f", "other.yaml", "-q").err == ""
    assert user.run("validate", "-f", "other.yaml").code == 0
    assert (user.root / "novita.yaml").read_text() == "mine"


def test_init_tells_what_it_cannot_write(user: User) -> None:
    ran = user.run("init", "-f", "absent/novita.yaml")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(
        "error: `absent/novita.yaml` cannot be written: No such file or directory\nhint: "
    )


@pytest.mark.parametrize("argv", [["init"], ["init", "--force"]])
@pytest.mark.parametrize("file", ["file/novita.yaml", "n" * 300 + ".yaml"])
def test_what_no_file_can_be_is_told(user: User, argv: list[str], file: str) -> None:
    user.write("file", "mine")

    ran = user.run(*argv, "-f", file)

    assert (ran.code, ran.out) == (1, "")
    assert f"{file}` cannot be written: " in ran.err
    assert [path.name for path in user.root.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"*.pyc", b"*.pyc\nnovita.local.lock\n.sandboxfile/\n"),
        (b"\xff\n", b"\xff\nnovita.local.lock\n.sandboxfile/\n"),
        (b".sandboxfile/\n", b".sandboxfile/\nnovita.local.lock\n"),
        (b".sandboxfile/\nnovita.local.lock\n", b".sandboxfile/\nnovita.local.lock\n"),
    ],
)
def test_init_adds_to_gitignore_what_is_missing(user: User, before: bytes, after: bytes) -> None:
    (user.root / ".gitignore").write_bytes(before)

    ran = user.run("init")

    assert (user.root / ".gitignore").read_bytes() == after
    assert ("wrote .gitignore" in ran.err) is (before != after)


# --- validate, show, list --------------------------------------------------------------------


def test_validate_writes_nothing(three: User) -> None:
    ran = three.run("validate")

    assert (ran.code, ran.out, ran.err) == (0, "", "novita.yaml: 3 templates, no problem\n")
    assert sorted(path.name for path in three.root.iterdir()) == ["data", "novita.yaml"]
    assert three.run("validate", "-q").err == ""
    assert three.run("validate", "--json").data == {
        "valid": True,
        "templates": ["parent", "child", "other"],
        "findings": [],
    }


def test_validate_looks_at_the_files(three: User) -> None:
    three.replace("novita.yaml", "data/ ->", "dada/ ->")

    ran = three.run("validate", "--json")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("novita.yaml:7:9: error: ")
    assert "data" in ran.err.partition("hint")[2] or "`data" in ran.err


def test_show_config_is_the_merged_configuration(three: User) -> None:
    ran = three.run("show", "config", "parent")

    template = ran.data["templates"]["parent"]
    assert template["base"] == {"image": "debian:12", "x-at": "novita.yaml:4:11"}
    assert [next(iter(each)) for each in template["steps"]] == ["env", "copy"]
    assert template["start"] == "sleep 600"
    assert list(ran.data["templates"]) == ["parent"]


def test_show_steps_is_the_order_of_things(user: User) -> None:
    user.write(
        "novita.yaml",
        "version: 1\nname: x\nbase: debian:12\nrun: [echo hi]\nuser: web\nworkdir: /srv\n"
        "env: {A: b, C: d}\nstart: serve\nready: {delay: 5s}\npackages: {apt: [git, curl]}\n"
        "files: [{from: a/, to: /srv/, owner: web}]\n",
    )
    lines = user.run("show", "steps").out.splitlines()

    assert lines[0] == "base: debian:12"
    assert [line for line in lines if line[0].isdigit()] == [
        "1. env: {A: b, C: d} (novita.yaml:7:1)",
        "2. apt: [git, curl] (novita.yaml:10:12)",
        "3. the user web is made if it is not there (novita.yaml:5:7)",
        "4. copy: {from: a/, to: /srv/, owner: web} (novita.yaml:11:9)",
        "5. run: echo hi (novita.yaml:4:7)",
        "6. workdir: /srv (novita.yaml:6:1)",
    ]
    assert lines[-5:] == [
        "user: web",
        "workdir: /srv",
        "start: serve",
        "ready: sleep 5",
        "resources: 2 CPU, 1024 MiB",
    ]


def test_show_files_is_what_arrives(three: User) -> None:
    (three.root / "data/deep").mkdir()
    three.write(".dockerignore", "*.sh\ndata/*.sh\n")

    ran = three.run("show", "files")

    assert ran.out == "# parent\n/srv/data/: deep/\n/srv/data/: one.txt\n# child\n# other\n"
    assert three.run("show", "files", "child").out == ""
    assert three.run("show", "--json", "files", "child").data == {"child": ""}


def test_show_files_of_a_context(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: x\nbase: {dockerfile: Dockerfile}\n")
    user.write("Dockerfile", "FROM debian:12\nCOPY . /\n")

    assert user.run("show", "files").out == "context: Dockerfile\n"


def test_show_dockerfile_offline_needs_what_is_in_the_lock(three: User) -> None:
    ran = three.run("show", "dockerfile", "child", "--offline")

    assert (ran.code, ran.out) == (6, "")
    assert (
        "error: the base of `child` is not in the lock, and `--offline` is given: `debian:12`\n"
        in ran.err
    )
    assert "hint: run without `--offline`, or build once" in ran.err


def test_show_plan_is_plan(done: User) -> None:
    assert done.run("show", "plan").out == done.run("plan").out


def test_list_names_every_kind_of_base(user: User) -> None:
    user.write("Dockerfile", "FROM debian:12 AS one\n")
    user.write(
        "novita.yaml",
        "version: 1\ntemplates:\n"
        "  image: {base: 'debian:12', tags: [x]}\n"
        "  template: {base: {template: image}}\n"
        "  remote: {base: {remote: 'y:stable'}}\n"
        "  dockerfile: {base: {dockerfile: Dockerfile}}\n"
        "  stage: {base: {dockerfile: Dockerfile, stage: one}}\n"
        "  bootstrap: {base: {ubuntu: noble}}\n",
    )

    assert user.run("list").out == (
        "image       debian:12\n"
        "template    template image\n"
        "remote      remote template y:stable\n"
        "dockerfile  Dockerfile\n"
        "stage       Dockerfile (one)\n"
        "bootstrap   ubuntu noble\n"
    )
    where = {"path": ".", "key": "image", "matrix": {}}
    assert user.run("list", "--json", "image").data == {
        "templates": [{"name": "image", **where, "base": "debian:12", "tags": ["x"]}],
        "groups": {},
    }


# --- plan, why, status -----------------------------------------------------------------------


def test_a_profile_is_written_where_nothing_is_to_be_done(done: User) -> None:
    ran = done.run("build", "--profile", "profile.json")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines()[-1] == "profile in profile.json: open it at ui.perfetto.dev"
    assert "traceEvents" in json.loads((done.root / "profile.json").read_text())


def test_plan_says_nothing_is_to_be_done(done: User) -> None:
    ran = done.run("plan", "--detailed-exitcode")

    assert (ran.code, ran.err) == (0, "target local: no API key is at hand\n")
    assert ran.out.endswith("3 up to date\n")


def test_plan_has_an_exit_code_for_differences(done: User) -> None:
    done.replace("novita.yaml", "[stable]", "[newest]")

    assert done.run("plan").code == 0
    ran = done.run("plan", "--detailed-exitcode", "--json")

    assert ran.code == 2
    parent = ran.data["templates"][0]
    assert (parent["name"], parent["action"]) == ("parent", "retag")
    assert [reason["text"] for reason in parent["reasons"]] == [
        "tags added: `newest`",
        "tags removed: `stable`",
    ]


EDITS: dict[str, tuple[Callable[[User], object], str, str]] = {
    "env": (
        lambda user: user.replace("novita.yaml", "hello", "hi"),
        "build",
        "environment changed (novita.yaml:5:5)",
    ),
    "files": (
        lambda user: user.write("data/one.txt", "eno\n"),
        "build",
        (
            "files changed, unknown which: this machine has no record of the earlier ones"
            " (novita.yaml:6:5)"
        ),
    ),
    "start": (
        lambda user: user.replace("novita.yaml", "sleep 600", "sleep 601"),
        "snapshot",
        "start command changed (novita.yaml:8:5)",
    ),
    "lock": (
        lambda user: (user.root / "novita.local.lock").unlink(),
        "build",
        "the lock has no `parent` for target `local` (novita.yaml:3:3)",
    ),
}


@pytest.mark.parametrize(("edit", "action", "reason"), EDITS.values(), ids=EDITS)
def test_why_names_the_part_and_its_place(
    done: User, edit: Callable[[User], object], action: str, reason: str
) -> None:
    edit(done)

    ran = done.run("why", "parent", "--offline")

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == f"parent: {action} (target local)"
    assert lines[1] == f"  - {reason}"
    assert any(line.startswith("  steps: ") for line in lines)
    as_json = done.run("why", "parent", "--offline", "--json").data
    assert [each["action"] for each in as_json["templates"]] == [action]


def test_a_plan_without_an_engine_says_so_and_is_made(done: User) -> None:
    done.write("data/one.txt", "eno\n")

    ran = done.run("plan")

    assert ran.code == 0
    assert "the plan is made without asking registry and service: " in ran.err
    assert "parent  build" in ran.out
    assert "child   build" in ran.out


def test_a_plan_needs_to_know_the_bases_unless_offline(user: User) -> None:
    with running() as registry:
        user.write("novita.yaml", f"version: 1\nname: x\nbase: {registry.host}/x:1\n")

        ran = user.run("plan")

    assert (ran.code, ran.out) == (1, "")
    assert "\nnovita.yaml:3:7: error: " in ran.err
    ran = user.run("plan", "--offline")
    assert ran.code == 0
    assert "the digest of its base is not known yet" in ran.out


def test_a_plan_tells_what_it_can_where_a_base_is_out_of_reach(
    done: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (done.root / "novita.yaml").read_text()
    done.write("novita.yaml", text + "  bare: {base: {debian: bookworm}}\n")
    monkeypatch.setenv("PATH", "/nowhere")  # without mmdebstrap
    ran = done.run("plan")

    assert ran.code == 6
    assert "bare    build       the digest of its base is not known yet: `debian:book" in ran.out
    assert ran.out.endswith("\n1 to build, 3 up to date\n")
    assert "not everybody could be asked: this is by files and lock alone\n" in ran.err
    assert ran.err.endswith("; with `--offline`, nobody is asked\n")
    assert done.run("plan", "--offline").out == ran.out
    assert done.run("plan", "--json").out == ""


def test_status_compares_with_the_lock_alone(done: User) -> None:
    done.write("data/one.txt", "eno\n")
    text = (done.root / "novita.yaml").read_text()
    done.write("novita.yaml", text + "  fourth:\n    base: debian:12\n    run: [x]\n")

    ran = done.run("status")

    assert (ran.code, ran.err) == (0, "`sandboxfile why parent` says why it is stale\n")
    assert done.run("status", "-q").err == ""
    states = {line.split("  ")[0].strip(): " ".join(line.split()[1:]) for line in
              ran.out.splitlines()}  # fmt: skip
    assert states["parent"].startswith("stale template0")
    assert states["child"].startswith("stale template0")
    assert states["other"].startswith("up to date template0")
    assert states["fourth"] == "not built -"
    assert done.run("status", "fourth", "--json").data == {
        "target": "local",
        "templates": [
            {
                "name": "fourth",
                "state": "not built",
                "template_id": None,
                "build_id": None,
                "default_build_id": None,
                "failed": None,
                "running": None,
            }
        ],
    }


def test_status_tells_why_what_a_template_is_built_on_failed(done: User) -> None:
    done.write("data/one.txt", "eno\n")
    failure = Failure(step="build", message="exit status 3", logged=True)
    failures.keep(done.root / ".sandboxfile", "local", "parent", failure)
    told = "the last build failed at `build`: exit status 3 (`sandboxfile logs parent`)\n"

    assert f"\nparent: {told}" in done.run("status", "child").out
    assert f"parent: {told}" not in done.run("status").out  # there it has a row of its own
    assert told in done.run("status").out
    assert "exit status 3" not in done.run("status", "other").out


# --- env -------------------------------------------------------------------------------------


def test_env_prints_ids_in_every_form(done: User) -> None:
    ids = {"template_id": "template000000000000", "build_id": built.BUILD_ID.format(0)}

    def said(form: str) -> str:
        ran = done.run("env", "parent", "--format", form)
        assert (ran.code, ran.err) == (0, "")
        return ran.out

    assert said("dotenv") == (
        f"NOVITA_TEMPLATE_PARENT={ids['template_id']}\nNOVITA_BUILD_PARENT={ids['build_id']}\n"
    )
    assert said("github") == (
        f"parent_template_id={ids['template_id']}\nparent_build_id={ids['build_id']}\n"
    )
    assert json.loads(said("json")) == {"parent": ids}
    script = said("typescript")
    assert script.startswith("export const templates = ")
    assert json.loads(script.removeprefix("export const templates = ").split(" as const;")[0]) == {
        "parent": ids
    }
    names: dict[str, object] = {}
    exec(said("python"), names)
    assert names["TEMPLATES"] == {"parent": ids}
    assert done.run("env", "parent", "--json").data == {"parent": ids}
    assert done.run("env").out.count("NOVITA_TEMPLATE_") == 3


def test_env_and_the_library_agree(done: User) -> None:
    ids = done.run("env", "--json").data

    found = load(done.root)["local"]
    assert {name: entry.template_id for name, entry in found.items()} == {
        name: each["template_id"] for name, each in ids.items()
    }


def test_env_refuses_what_is_not_built(done: User) -> None:
    text = (done.root / "novita.yaml").read_text()
    done.write("novita.yaml", text + "  d: {base: debian:12}\n  e: {base: debian:12}\n")

    ran = done.run("env")

    assert (ran.code, ran.out) == (4, "")
    assert ran.err == (
        "error: the lock has no template ID of `d`, `e` for target `local`\n"
        "hint: run `sandboxfile build --target local`\n"
    )
    assert "hint: run `sandboxfile build d e --target local`\n" in done.run("env", "d", "e").err
    ran = done.run("env", "other", "--target", "novita")
    assert "--target novita`; target `local` has it: `--target local`\n" in ran.err


def test_env_has_no_two_values_for_one_variable(user: User) -> None:
    user.write(
        "novita.yaml", "version: 1\ntemplates: {a-b: {base: debian:12}, a_b: {base: debian:12}}\n"
    )
    built.pretend(user.root)

    ran = user.run("env")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: `a-b` and `a_b` would both be `NOVITA_TEMPLATE_A_B`\n")
    assert set(user.run("env", "--json").data) == {"a-b", "a_b"}


# --- logs, clean, schema ---------------------------------------------------------------------


def test_logs_prints_the_steps_in_order(three: User) -> None:
    three.write(".sandboxfile/logs/parent/snapshot.log", "ready\n")
    (three.root / ".sandboxfile/logs/parent/build.log").write_bytes(b"step 1\nno text: \xff\n")

    assert three.run("logs", "parent").out == (
        "--- build\nstep 1\nno text: \ufffd\n--- snapshot\nready\n"
    )
    assert three.run("logs", "parent", "--step", "snapshot").out == "ready\n"


def test_logs_that_a_checkout_brought_along_are_harmless(three: User) -> None:
    three.write(".sandboxfile/logs/parent/build.log", "")
    forged = three.root / ".sandboxfile/logs/parent/build.log"
    forged.write_bytes(b"\x1b]0;title\x07one\n::set-env name=PATH::/evil\n" + b"x" * 200_000)
    said = three.run("logs", "parent").out
    assert said.startswith("^[]0;title^Gone\n::set-env")
    assert len(said) < 30_000
    in_ci = three.having(GITHUB_ACTIONS="true").run("logs", "parent").out
    assert all(line.startswith("│ ") for line in in_ci.splitlines())
    forged.unlink()
    forged.symlink_to("/etc/passwd")
    ran = three.run("logs", "parent")
    assert (ran.code, ran.out, "is a link" in ran.err) == (1, "", True)


@pytest.mark.parametrize("argv", [["child"], ["parent", "--step", "tag"]])
def test_logs_that_are_not_there(three: User, argv: list[str]) -> None:
    three.write(".sandboxfile/logs/parent/build.log", "x\n")

    ran = three.run("logs", *argv)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: there is no log of `{argv[0]}` on this machine\nhint: ")


def test_clean_keeps_the_journal_and_the_locks(done: User) -> None:
    assert done.run("status").code == 0
    done.write(".sandboxfile/journal/local.jsonl", "")
    done.write(".sandboxfile/logs/parent/build.log", "x")

    ran = done.run("clean")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith(".sandboxfile/: removed: ")
    assert "logs" in ran.err
    assert "journal" not in ran.err
    left = sorted(path.name for path in (done.root / ".sandboxfile").iterdir())
    assert left == [".gitignore", "journal"]
    assert len(list(done.root.glob("*.lock"))) == 2
    assert done.run("clean", "-q").err == ""
    assert done.run("clean", "--json", "-q").data == {"removed": [], "images": 0}
    done.write(".sandboxfile/logs/parent/build.log", "x")
    assert done.run("clean", "--json").data == {"removed": ["logs"], "images": 0}
    assert done.run("build").err.endswith("3 up to date, nothing to do\n")


def test_nothing_is_removed_behind_a_link(done: User, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (done.root / ".sandboxfile").mkdir()
    (done.root / ".sandboxfile/logs").symlink_to(outside)

    done.run("clean")

    assert (outside / "file").exists()


def test_clean_says_how_many_images_it_removed(three: User) -> None:
    with serving() as engine:
        engine.answers["GET /images/json"] = [
            Answer(body=[{"Id": "sha256:1", "RepoTags": ["a:1"]}]),
            Answer(body=[]),
            Answer(body=[]),
            Answer(body=[{"Id": "sha256:2"}, {"Id": "sha256:3"}]),
            Answer(body=[]),
        ]
        user = three.having(DOCKER_HOST=engine.url)

        ran = user.run("clean", "--images", "--json")
        again = user.run("clean", "--images")

        assert len([each for each in engine.asked if each.method == "DELETE"]) == 3
    assert (ran.code, ran.data) == (0, {"removed": [], "images": 3})
    assert ran.err == ".sandboxfile/: nothing to remove\nengine: removed: 3 images\n"
    assert (again.code, again.out) == (0, "")
    assert again.err.endswith("engine: nothing to remove\n")


def test_clean_where_nothing_ever_was(three: User) -> None:
    assert three.run("clean").err == ".sandboxfile/: nothing to remove\n"
    assert not (three.root / ".sandboxfile").exists()


def test_schema_prints_what_is_shipped(user: User) -> None:
    root = Path(__file__).parents[3] / "schemas"

    assert user.run("schema").out == (root / "novita-1.schema.json").read_text()
    assert user.run("schema", "novita").out == (root / "novita-1.schema.json").read_text()
    assert user.run("schema", "lock").out == (root / "lock-1.schema.json").read_text()
    assert user.run("schema", "other").code == 64


# --- doctor ----------------------------------------------------------------------------------


def test_doctor_says_what_is_missing(three: User) -> None:
    ran = three.run("doctor", "--json")

    assert (ran.code, ran.err) == (0, "")
    found = {each["what"]: each["verdict"] for each in ran.data["found"]}
    assert found["novita.yaml"].startswith("3 templates in ")
    assert found["API key"] == "none: target `local` needs none"
    assert found["target"].startswith("local (no API key is at hand): ")
    assert found["local templates"] == str(three.home / ".local/share/sandboxfile")
    (engine,) = [text for what, text in found.items() if what.startswith("engine: DOCKER_HOST")]
    assert "cannot be reached: no such file or directory" in engine
    rows = three.run("doctor", "--json", "--target", "novita").data["found"]
    assert {
        "what": "API key",
        "verdict": "none: target `novita` needs one, in `NOVITA_API_KEY`",
    } in rows


def test_doctor_goes_on_where_others_stop(user: User) -> None:
    def found(text: str) -> dict[str, str]:
        user.write("novita.yaml", text)
        ran = user.run("doctor", "--json")
        assert ran.code == 0
        return {each["what"]: each["verdict"] for each in ran.data["found"]}

    assert "problem" in found("version: 1\nname: x\nbase: [\nuser: 5")["novita.yaml"]
    (user.home / ".novita").mkdir()
    (user.home / ".novita/config.json").write_text("{")
    rows = found("version: 1\nname: x\nbase: debian:12\n")
    assert "the login file of Novita's CLI cannot be read" in rows["API key"]
    assert "the login file of Novita's CLI cannot be read" in rows["target"]


def test_doctor_says_what_the_registry_is_pulled_from_with(user: User) -> None:
    ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    user.write(
        "novita.yaml",
        "version: 1\nname: x\nbase: debian:12\n"
        f"targets: {{it: {{provider: novita, domain: sandbox.novita.ai, registry: {ecr}/x}}}}\n",
    )

    def said(**environ: str) -> str:
        ran = user.having(**environ).run("doctor", "-t", "it", "--json")
        assert "s3cr3t" not in ran.out
        rows = {each["what"]: each["verdict"] for each in ran.data["found"]}
        return str(rows["registry"])

    assert said() == f"{ecr}: no credentials"
    key = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s3cr3t-value"}
    assert said(**key) == f"{ecr}: aws, from AWS_ACCESS_KEY_ID"
    own = {"SANDBOXFILE_REGISTRY_USERNAME": "me", "SANDBOXFILE_REGISTRY_PASSWORD": "s3cr3t"}
    assert said(**key, **own) == f"{ecr}: registry, from SANDBOXFILE_REGISTRY_USERNAME"
    user.write("../home/.docker/config.json", "{")
    wrong = said()
    assert wrong.startswith(f"{ecr}: {user.home}/.docker/config.json:1:2: error: Docker's ")
    assert "\n" not in wrong


def test_doctor_never_shows_a_key(user: User) -> None:
    ran = user.having(NOVITA_API_KEY="s3cr3t-value").run("doctor")

    assert "from NOVITA_API_KEY" in ran.out
    assert "s3cr3t" not in ran.out + ran.err
    assert "this file does not exist" in ran.out


# --- run, shell, serve, without an engine ----------------------------------------------------


def test_run_needs_a_command(done: User) -> None:
    for argv in (["run", "parent"], ["run", "parent", "--"]):
        ran = done.run(*argv)
        assert (ran.code, ran.err) == (
            64,
            "error: there is no command to run\nhint: sandboxfile run parent -- CMD ...\n",
        )


LONG = "a." + "b" * 64


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["--parallel", "0"], "`--parallel 0`: at least one build has to be possible"),
        (["--max-builds", "-1"], "`--max-builds -1`: at least one build has to be possible"),
        (["--host-name", "*.sandbox.test"], "`--host-name *.sandbox.test`: not the name of a host"),
        (["--host-name", "x.test:3000"], "`--host-name x.test:3000`: not the name of a host"),
        (["--host-name", ""], "`--host-name `: not the name of a host"),
        (["--host-name", LONG], f"`--host-name {LONG}`: not the name of a host"),
        (["--v1-registry", "http://x.test/y"], "`--v1-registry http://x.test/y`: not a registry"),
        (["--v1-registry", "me:pw@x.test/y"], "`--v1-registry x.test/y`: not a registry"),
        (["--v1-registry", "images"], "`--v1-registry images`: not a registry"),
        (["--v1-registry", ""], "`--v1-registry `: not a registry"),
        (["--port", "99999"], "`--port 99999`: ports are 0 (a free one) to 65535"),
        (["--port", "-1"], "`--port -1`: ports are 0 (a free one) to 65535"),
        (["--fault", "rgister-429"], "there is no fault `rgister-429`"),
        (["--limit", "bse=5s"], "`--limit bse=5s`: there is no phase `bse`"),
        (["--limit", "base"], "`--limit base`: `` is no duration: write `90s`, `30m` or `1h`"),
    ],
)
def test_serve_checks_its_options_first(user: User, argv: list[str], error: str) -> None:
    ran = user.run("serve", *argv)

    assert (ran.code, ran.out) == (64, "")
    assert ran.err.startswith(f"error: {error}\n")


def test_faults_and_limits_come_from_the_environment_too(user: User) -> None:
    ran = user.having(SANDBOXFILE_FAULT="status-503,no-such").run("serve")
    assert (ran.code, ran.err.splitlines()[0]) == (64, "error: there is no fault `no-such`")

    ran = user.having(SANDBOXFILE_LIMIT="step=5m,all=1s").run("serve")
    assert ran.err.splitlines() == [
        "error: `--limit all=1s`: there is no phase `all`",
        "hint: phases are waiting, build, base, provisioning, step, configuration, ready, finalize",
    ]


@pytest.mark.parametrize("argv", [["run", "parent", "--", "true"], ["shell", "parent"]])
def test_a_template_that_is_not_built_here_does_not_run(three: User, argv: list[str]) -> None:
    ran = three.run(*argv)

    assert (ran.code, ran.out, ran.err) == (
        1,
        "",
        (
            "error: `parent` is not built on this machine\n"
            "hint: run `sandboxfile build parent --target local`\n"
        ),
    )


@pytest.mark.parametrize("argv", [["run", "x", "--", "true"], ["shell", "x"]])
def test_a_directory_without_templates_is_not_made_one(user: User, argv: list[str]) -> None:
    ran = user.run(argv[0], "--data", "mistyped", *argv[1:])

    assert (ran.code, ran.err) == (
        64,
        (
            "error: `--data mistyped` is no directory of a local template service\n"
            "hint: give what `sandboxfile serve --data DIR` was given\n"
        ),
    )
    assert list(user.root.iterdir()) == []


@pytest.mark.parametrize(
    "argv", [["run", "parent", "true"], ["shell", "x"], ["serve"], ["clean", "--images"]]
)
def test_without_an_engine_nothing_runs(done: User, argv: list[str]) -> None:
    ran = done.run(*argv)

    assert (ran.code, ran.out) == (6, "")
    assert "(named by DOCKER_HOST) cannot be reached: no such file or directory\n" in ran.err


def test_run_does_not_look_past_a_broken_lock(done: User) -> None:
    done.write("novita.local.lock", "version: 1\ntargets: []\n")

    ran = done.run("run", "parent", "--", "true")

    assert ran.code == 3
    assert ran.err.startswith("novita.local.lock:2:10: error: ")


# --- names that are none for a terminal ------------------------------------------------------

ODD = os.fsdecode(b"\x1b[31mred\nand \xff")


@pytest.mark.parametrize("argv", [["plan"], ["why", "parent"], ["show", "files", "parent"]])
@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONIOENCODING": "utf-8:strict"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_what_is_printed_can_be_whatever_names_and_terminals_are_like(
    done: User, argv: list[str], environ: dict[str, str]
) -> None:
    done.write(f"data/{ODD}", "")

    ran = done.having(**environ).command(*argv, "--offline")

    assert ran.code == 0, ran.err
    assert (r"\x1b[31mred\nand \udcff" in ran.out) == (argv[0] == "show")
    assert ran.out.replace("\n", "").isprintable()


# --- a state directory of somebody else ------------------------------------------------------


@pytest.fixture
def shut(user: User) -> Iterator[User]:
    """Somebody in whose workspace another one, with `sudo` perhaps, has made `.sandboxfile`."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)  # unlike those of pytest
        theirs = replace(user, home=Path(directory)).at(Path(directory) / "work")
        theirs.write("novita.yaml", "version: 1\nname: web\nbase: debian:12\n")
        built.pretend(theirs.root)
        assert theirs.run("plan", "--offline").code == 0
        (theirs.root / ".sandboxfile").chmod(0)
        yield theirs
        (theirs.root / ".sandboxfile").chmod(0o700)


def test_a_lock_that_cannot_be_written_is_told_before_anything_is_built(user: User) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        theirs = replace(user, home=Path(directory)).at(Path(directory) / "work")
        theirs.write("novita.yaml", "version: 1\nname: web\nbase: debian:12\n")
        built.pretend(theirs.root)
        (theirs.root / ".sandboxfile").mkdir()
        (theirs.root / ".sandboxfile").chmod(0o777)
        theirs.root.chmod(0o555)
        for command in (["build"], ["build", "--force"]):  # both import what they need
            theirs.run(*command)
        with unprivileged():
            nothing, ran = theirs.run("build"), theirs.run("build", "--force")
        theirs.root.chmod(0o700)

    assert nothing.code == 0, nothing.err
    assert (ran.code, ran.out) == (1, "")
    assert "error: `novita.local.lock` cannot be written: nothing can be made in `/" in ran.err


@pytest.mark.parametrize("argv", [*READERS, ["lock", "--check"], ["show", "files"]])
def test_a_state_directory_of_somebody_else_is_in_nobodys_way(shut: User, argv: list[str]) -> None:
    words = ["web" if word == "parent" else word for word in argv]
    with unprivileged():
        ran = shut.run(*words)

        with pytest.raises(SandboxfileError, match="cannot be made or used") as caught:
            app.state(shut.root)

    assert "if another user has made it" in str(caught.value.hint)
    assert ran.code == (argv[0] in {"logs", "clean"}), ran.err
    assert ("cannot be removed: Permission denied" in ran.err) == (argv[0] == "clean")


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["run", "--data", "{}/d", "x", "--", "true"], 64, "no directory of a local template serv"),
        (["-f", "{}/novita.yaml", "list"], 3, "this file cannot be looked at: permission denied"),
        (["list", "-f", "n" * 300], 3, "this file cannot be looked at: file name too long"),
        (["list", "-f", "novita.yaml/x"], 3, "this file does not exist"),
        (["plan", "{}/novita.yaml"], 64, "no template is written in or below `"),
        (["lock", "--merge", "{}/x.lock"], 3, "the lock cannot be read: permission denied"),
        (["build", "--profile", "{}/x.json"], 1, "the profile cannot be written to `"),
        (["init", "-f", "{}/novita.yaml"], 1, "` cannot be written: Permission denied"),
    ],
)
def test_what_nobody_may_look_at_is_no_bug(
    shut: User, tmp_path: Path, argv: list[str], code: int, said: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    words = [word.replace("{}", f"{closed}/in") for word in argv]
    for name in ("build", "init", "list", "lock", "plan", "run"):  # which others may not read
        import_module(f"sandboxfile.commands.{name}")
    with unprivileged():
        ran = shut.run(*words)
    closed.chmod(0o700)

    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "hint: " in ran.err or argv[-1] == "novita.yaml/x"
