"""Every command on a workspace that is built: what it prints, where, and its exit code."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from sandboxfile import __version__
from sandboxfile.commandline import COMMANDS
from sandboxfile.engines import Engine
from tests.fakes.shell import User
from tests.functional.commands.conftest import Place

pytestmark = pytest.mark.engine

CONFIG = """\
version: 1
templates:
  fn-tool:
    base: {base}
    env: {{NONCE: "{nonce}"}}
    files: [tool.sh -> /srv/]
    run: [echo built a tool]
    start: sleep 600
    ready: "true"
    resources: {{cpu: 1, memory: 128}}
    tags: [stable]
  fn-tool-upon:
    base: {{template: fn-tool}}
    resources: {{cpu: 1, memory: 128}}
"""
NAMES = ("fn-tool", "fn-tool-upon")
KEY = re.compile("sf1:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def built(place: Place, base: str, images: Callable[[str], None]) -> User:
    user = place("commands")
    for name in NAMES:
        images(name)
    user.write("novita.yaml", CONFIG.format(base=base, nonce=os.urandom(6).hex()))
    user.write("tool.sh", "echo tool\n")
    user.build()
    return user


@pytest.fixture
def checkout(built: User, tmp_path: Path) -> User:
    """A copy of the workspace, which the test may change."""
    root = tmp_path / "checkout"
    shutil.copytree(built.root, root)
    return built.at(root)


@pytest.fixture
def stale(checkout: User, nonce: str) -> User:
    """A copy in which a file has changed to what it never was before."""
    checkout.write("tool.sh", f"echo {nonce}\n")
    return checkout


@pytest.fixture
def nobody(tmp_path: Path) -> dict[str, str]:
    """An environment without an engine."""
    return {"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}


# --- build and its options -------------------------------------------------------------------


def test_build_as_json(built: User) -> None:
    ran = built.run("build", "--json", "-q")

    assert (ran.code, ran.err) == (0, "")
    assert set(ran.data) == {"templates", "summary"}
    assert ran.data["summary"]["counts"] == {"up to date": 2}
    one = ran.of("fn-tool")
    assert set(one) == {
        "name", "target", "action", "status", "error", "reasons", "template_id", "build_id",
        "image", "image_key", "template_key", "tags", "seconds", "steps",
    }  # fmt: skip
    entry = built.entries()["fn-tool"]
    assert (one["template_id"], one["build_id"]) == (entry.template_id, entry.build_id)
    assert (one["image"], one["tags"]) == (entry.image, ["stable"])
    assert one["image_key"] == entry.image_key
    assert one["template_key"] == entry.template_key
    assert KEY.fullmatch(entry.image_key)


def test_locked_fails_when_something_would_change(built: User, stale: User) -> None:
    before = (stale.root / "novita.local.lock").read_bytes()

    assert built.run("build", "--locked").code == 0
    ran = stale.run("build", "--locked")

    assert (ran.code, ran.out) == (4, "")
    assert "error: the lock of target `local` is not up to date" in ran.err
    assert "fn-tool: build: files changed: `tool.sh`" in ran.err
    assert "fn-tool-upon: build: base template `fn-tool` is rebuilt" in ran.err
    assert (stale.root / "novita.local.lock").read_bytes() == before


def test_frozen_trusts_the_lock(stale: User, nobody: dict[str, str]) -> None:
    ran = stale.having(**nobody).run("build", "--frozen", "--json")

    assert ran.code == 0
    assert ran.of("fn-tool")["build_id"] == stale.entries()["fn-tool"].build_id
    (stale.root / "novita.local.lock").unlink()
    assert stale.run("build", "--frozen").code == 4


def test_offline_builds_with_what_is_here(stale: User, user: User) -> None:
    assert stale.run("build", "fn-tool", "--offline").code == 0

    user.write("novita.yaml", "version: 1\nname: fn-new\nbase: registry.example.com/new:1\n")
    ran = user.run("build", "--offline")
    assert ran.code == 6
    assert "novita.yaml:3:7: error: `registry.example.com/new:1` is not in the lock" in ran.err


def test_a_dry_run_is_a_plan(stale: User) -> None:
    ran = stale.run("build", "--dry-run")
    data = stale.run("build", "--dry-run", "--json").data

    assert ran.code == 0
    assert ran.out == stale.run("plan").out
    assert [each["action"] for each in data["templates"]] == ["build", "build"]
    assert stale.run("status").out.count("stale") == 2


def test_only_what_is_named_is_built_with_what_it_needs(stale: User) -> None:
    first = stale.build("fn-tool")
    second = stale.build("fn-*-upon")

    assert {job.partition(":")[2] for job in first.done} == {"fn-tool"}
    assert {job.partition(":")[2] for job in second.done} == {"fn-tool-upon"}


# --- what would be done ----------------------------------------------------------------------


def test_plan_says_what_and_why(built: User, stale: User) -> None:
    assert built.run("plan").out.endswith("2 up to date\n")
    assert built.run("plan", "--detailed-exitcode").code == 0

    ran = stale.run("plan", "--detailed-exitcode")

    assert ran.code == 2
    assert re.fullmatch(
        r"fn-tool       build  files changed: `tool\.sh` \(novita\.yaml:6:5\)\n"
        r"fn-tool-upon  build  base template `fn-tool` is rebuilt \(novita\.yaml:13:22\)\n"
        r"2 to build\n"
        r"about \d+s with -j \d+, by earlier runs\n",
        ran.out,
    )


def test_plan_as_json(stale: User) -> None:
    ran = stale.run("plan", "--json", "fn-tool")

    assert ran.data["summary"]["build"] == 1
    one = ran.of("fn-tool")
    assert one["steps"] == ["generate", "build", "push", "snapshot", "tag"]
    assert one["reasons"] == [{"text": "files changed: `tool.sh`", "at": "novita.yaml:6:5"}]
    assert KEY.fullmatch(one["template_key"])


def test_why_gives_all_reasons(stale: User) -> None:
    stale.replace("novita.yaml", "start: sleep 600", "start: sleep 601")

    ran = stale.run("why", "fn-tool")

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[:3] == [
        "fn-tool: build (target local)",
        "  - files changed: `tool.sh` (novita.yaml:6:5)",
        "  - start command changed (novita.yaml:8:5)",
    ]
    assert stale.run("why", "fn-tool", "--json").of("fn-tool")["action"] == "build"
    assert stale.run("why", "fn-*").code == 64


def test_status_reads_files_only(built: User, stale: User, nobody: dict[str, str]) -> None:
    entry = built.entries()["fn-tool"]

    ran = built.having(**nobody).run("status")

    assert ran.code == 0
    line = f"fn-tool       up to date  {entry.template_id}  {entry.build_id}\n"
    assert ran.out.startswith(line)
    assert "fn-tool       stale" in stale.having(**nobody).run("status").out
    rows = built.run("status", "--json").data["templates"]
    assert rows[0]["state"] == "up to date"


# --- what is there ---------------------------------------------------------------------------


def test_list(built: User, base: str) -> None:
    assert built.run("list").out == f"fn-tool       {base}\nfn-tool-upon  template fn-tool\n"
    (row,) = built.run("list", "*-upon", "--json").data["templates"]
    assert (row["name"], row["base"], row["tags"]) == ("fn-tool-upon", "template fn-tool", [])


def test_show(built: User, base: str) -> None:
    config = built.run("show", "config", "fn-tool").data["templates"]["fn-tool"]
    steps = built.run("show", "steps", "fn-tool").out
    dockerfile = built.run("show", "dockerfile", "fn-tool").out

    assert config["start"] == "sleep 600"
    assert config["base"] == {"image": base, "x-at": "novita.yaml:4:11"}
    assert steps.startswith(f"base: {base}\n1. env: ")
    assert "start: sleep 600\n" in steps
    assert re.search(
        rf"^FROM {re.escape(base.rpartition(':')[0])}@sha256:", dockerfile, re.MULTILINE
    )
    assert 'COPY ["copy-1/tool.sh", "/srv/"]' in dockerfile
    assert built.run("show", "files", "fn-tool").out == "/srv/: tool.sh\n"
    assert built.run("show", "plan").out == built.run("plan").out
    both = built.run("show", "files")
    assert both.out == "# fn-tool\n/srv/: tool.sh\n# fn-tool-upon\n"
    assert built.run("show", "nonsense").code == 64


def test_logs(built: User, user: User, base: str) -> None:
    whole = built.run("logs", "fn-tool")
    step = built.run("logs", "fn-tool", "--step", "build")

    assert (whole.code, step.code) == (0, 0)
    assert "built a tool" in step.out
    assert "--- build\n" in whole.out
    assert "Template is ready" in whole.out
    user.write("novita.yaml", f"version: 1\nname: fn-never\nbase: {base}\n")
    never = user.run("logs", "fn-never")
    assert (never.code, never.out) == (1, "")
    assert "there is no log of `fn-never`" in never.err


def test_env_in_every_format(built: User) -> None:
    entry = built.entries()["fn-tool"]
    ids = {"template_id": entry.template_id, "build_id": entry.build_id}

    def env(format_: str) -> str:
        ran = built.run("env", "fn-tool", "--format", format_)
        assert ran.code == 0
        return ran.out

    assert env("dotenv") == (
        f"NOVITA_TEMPLATE_FN_TOOL={entry.template_id}\nNOVITA_BUILD_FN_TOOL={entry.build_id}\n"
    )
    assert json.loads(env("json")) == {"fn-tool": ids}
    assert built.run("env", "fn-tool", "--json").data == {"fn-tool": ids}
    assert env("github") == (
        f"fn-tool_template_id={entry.template_id}\nfn-tool_build_id={entry.build_id}\n"
    )
    typescript = env("typescript").removeprefix("export const templates = ")
    assert json.loads(typescript.removesuffix(" as const;\n")) == {"fn-tool": ids}
    made: dict[str, object] = {}
    exec(env("python"), made)
    assert made["TEMPLATES"] == {"fn-tool": ids}


def test_env_of_what_is_not_built_is_an_error(checkout: User) -> None:
    (checkout.root / "novita.local.lock").unlink()

    ran = checkout.run("env")

    assert (ran.code, ran.out) == (4, "")
    assert "hint: run `sandboxfile build --target local`" in ran.err


def test_validate(built: User, checkout: User, nobody: dict[str, str]) -> None:
    ran = built.having(**nobody).run("validate")
    assert (ran.code, ran.out, ran.err) == (0, "", "novita.yaml: 2 templates, no problem\n")
    assert built.run("validate", "--json").data == {
        "valid": True,
        "templates": list(NAMES),
        "findings": [],
    }

    checkout.edit("novita.yaml", lambda text: text.replace("run:", "rum:").replace("start", "strt"))
    bad = checkout.run("validate")
    assert (bad.code, bad.out) == (3, "")
    assert "unknown key `rum`" in bad.err
    assert "unknown key `strt`" in bad.err
    assert "did you mean `start`?" in bad.err
    assert bad.err.endswith("2 problems\n")


def test_doctor(built: User, user: User, nobody: dict[str, str]) -> None:
    well = built.run("doctor")
    ill = user.having(**nobody).run("doctor")

    assert (well.code, ill.code) == (0, 0)
    assert re.match(rf"sandboxfile +{re.escape(__version__)}, Python 3", well.out)
    assert "chosen: docker" in well.out
    assert "target" in well.out
    assert "local" in well.out
    assert "chosen" not in ill.out
    found = {each["what"]: each["verdict"] for each in built.run("doctor", "--json").data["found"]}
    assert found["API key"] == "none: target `local` needs none"


def test_schema(built: User) -> None:
    import yaml

    schema = built.run("schema").data
    lock = built.run("schema", "lock").data

    jsonschema.validate(yaml.safe_load((built.root / "novita.yaml").read_text()), schema)
    for name in ("novita.lock", "novita.local.lock"):
        jsonschema.validate(yaml.safe_load((built.root / name).read_text()), lock)


# --- in a sandbox ----------------------------------------------------------------------------


def test_a_shell_reads_what_it_is_told(built: User) -> None:
    ran = built.command("shell", "fn-tool", stdin='echo "$NONCE" | wc -c\nexit 3\n')

    assert (ran.code, ran.out) == (3, "13\n"), ran.err


def test_input_goes_to_a_command(built: User) -> None:
    ran = built.command("run", "fn-tool", "--", "sh", "-c", "cat; echo told >&2", stdin="in\n")

    assert (ran.code, ran.out, ran.err) == (0, "in\n", "told\n")


def test_what_is_not_built_does_not_run(checkout: User) -> None:
    (checkout.root / "novita.local.lock").unlink()

    ran = checkout.run("run", "fn-tool", "--", "true")

    assert (ran.code, ran.out) == (1, "")
    assert "`fn-tool` is not built on this machine" in ran.err
    nobody = checkout.run("run", "fn-nobody", "--", "true")
    assert (nobody.code, nobody.out) == (64, "")
    assert "error: no template is called `fn-nobody`\nhint: " in nobody.err


def test_what_was_built_and_is_gone_has_to_be_built_by_force(built: User, tmp_path: Path) -> None:
    ran = built.having(XDG_DATA_HOME=str(tmp_path)).run("run", "fn-tool", "--", "true")

    assert (ran.code, ran.out) == (1, "")
    assert "error: there is no local template `" in ran.err
    again = "`sandboxfile build fn-tool --force --target local`"
    assert f"hint: build it again with {again}\n" in ran.err


# --- what changes something ------------------------------------------------------------------


def test_clean_removes_only_what_can_be_made_again(checkout: User) -> None:
    ran = checkout.run("clean")

    assert (ran.code, ran.out) == (0, "")
    left = {path.name for path in (checkout.root / ".sandboxfile").iterdir()}
    assert left <= {".gitignore", "journal"}
    assert checkout.build().done == set()


def test_clean_can_remove_images_too(
    stale: User, engine: Engine, images: Callable[[str], None]
) -> None:
    names = ("fn-gone", "fn-gone-upon")
    for name in names:
        images(name)
    stale.edit("novita.yaml", lambda text: text.replace("fn-tool", "fn-gone"))
    stale.build()
    keys = {name: stale.entries()[name].image_key.removeprefix("sf1:")[:16] for name in names}

    assert stale.run("clean", "--images").code == 0

    assert [engine.find(f"sandboxfile/{n}:sf-{key}") for n, key in keys.items()] == [None, None]
    # The templates themselves stay: they are the local service's.
    assert stale.command("run", "fn-gone-upon", "--", "test", "-s", "/srv/tool.sh").code == 0
    stale.edit("novita.yaml", lambda text: text + "    run: [echo more > /srv/more]\n")
    assert "build:fn-gone-upon" in stale.build("fn-gone-upon").done


def test_init_writes_what_builds(user: User, base: str, nonce: str) -> None:
    project = user.at(user.root / "fn-Begun Here")
    project.write("Dockerfile", f"FROM {base}\nRUN echo {nonce} > /srv-begun\n")

    first = project.run("init")
    again = project.run("init")
    ran = project.run("build")

    assert (first.code, first.out) == (0, "")
    assert "wrote novita.yaml" in first.err
    assert "novita.local.lock" in (project.root / ".gitignore").read_text()
    assert again.code == 64
    assert "is already there" in again.err
    assert ran.code == 0, ran.err
    done = project.command("run", "fn-begun-here", "--", "cat", "/srv-begun")
    assert done.out == f"{nonce}\n", done.err
    assert project.run("clean", "--images").code == 0


# --- the command line ------------------------------------------------------------------------


def test_the_directory_the_file_and_the_target_can_be_named(built: User, user: User) -> None:
    from_elsewhere = user.at(user.root).run("-C", built.root, "status", "fn-tool")
    by_file = user.run("status", "-f", built.root / "novita.yaml", "fn-tool")
    by_variables = user.having(
        SANDBOXFILE_FILE=str(built.root / "novita.yaml"), SANDBOXFILE_JSON="1"
    ).run("status", "fn-tool", "--target", "local")

    assert from_elsewhere.out == by_file.out
    assert "up to date" in by_file.out
    assert by_variables.data["templates"][0]["state"] == "up to date"


def test_variables_stand_for_options(stale: User) -> None:
    locked = stale.having(SANDBOXFILE_LOCKED="1").run("build")
    wrong = stale.having(SANDBOXFILE_PROGRESS="loud").run("build")
    target = stale.having(SANDBOXFILE_TARGET="elsewhere").run("build")

    assert locked.code == 4
    assert wrong.code == 64
    assert "`SANDBOXFILE_PROGRESS` is `loud`: choose from auto, tty" in wrong.err
    assert target.code == 64
    assert "no target is called `elsewhere`" in target.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("bulid",), "unknown command `bulid`\nhint: did you mean `build`?"),
        (("frobnicate",), "hint: commands: init, import, validate"),
        (("build", "--nonsense"), "unknown option `--nonsense`"),
        (("build", "-j", "0"), "`0` is too few"),
        (("build", "-j", "many"), "`--jobs`: `many` is no number"),
        (("build", "fn-tol"), "no template is called `fn-tol`\nhint: did you mean `fn-tool`?"),
        (("build", "--frozen", "--locked"), "`--frozen`"),
        (("build", "--locked", "--force"), "`--locked` allows no change"),
        (("run", "fn-tool"), "there is no command to run"),
        (("run", "--", "true"), "error: "),
        (("status", "-C", "/nowhere/at/all"), "`-C /nowhere/at/all`"),
        (("env", "--format", "xml"), "`--format`: `xml` is none of dotenv, "),
        (("why",), "TEMPLATE"),
        (("build", "--progress"), "`--progress` needs a value"),
    ],
)
def test_a_wrong_command_line_is_told(built: User, argv: tuple[str, ...], said: str) -> None:
    ran = built.run(*argv)

    assert (ran.code, ran.out) == (64, "")
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_without_a_workspace_the_remedy_is_told(user: User) -> None:
    ran = user.run("build")

    assert (ran.code, ran.out) == (3, "")
    assert "novita.yaml" in ran.err
    assert "sandboxfile init" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(user: User, command: str) -> None:
    ran = user.run(command, "--help")

    assert ran.code == 0
    assert ran.out.startswith(f"usage: sandboxfile {command}")
    assert "--target" in ran.out


def test_help_and_version(user: User) -> None:
    version = user.command("--version")
    helped = user.command()

    assert (version.code, version.out) == (0, f"sandboxfile {__version__}\n")
    assert helped.code == 0
    assert all(f"\n  {name} " in helped.out for name in COMMANDS)


def test_nobody_reading_is_no_error(built: User) -> None:
    code = (
        "import os, sys; read, write = os.pipe(); os.close(read); os.dup2(write, 1);"
        "sys.argv[1:] = ['show', 'config']; from sandboxfile.entry import run; run()"
    )

    ran = built.command(python=("-c", code))

    assert (ran.code, ran.err) == (1, "")


def test_diagnostics_are_json_when_asked(stale: User) -> None:
    ran = stale.run("build", "--log-level", "debug", "--log-format", "json", "--progress", "quiet")

    assert ran.code == 0, ran.err
    lines = [json.loads(line) for line in ran.err.splitlines() if line.startswith("{")]
    assert lines
    assert all("event" in line and "level" in line for line in lines)


def test_verbose_shows_the_build(stale: User) -> None:
    stale.replace("novita.yaml", "echo built a tool", "echo built another tool")

    ran = stale.run("build", "fn-tool", "-v")

    assert "fn-tool: built another tool" in ran.err


def test_quiet_is_quiet(stale: User) -> None:
    ran = stale.run("build", "-q")

    assert (ran.code, ran.out, ran.err) == (0, "", "")
