"""Kill -9 at every system call that writes: what is read afterwards is old or new, never torn."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from sandboxfile import lockfile
from sandboxfile.cancel import Cancel
from sandboxfile.journal import Journal
from sandboxfile.lockfile import Lock
from sandboxfile.statcache import StatCache
from tests.conftest import needs
from tests.fakes.program import SOURCE
from tests.fakes.scene import Scene

CALLS = ("openat", "unlink", "unlinkat", "write", "fsync", "rename", "renameat", "ftruncate")
DIGEST = "sha256:" + "0" * 64
OLD, NEW = Lock(resolved={"old": DIGEST}), Lock(resolved={"old": DIGEST, "new": DIGEST})


@pytest.fixture(scope="module", autouse=True)
def strace() -> str:
    return needs("strace")


def killed(
    command: list[str],
    paths: Sequence[Path | str],
    before: Callable[[], object],
    *,
    calls: tuple[str, ...] = CALLS,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, subprocess.CompletedProcess[bytes]]]:
    """Kill the command at each of its calls on these paths; the last of each kind gets through."""
    traced = [part for path in paths for part in ("-P", str(path))]
    for call in calls:
        for number in range(1, 100):
            before()
            inject = f"inject={call}:signal=KILL:when={number}"
            done = subprocess.run(
                ["strace", "-f", "-qq", "-o", "/dev/null", *traced, "-e", f"trace={call}",
                 "-e", inject, *command],
                capture_output=True, check=False, timeout=60, cwd=cwd, env=environ,
            )  # fmt: skip
            yield f"{call} {number}", done
            if done.returncode != -signal.SIGKILL:
                assert done.returncode == 0, done.stderr
                break


def script(text: str, *arguments: Path) -> list[str]:
    return [sys.executable, "-S", "-c", text, *map(str, arguments)]


WRITE_LOCK = f"""
import sys; sys.path.insert(0, {str(SOURCE)!r})
from pathlib import Path
from sandboxfile import lockfile
lockfile.update(Path(sys.argv[1]), lambda lock: lock.with_resolved({dict(NEW.resolved)!r}))
"""


@pytest.mark.parametrize("old", [Lock(), OLD], ids=["first", "another"])
def test_a_lock_is_the_old_one_or_the_new_one(tmp_path: Path, old: Lock) -> None:
    path = tmp_path / "novita.lock"

    def before() -> None:
        path.unlink(missing_ok=True)
        lockfile.update(path, lambda _: old)

    paths: Sequence[Path | str] = [
        tmp_path,
        path,
        path.with_name(".novita.lock.new"),
        ".novita.lock.new",
    ]
    seen = []
    for point, done in killed(script(WRITE_LOCK, path), paths, before):
        assert path.exists() or old == Lock(), point
        found = lockfile.read(path)
        assert found in (old, NEW), point
        assert done.returncode != 0 or found == NEW, point
        seen.append((done.returncode == 0, found == NEW))
        lockfile.update(path, lambda _: NEW)
        assert [each.name for each in tmp_path.iterdir()] == ["novita.lock"], point
    assert {(False, False), (False, True), (True, True)} <= set(seen)


WRITE_JOURNAL = f"""
import sys; sys.path.insert(0, {str(SOURCE)!r})
from pathlib import Path
from sandboxfile.cancel import Cancel
from sandboxfile.journal import Journal, Record
journal = Journal.open(Path(sys.argv[1]), emit=print, cancel=Cancel())
for step in ("register", "registered", "trigger", "triggered"):
    ids = {{}} if step == "register" else {{"template_id": "t", "build_id": "b"}}
    journal.write(Record(template="one", content="sf-1", step=step, **ids))
    sys.stdout.write(step + "\\n"); sys.stdout.flush()
journal.close()
"""


def test_a_journal_keeps_what_was_written_before_the_kill(tmp_path: Path) -> None:
    path = tmp_path / "state" / "far.jsonl"
    steps = ["", "register", "registered", "trigger", "triggered"]

    def before() -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()

    paths = [path, path.parent, path.with_name("far.jsonl.new")]
    count = 0
    for point, done in killed(script(WRITE_JOURNAL, path), paths, before):
        told = len(done.stdout.split())
        journal = Journal.open(path, emit=print, cancel=Cancel())
        record = journal.pending("one")
        kept = steps.index(record.step) if record else 0
        journal.close()
        assert told <= kept <= told + 1, point
        assert not path.with_name("far.jsonl.bad").exists(), point
        count += done.returncode != 0
    assert count > 10


WRITE_CACHE = f"""
import os, sys; sys.path.insert(0, {str(SOURCE)!r})
from pathlib import Path
from sandboxfile.statcache import StatCache
cache = StatCache.open(Path(sys.argv[1]), root=Path("/"), clock=lambda: 1 << 62)
cache.digest(sys.argv[2], os.lstat(sys.argv[2]))
cache.save()
"""


def test_a_stat_cache_is_whole_or_empty(tmp_path: Path) -> None:
    path, file = tmp_path / "state" / "stat-cache", tmp_path / "file"
    file.write_text("content")

    def before() -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()

    command = script(WRITE_CACHE, path, file)
    before()
    subprocess.run(command, check=True)
    whole = path.read_bytes()
    for point, _ in killed(command, [path, path.parent], before):
        assert not path.exists() or path.read_bytes() == whole, point
        StatCache.open(path, root=Path("/")).save()


@pytest.mark.engine
def test_a_build_killed_while_it_writes_is_finished_by_the_next(
    set_scene: Callable[[str], Scene],
) -> None:
    stage = set_scene("v3")
    stage.write()
    stage.workspace.build()
    work, new = stage.workspace, stage.workspace.lock
    path = work.lock_path
    command = [sys.executable, "-m", "sandboxfile", "build", "--target", work.target]
    paths: Sequence[Path | str] = [
        work.root,
        path.with_name(".novita.lock.new"),
        ".novita.lock.new",
    ]

    def before() -> None:
        shutil.rmtree(work.root / ".sandboxfile")
        path.unlink()

    # The service has the build: it is found there, and the lock is written anew.
    for point, done in killed(
        command,
        paths,
        before,
        calls=("write", "fsync", "renameat"),
        cwd=work.root,
        environ=work.environ,
    ):
        found = lockfile.read(path)
        for name, entry in found.targets.get("far", {}).items():
            assert entry.build_id == new.targets["far"][name].build_id, point
        assert done.returncode != 0 or found == new, point
        work.build()
        assert work.lock == new, point
        assert stage.leftovers() == [], point
