import os
import threading
import time
from pathlib import Path

import pytest

from sandboxfile import lockfile
from sandboxfile.errors import SandboxfileError
from sandboxfile.lockfile import Entry
from sandboxfile.lockwriter import LockWriter

COUNT = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "novita.lock"


def entry(build: str = "b") -> Entry:
    return Entry(
        template_id="t", build_id=build, image_key="sf1:" + "1" * 64, template_key="sf1:" + "2" * 64
    )


def test_what_was_recorded_is_on_disk(path: Path) -> None:
    writer = LockWriter(path)
    assert writer.entry("it", "a") is None
    writer.record("it", "a", entry())
    assert lockfile.read(path).entry("it", "a") == writer.entry("it", "a") == entry()


def test_results_that_come_together_are_written_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LockWriter(path)
    begun, others = threading.Event(), threading.Event()
    renamed: list[str] = []
    rename = os.rename

    def slow(source: str, target: str, **options: int) -> None:
        renamed.append(target)
        begun.set()
        assert others.wait(30)
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", slow)
    threads = [
        threading.Thread(target=writer.record, args=("it", f"t{number}", entry(str(number))))
        for number in range(COUNT)
    ]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    end = time.monotonic() + 30
    while len(writer._waiting) < COUNT - 1:
        assert time.monotonic() < end
        time.sleep(0.001)
    others.set()
    for thread in threads:
        thread.join()
    assert len(renamed) == 2
    assert len(lockfile.read(path).targets["it"]) == COUNT


def test_what_another_process_writes_meanwhile_is_kept(path: Path) -> None:
    writer = LockWriter(path)
    writer.record("it", "a", entry())
    lockfile.update(path, lambda lock: lock.with_entry("it", "b", entry("other")))
    writer.record("it", "c", entry())
    assert {*lockfile.read(path).targets["it"]} == {"a", "b", "c"}
    assert writer.entry("it", "b") == entry("other")


def test_a_lock_that_was_not_changed_is_not_parsed_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LockWriter(path)
    writer.record("it", "a", entry())
    monkeypatch.setattr(lockfile, "parse", lambda *_: pytest.fail("parsed again"))
    writer.record("it", "b", entry())
    assert writer.entry("it", "a") == entry()


def test_a_lock_that_cannot_be_written_fails_in_every_thread(path: Path) -> None:
    path.write_text("not: [a lock\n")
    writer = LockWriter(path)
    for name in ("a", "b"):
        with pytest.raises(SandboxfileError):
            writer.record("it", name, entry())
