import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile import fresh, lockfile, plan
from sandboxfile.commandline import duration
from tests.fakes import built
from tests.fakes.shell import User

LINKED = """\
version: 1
name: linked
base: {dockerfile: Dockerfile, context: image}
resources: {cpu: 1, memory: 512}
"""
NOTHING = "target local: no API key is at hand\n3 up to date, nothing to do\n"


@pytest.fixture
def done(three: User) -> User:
    """A workspace of which everything is built."""
    built.pretend(three.root)
    return three


def _repeated(user: User, *argv: str) -> tuple[str, str] | None:
    return user.look(*argv).said


def _first_stage(user: User, *argv: str) -> str | None:
    repeated = _repeated(user, *argv)
    return repeated and repeated[0]


# --- nothing to do ---------------------------------------------------------------------------


def test_nothing_to_do_is_said_on_standard_error(done: User) -> None:
    ran = done.run("build")

    assert (ran.code, ran.out, ran.err) == (0, "", NOTHING)


def test_nothing_to_do_as_json(done: User) -> None:
    ran = done.run("build", "--json", "child")

    assert ran.code == 0
    assert [each["name"] for each in ran.data["templates"]] == ["parent", "child"]
    assert {each["action"] for each in ran.data["templates"]} == {"up to date"}
    assert ran.data["summary"]["counts"] == {"up to date": 2}
    parent = ran.data["templates"][0]
    assert parent["template_id"] == "template000000000000"
    assert parent["tags"] == ["stable"]
    assert (parent["status"], parent["error"]) == ("done", None)


@pytest.mark.parametrize("argv", [["-q"], ["--progress", "quiet"], ["--progress", "json"]])
def test_who_wants_no_words_gets_none(done: User, argv: list[str]) -> None:
    ran = done.run("build", *argv)

    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_the_lock_is_not_written_again(done: User) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.root.glob("*.lock")}
    assert len(before) == 2

    assert done.run("build").code == 0
    assert {path: path.stat().st_mtime_ns for path in done.root.glob("*.lock")} == before


# --- what is remembered of it ----------------------------------------------------------------


@pytest.fixture
def remembered(done: User, grown_old: Callable[[], None]) -> User:
    """A workspace of which the first stage knows that nothing is to be done."""
    done.write("Dockerfile.d/novita", "x")
    grown_old()
    assert done.run("build").err == NOTHING
    assert _first_stage(done, "build") == NOTHING
    return done


def _same_size(user: User) -> None:
    path = user.root / "data/one.txt"
    before = path.stat()
    path.write_text("eno\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _log_in(user: User) -> None:
    (user.home / ".novita").mkdir()
    (user.home / ".novita/config.json").write_text("{}")


CHANGES: dict[str, Callable[[User], object]] = {
    "novita.yaml": lambda user: user.replace("novita.yaml", "sleep 600", "sleep 601"),
    "a copied file, size and time as before": _same_size,
    "a file more": lambda user: user.write("data/three.txt", "3"),
    "a file less": lambda user: (user.root / "data/two.sh").unlink(),
    "a mode": lambda user: (user.root / "data/one.txt").chmod(0o755),
    "an ignore file": lambda user: user.write(".dockerignore", "*.sh"),
    "the lock": lambda user: user.write("novita.lock", "version: 1\n"),
    "the local lock": lambda user: (user.root / "novita.local.lock").unlink(),
    "a second configuration": lambda user: user.write("novita.yml", "version: 1"),
    "a login": _log_in,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_everything_that_decides_is_watched(
    remembered: User, change: Callable[[User], object]
) -> None:
    change(remembered)

    assert _first_stage(remembered, "build") is None


def test_what_is_not_copied_is_not_watched(remembered: User) -> None:
    remembered.write("Dockerfile.d/unrelated", "x")

    assert _first_stage(remembered, "build") == NOTHING


def test_the_file_behind_a_link_is_watched(done: User, grown_old: Callable[[], None]) -> None:
    (done.root / "novita.yaml").rename(done.root / "real.yaml")
    (done.root / "novita.yaml").symlink_to("real.yaml")
    grown_old()
    assert done.run("build").err == NOTHING
    assert _first_stage(done, "build") == NOTHING

    done.replace("real.yaml", "sleep 600", "sleep 601")

    assert _first_stage(done, "build") is None


def test_the_program_is_watched(
    done: User, grown_old: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "plan.py"
    module.write_text("")
    monkeypatch.setattr(plan, "__file__", str(module))
    grown_old()
    assert done.run("build").err == NOTHING
    assert _first_stage(done, "build") == NOTHING

    module.write_text("# edited\n")

    assert _first_stage(done, "build") is None


def test_each_link_on_the_way_is_watched(done: User, grown_old: Callable[[], None]) -> None:
    text = (done.root / "novita.yaml").read_text()
    (done.root / "novita.yaml").unlink()
    done.write("one/real.yaml", text)
    done.write("two/real.yaml", text.replace("sleep 600", "sleep 601"))
    (done.root / "current").symlink_to("one")
    (done.root / "novita.yaml").symlink_to("current/real.yaml")
    grown_old()
    assert done.run("build").err == NOTHING
    assert _first_stage(done, "build") == NOTHING

    (done.root / "current").unlink()
    (done.root / "current").symlink_to("two")

    assert _first_stage(done, "build") is None


def test_a_dockerfile_behind_a_link_is_watched(three: User, grown_old: Callable[[], None]) -> None:
    three.write("novita.yaml", LINKED)
    three.write("shared/Dockerfile", "FROM debian:12\nRUN true\n")
    three.write("image/data", "x")
    (three.root / "Dockerfile").symlink_to("shared/Dockerfile")
    built.pretend(three.root)
    grown_old()
    assert three.run("build").code == 0
    assert _first_stage(three, "build") is not None

    three.replace("shared/Dockerfile", "true", "false")

    assert _first_stage(three, "build") is None


@pytest.mark.parametrize(
    "argv",
    [
        ["build", "--json"],
        ["build", "--json", "-q", "child"],
        ["build", "-q"],
        ["build", "--progress", "json", "other"],
        ["build", "--locked", "-j2"],
        ["build", "--frozen"],
        ["build", "--frozen", "--json"],
        ["build", "--dry-run"],
        ["build", "--dry-run", "--json", "-v"],
        ["-t", "local", "build"],
        ["plan"],
        ["plan", "--json", "child"],
        ["plan", "--detailed-exitcode", "--offline"],
    ],
)
def test_whatever_is_said_when_nothing_is_to_be_done_is_said_again(
    done: User, grown_old: Callable[[], None], argv: list[str]
) -> None:
    done.run("status")
    grown_old()

    ran = done.run(*argv)

    assert ran.code == 0
    said = _repeated(done, *argv)
    assert said is not None
    told, printed = said
    assert told == ran.err
    assert [_untimed(printed)] == [_untimed(ran.out)]
    assert (fresh.TIMES in printed) == ('"seconds": 0.0' in ran.out and "dry" not in str(argv))
    done.write("novita.local.lock", "version: 1\n")
    assert _repeated(done, *argv) is None


def _untimed(text: str) -> str:
    return re.sub(r'"seconds": (\d[\d.]*|\0)', '"seconds": 1', text)


@pytest.mark.parametrize("argv", [["build"], ["plan"], ["build", "--dry-run"]])
def test_what_is_not_up_to_date_is_not_remembered(
    done: User, grown_old: Callable[[], None], argv: list[str]
) -> None:
    done.replace("novita.yaml", "sleep 600", "sleep 601")
    done.run("status")
    grown_old()
    done.run(*argv, "--offline")

    assert not (done.root / ".sandboxfile/fresh").exists()


def test_from_a_directory_below_and_from_elsewhere_the_same_is_said(
    done: User, grown_old: Callable[[], None], tmp_path: Path
) -> None:
    done.run("status")
    grown_old()
    elsewhere, below = done.at(tmp_path), done.at(done.root / "data")
    calls = [
        (elsewhere, ["-C", "work", "build"]),
        (elsewhere, ["-f", "work/novita.yaml", "build"]),
        (elsewhere, ["build", "-C", str(done.root)]),
        (elsewhere, ["build", "-C", "work/data"]),
        (below, ["build"]),
        (below, ["build", "--file=../novita.yaml"]),
        (below.having(SANDBOXFILE_DIRECTORY=".."), ["build"]),
    ]
    for user, argv in calls:
        assert user.run(*argv).err == NOTHING
    for user, argv in calls:
        assert _first_stage(user, *argv) == NOTHING
    assert _first_stage(done, "-C", "work", "build") is None  # means another directory there

    (done.root / "data/.git").mkdir()  # which ends the search
    for user, argv in calls:
        assert _first_stage(user, *argv) is None


def test_what_is_named_through_a_link_is_not_remembered(
    done: User, grown_old: Callable[[], None]
) -> None:
    (done.root / "here").symlink_to(".")
    done.run("status")
    grown_old()

    assert done.run("build", "here/").err == NOTHING
    assert _first_stage(done, "build", "here/") is None
    assert done.run("build", "./").err == NOTHING
    assert _first_stage(done, "build", "./") == NOTHING


def test_a_commit_in_a_tag_is_looked_up_each_time(
    three: User, grown_old: Callable[[], None]
) -> None:
    three.replace("novita.yaml", "[stable]", '["${git.sha}"]')
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for argv in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        assert three.process([*git, *argv]).returncode == 0
    built.pretend(three.root, git_sha=three.process([*git, "rev-parse", "HEAD"]).stdout.strip())
    grown_old()

    assert three.run("build").err == NOTHING
    assert _first_stage(three, "build") is None
    assert three.process([*git, "commit", "-q", "--allow-empty", "-m", "y"]).returncode == 0
    assert "retag" in three.run("build", "--dry-run").out


def test_a_commit_in_a_tag_needs_a_commit(three: User) -> None:
    three.replace("novita.yaml", "[stable]", '["${git.sha}"]')
    built.pretend(three.root, git_sha="0" * 40)

    ran = three.having(GIT_CEILING_DIRECTORIES=str(three.root.parent)).run("build")

    assert (ran.code, ran.out) == (3, "")
    assert "novita.yaml:9:5: error: tag `${git.sha}` needs a commit, and there is none" in ran.err


# --- --locked, --frozen, --dry-run -----------------------------------------------------------


def test_locked_is_content_with_a_lock_that_is_right(done: User) -> None:
    assert done.run("build", "--locked").err == NOTHING


def test_locked_says_what_would_change(done: User) -> None:
    done.write("data/one.txt", "other\n")
    before = (done.root / "novita.local.lock").read_bytes()

    ran = done.run("build", "--locked", "--offline")

    assert (ran.code, ran.out) == (4, "")
    lines = ran.err.splitlines()
    assert "error: the lock of target `local` is not up to date" in lines
    stale = [line.split(":")[0] for line in lines if re.match("  [a-z]", line)]
    assert stale == ["  parent", "  child"]
    assert lines[-1] == "hint: run `sandboxfile build` without `--locked` and commit the lock"
    assert (done.root / "novita.local.lock").read_bytes() == before


def test_frozen_computes_nothing(done: User) -> None:
    shutil.rmtree(done.root / "data")

    ran = done.run("build", "--frozen", "--json", "parent")

    assert ran.code == 0
    (parent,) = ran.data["templates"]
    assert parent["reasons"] == [{"text": "`--frozen` trusts the lock", "at": None}]
    assert parent["template_id"] == "template000000000000"


def test_frozen_trusts_the_lock_of_what_a_template_is_built_on(done: User) -> None:
    ran = done.run("build", "--frozen", "--json", "child")
    assert [each["name"] for each in ran.data["templates"]] == ["parent", "child"]
    assert ran.err.endswith("\n2 up to date, nothing to do\n")  # as without `--frozen`

    path = done.root / "novita.local.lock"
    lockfile.update(path, lambda lock: lock.without_entry("local", "parent"))
    ran = done.run("build", "--frozen", "child")
    assert ran.code == 4
    assert "error: the lock has no `parent` for target `local`\n" in ran.err


def test_frozen_needs_a_lock(three: User) -> None:
    ran = three.run("build", "--frozen")

    assert (ran.code, ran.out) == (4, "")
    assert "error: the lock has no `parent` for target `local`\n" in ran.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--frozen", "--force"], "`--frozen` computes nothing"),
        (["--frozen", "--locked"], "`--frozen` computes nothing"),
        (["--frozen", "--dry-run"], "`--frozen` computes nothing"),
        (["--locked", "--force"], "`--locked` allows no change and `--force` makes one"),
        (["--frozen", "--detach"], "`--frozen` computes nothing"),
        (["--detach"], "`--detach`: builds of target `local` end with this run"),
        (["--timeout", "soon"], "`--timeout`: `soon` is no duration"),
        (["--timeout", ""], "`--timeout`: `` is no duration"),
        (["nothing"], "no template is called `nothing`"),
        (["-t", "prod"], "no target is called `prod`"),
    ],
)
def test_what_contradicts_itself_is_64(three: User, argv: list[str], message: str) -> None:
    ran = three.run("build", *argv)

    assert (ran.code, ran.out) == (64, "")
    assert f"error: {message}" in ran.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("1h30m5s", 5405), ("0s", 0)]
)
def test_a_duration_has_units(text: str, seconds: int) -> None:
    assert duration(text) == seconds


def test_a_dry_run_prints_the_plan_and_leaves_everything(done: User) -> None:
    done.replace("novita.yaml", "[stable]", "[stable, new]")
    before = (done.root / "novita.local.lock").read_bytes()

    ran = done.run("build", "--dry-run")
    as_json = done.run("build", "--dry-run", "--json")

    assert ran.code == 0
    assert "parent" in ran.out
    assert "retag" in ran.out
    actions = {each["name"]: each["action"] for each in as_json.data["templates"]}
    assert actions == {"parent": "retag", "child": "up to date", "other": "up to date"}
    assert (done.root / "novita.local.lock").read_bytes() == before


def test_without_an_engine_a_build_is_6(three: User) -> None:
    built.pretend(three.root)
    (three.root / "novita.local.lock").unlink()

    ran = three.run("build", "other")

    assert (ran.code, ran.out) == (6, "")
    assert ran.err.startswith("target local: no API key is at hand\n")
    assert "error: " in ran.err


def test_without_key_a_remote_build_is_5(three: User) -> None:
    built.pretend(three.root)

    ran = three.having(SANDBOXFILE_REGISTRY="registry.example.com/x").run(
        "build", "other", "-t", "novita"
    )

    assert (ran.code, ran.out) == (5, "")
    assert "error: no API key for target `novita`" in ran.err


def test_a_state_directory_that_cannot_be_made_is_told(three: User) -> None:
    three.write(".sandboxfile", "a file is in the way")

    ran = three.run("build", "--frozen")
    assert ran.code == 4  # needs no state
    ran = three.run("status")

    assert (ran.code, ran.out) == (1, "")
    assert "/.sandboxfile` is not a directory\nhint: remove " in ran.err


@pytest.mark.parametrize("file", ["novita.yaml", "novita.local.lock", "data/one.txt"])
def test_a_profile_overwrites_nothing_of_the_users(done: User, file: str) -> None:
    before = (done.root / file).read_bytes()

    ran = done.run("build", "--profile", file)

    assert (ran.code, (done.root / file).read_bytes()) == (64, before)
    assert ran.err.startswith(f"error: `--profile {file}`: this file is there already")
    assert done.run("build", "--profile", "new.json").code == 0
    assert done.run("build", "--profile", "new.json").code == 0
