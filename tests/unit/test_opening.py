"""A fresh clone of many templates: what is found and kept is the same in one process or several."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from tests.fakes import built
from tests.fakes.shell import User

TEMPLATES = 120
BUILD = ("build", "--offline", "--json")


@pytest.fixture
def clone(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody with so many templates that other processes are worth their start, all built."""
    lines = ["version: 1", "templates:"]
    for number in range(TEMPLATES):
        base = "{template: t000}" if number % 10 == 9 else "debian:12"
        lines.append(f"  t{number:03d}:")
        lines.append(f"    base: {base}")
        lines.append(f"    files: [d{number:03d}/ -> /srv/]")
        lines.append(f'    env: {{TOLD: "{"x" * 200}"}}')
        user.write(f"d{number:03d}/one", f"{number}")
        user.write(f"d{number:03d}/deep/two", f"{number} again")
    user.write("novita.yaml", "\n".join(lines) + "\n")
    built.pretend(user.root)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    return user


def kept(user: User) -> tuple[set[str], bytes]:
    """Return which files are kept for later runs, and the hashes, and take them away."""
    state = user.root / ".sandboxfile"
    found = {path.name for path in state.iterdir()}, (state / "stat-cache").read_bytes()
    shutil.rmtree(state)
    return found


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)


def forks(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None) -> list[int]:
    """Count processes that are forked; each begins with `then`, and has ended when it is."""
    found: list[int] = []
    fork = os.fork

    def counted() -> int:
        child = fork()
        if child == 0:
            then()
        else:
            found.append(child)
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        return child

    monkeypatch.setattr(os, "fork", counted)
    return found


def assert_ended(children: list[int]) -> None:
    """Look whether processes have ended and been waited for; the tests have others, too."""
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


def in_several(clone: User, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many processes help where there are two cores; they make no difference."""
    cores(monkeypatch, 1)
    alone = clone.run(*BUILD)
    kept_alone = kept(clone)
    started = forks(monkeypatch)
    cores(monkeypatch, 2)

    several = clone.run(*BUILD)

    assert several.code == alone.code == 0
    assert several.data["templates"] == alone.data["templates"]
    assert several.err == alone.err
    assert kept(clone) == kept_alone
    assert_ended(started)
    return len(started)


def test_it_makes_no_difference_how_many_processes_read(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old()
    assert in_several(clone, monkeypatch) == 2, "to find what is copied, to keep what was found"


def test_where_no_copy_is_guessed_another_process_surveys(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (clone.root / "novita.yaml").read_text()
    text = re.sub(r"\[d(\d+/ -> /srv/)\]", r'["${var.directory}\1"]', text)
    clone.write("novita.yaml", "variables: {directory: {default: d}}\n" + text)
    grown_old()
    assert in_several(clone, monkeypatch) == 3, "to guess, to survey, to keep what was found"


def test_other_processes_that_die_are_not_missed(
    clone: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(monkeypatch, 2)
    started = forks(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))

    ran = clone.run(*BUILD)

    assert len(started) == 2
    assert (ran.code, ran.data["summary"]["counts"]) == (0, {"up to date": TEMPLATES})
    assert not (clone.root / ".sandboxfile/stat-cache").exists()


@pytest.mark.parametrize("words", [("t001",), ("--frozen",)])
def test_who_needs_few_files_has_none_read_ahead(
    clone: User, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    cores(monkeypatch, 2)
    started = forks(monkeypatch)

    assert clone.run("build", *words).code == 0

    assert not started


def test_where_hashes_are_kept_nothing_is_read_ahead(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old()
    clone.run(*BUILD)
    cores(monkeypatch, 2)
    started = forks(monkeypatch)

    assert clone.run("plan", "--offline", "--json").code == 0

    assert not started


@pytest.mark.parametrize("words", [("-f", "nowhere.yaml"), ("--target", "nowhere")])
def test_what_is_wrong_is_told_and_nobody_goes_on_reading(
    clone: User, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    cores(monkeypatch, 2)
    started = forks(monkeypatch)

    assert clone.run("build", *words).code in {3, 64}

    assert_ended(started)


# --- in git --------------------------------------------------------------------------------------


def committed(clone: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it all known to git, and be on a machine with two cores."""
    time.sleep(0.05)
    for words in (("init", "--quiet"), ("add", "--all")):
        environ = {"HOME": str(clone.home), "PATH": os.environ["PATH"]}
        subprocess.run(["git", *words], cwd=clone.root, env=environ, check=True)
    cores(monkeypatch, 2)


def test_what_git_knows_is_not_read(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old()
    assert in_several(clone, monkeypatch) == 2
    read = clone.run(*BUILD)
    shutil.rmtree(clone.root / ".sandboxfile")
    committed(clone, monkeypatch)
    started = forks(monkeypatch)

    ran = clone.run(*BUILD)

    assert (ran.code, ran.data["templates"]) == (0, read.data["templates"])
    assert ran.data["summary"]["counts"] == {"up to date": TEMPLATES}
    assert len(started) == 1, "to find what is copied"
    state = clone.root / ".sandboxfile"
    assert {path.name for path in state.iterdir()} == {".gitignore", "fresh"}
    clone.write("d007/one", "changed")
    again = clone.run("plan", "--offline", "--json")
    assert again.stale == ["t007"]
    assert {"stat-cache", "survey-docker", "workspace"} <= {path.name for path in state.iterdir()}


@pytest.mark.parametrize("words", [("build", "--json"), ("lock", "--check"), ("status",)])
def test_a_second_run_keeps_what_it_finds_whatever_it_is_for(
    clone: User,
    grown_old: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    committed(clone, monkeypatch)
    grown_old()
    state = clone.root / ".sandboxfile"
    assert clone.run(*words).code == 0
    assert not (state / "survey-docker").exists()

    assert clone.run(*words).code == 0

    assert (state / "survey-docker").exists()


def test_a_first_run_that_finds_something_keeps_what_it_finds(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (clone.root / "novita.yaml").read_text()
    clone.write(
        "novita.yaml",
        text.replace("    base: debian:12", "    tags: [new]\n    base: debian:12", 1),
    )
    committed(clone, monkeypatch)
    grown_old()

    ran = clone.run("plan", "--offline", "--json")

    actions = [each["action"] for each in ran.data["templates"]]
    assert (actions.count("retag"), actions.count("up to date")) == (1, TEMPLATES - 1)
    assert (clone.root / ".sandboxfile/survey-docker").exists()


def test_where_templates_were_left_open_they_are_read_ahead_again(
    clone: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.sleep(2.1)  # the configuration is to be trusted, files are to be young, the index is not
    for number in range(TEMPLATES):
        os.utime(clone.root / f"d{number:03d}/one")
    committed(clone, monkeypatch)
    plan = ["plan", "--offline", "--json"]
    clone.run(*plan)
    look = clone.look(*plan)
    assert look.record is not None
    assert look.record.open
    started = forks(monkeypatch)

    assert clone.run(*plan, look=look).code == 0

    assert len(started) == 2, "to find what is copied, to keep what was found"


def test_who_knows_what_has_moved_has_nothing_read_ahead(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(clone, monkeypatch)
    grown_old()
    plan = ["plan", "--offline", "--json"]
    clone.run(*plan)
    clone.write("d007/one", "changed")
    look = clone.look(*plan)
    assert look.record is not None
    started = forks(monkeypatch)

    ran = clone.run(*plan, look=look)

    assert ran.stale == ["t007"]
    assert not started


def test_what_has_changed_since_is_read_and_nothing_else(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old()
    clone.write("d007/deep/two", "changed")
    committed(clone, monkeypatch)
    clone.write("d009/deep/untracked", "new")
    cores(monkeypatch, 1)
    alone = clone.run("plan", "--offline", "--json")
    shutil.rmtree(clone.root / ".sandboxfile")
    cores(monkeypatch, 2)
    started = forks(monkeypatch)

    ran = clone.run("plan", "--offline", "--json")

    assert ran.data["templates"] == alone.data["templates"]
    assert {*ran.stale} == {"t007", "t009"}
    assert len(started) == 2
    kept = (clone.root / ".sandboxfile/stat-cache").read_bytes()
    names = {f"d{number:03d}" for number in range(TEMPLATES) if f"d{number:03d}".encode() in kept}
    assert names == {"d007", "d009"}


def test_who_forces_a_build_takes_nobodys_word(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old()
    committed(clone, monkeypatch)

    assert clone.run("plan", "--offline", "--force", "--json").code == 0

    assert (clone.root / ".sandboxfile/stat-cache").exists()


def test_of_a_clone_that_git_has_just_made_next_to_nothing_is_read(
    clone: User, grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (clone.root / "novita.local.lock").rename(clone.root / "kept")
    committed(clone, monkeypatch)
    environ = {"HOME": str(clone.home), "PATH": os.environ["PATH"]}
    for words in (
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "all"),
        ("clone", "--quiet", ".", str(clone.home / "fresh")),
    ):
        subprocess.run(["git", *words], cwd=clone.root, env=environ, check=True)
    fresh = clone.at(clone.home / "fresh")
    (fresh.root / "kept").rename(fresh.root / "novita.local.lock")
    grown_old()

    ran = fresh.run(*BUILD)

    assert (ran.code, ran.data["summary"]["counts"]) == (0, {"up to date": TEMPLATES})
    assert not (fresh.root / ".sandboxfile/stat-cache").exists(), "none is read for its SHA-256"


def test_what_was_checked_out_just_now_is_read_by_the_next_run(
    clone: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(clone, monkeypatch)

    first = clone.run(*BUILD)

    assert (first.code, first.data["summary"]["counts"]) == (0, {"up to date": TEMPLATES})
    assert not (clone.root / ".sandboxfile/stat-cache").exists()
    second = clone.command(*BUILD)
    assert (second.code, second.data["summary"]["counts"]) == (0, {"up to date": TEMPLATES})
    clone.write("d007/one", "8")  # as long as before
    third = clone.command("plan", "--offline", "--json")
    assert third.stale == ["t007"]
