import errno
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import journal
from sandboxfile.cancel import Cancel
from sandboxfile.errors import Cancelled, SandboxfileError
from sandboxfile.journal import Journal, JournalFailed, JournalUnusable, Record, Step

BUILD = "3c52915f-59fc-4890-beeb-f249c4ae906c"


def record(step: Step = "registered", template: str = "api", build_id: str = BUILD) -> Record:
    return Record(
        template=template,
        content="sf-1234",
        step=step,
        template_id="wu9ol3m99x5h2d9y63rc",
        build_id=build_id,
        image="ghcr.io/acme/api@sha256:77aa",
    )


def opened(path: Path, cancel: Cancel | None = None) -> Journal:
    return Journal.open(path, emit=lambda _: None, cancel=cancel or Cancel())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "prod.jsonl"


# --- writing and reading ---------------------------------------------------------------------


def test_what_was_written_is_there_in_the_next_run(path: Path) -> None:
    opened(path).write(record())
    assert opened(path).pending("api") == record()


def test_a_new_journal_has_nothing_pending(path: Path) -> None:
    assert opened(path).pending("api") is None


def test_the_last_record_of_a_template_counts(path: Path) -> None:
    journal = opened(path)
    journal.write(record("registered"))
    journal.write(record("trigger"))
    journal.write(record("registered", "other"))
    pending = opened(path).pending("api")
    assert pending is not None
    assert pending.step == "trigger"


def test_nothing_is_pending_after_closed(path: Path) -> None:
    journal = opened(path)
    journal.write(record())
    journal.write(record("closed"))
    assert journal.pending("api") is None
    assert opened(path).pending("api") is None


def test_lines_are_numbered_and_checked(path: Path) -> None:
    journal = opened(path)
    journal.write(record("register"))
    journal.write(record("closed"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2]
    assert [line["step"] for line in lines] == ["register", "closed"]
    assert all(len(line["crc"]) == 8 for line in lines)


def test_numbers_go_on_in_the_next_run(path: Path) -> None:
    opened(path).write(record())
    opened(path).write(record("trigger"))
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [1, 2]


def test_only_the_owner_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        journal = opened(path)
        journal.write(record())
        journal.write(record("closed"))
        assert path.stat().st_mode & 0o777 == 0o600
        journal.close()
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_a_record_is_on_disk_before_write_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(path)
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    journal.write(record())
    assert synced == [path.read_bytes()]
    assert BUILD.encode() in synced[0]


def test_a_record_that_is_written_in_pieces_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    journal = opened(path)
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:7])))
    journal.write(record())
    assert opened(path).pending("api") == record()


# --- damage ----------------------------------------------------------------------------------


def test_a_torn_last_line_is_as_if_never_written(path: Path) -> None:
    journal = opened(path)
    journal.write(record("registered"))
    whole = path.stat().st_size
    journal.write(record("trigger"))
    content = path.read_bytes()
    for end in range(whole, len(content)):
        path.write_bytes(content[:end])
        torn = opened(path)
        assert torn.pending("api") == record("registered")
        torn.write(record("ready"))
        assert opened(path).pending("api") == record("ready")
        assert path.read_bytes().count(b"\n") == 2


def test_zeros_after_a_power_cut_are_a_torn_line(path: Path) -> None:
    opened(path).write(record())
    path.write_bytes(path.read_bytes() + bytes(512))
    assert opened(path).pending("api") == record()


def _forged(**changed: object) -> bytes:
    """Return a line with a right checksum, as whoever proposes a checkout could have written it."""
    fields = {"seq": 1, "template": "api", "content": "x", "step": "ready", **changed}
    return json.dumps({"crc": journal._crc(fields), **fields}).encode() + b"\n"


BAD_LINES = [
    b"junk\n",
    b"[]\n",
    b"{}\n",
    b'{"crc": "00000000", "seq": 1, "step": "ready", "template": "api", "content": "x"}\n',
    b"\xff\xfe\n",
    b"[" * 200_000 + b"\n",
    _forged(template=["api"]),
    _forged(template_id="\x1b[2J"),
    _forged(build_id=7),
    _forged(seq=1e999),
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_damage_in_the_middle_sets_the_file_aside(path: Path, line: bytes) -> None:
    events: list[object] = []
    opened(path).write(record())
    damaged = line + path.read_bytes()
    path.write_bytes(damaged)
    journal = Journal.open(path, emit=events.append, cancel=Cancel())
    assert journal.pending("api") is None
    assert path.with_name("prod.jsonl.bad").read_bytes() == damaged
    assert "was damaged; it is now `prod.jsonl.bad`" in str(events)
    journal.write(record("trigger"))
    assert opened(path).pending("api") == record("trigger")


def test_a_file_that_no_run_has_written_is_set_aside_unread(path: Path) -> None:
    opened(path).write(record())
    os.truncate(path, 200 << 30)

    assert opened(path).pending("api") is None
    assert path.with_name("prod.jsonl.bad").exists()


def test_a_step_of_a_later_version_is_damage(path: Path) -> None:
    unknown = Record(template="api", content="x", step="dance")  # type: ignore[arg-type]
    journal = opened(path)
    journal.write(unknown)
    journal.write(record())
    assert opened(path).pending("api") is None
    assert path.with_name("prod.jsonl.bad").exists()


# --- disks that fail -------------------------------------------------------------------------


def test_an_id_that_cannot_be_written_is_in_the_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(path)
    journal.write(record("register"))
    before = path.read_bytes()

    def full(file: int, data: bytes) -> int:
        del file, data
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(JournalFailed, match="No space left on device") as caught:
            journal.write(record())
    assert json.loads(caught.value.message.partition("; ")[2])["build_id"] == BUILD
    assert path.read_bytes() == before
    journal.write(record("trigger"))
    assert opened(path).pending("api") == record("trigger")


def test_a_failing_fsync_is_a_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(path)

    def broken(file: int) -> None:
        del file
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(JournalFailed):
            journal.write(record())
    assert journal.pending("api") is None


def test_a_link_is_not_followed(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(SandboxfileError, match="cannot use the journal"):
        opened(path)
    assert not (path.parent / "elsewhere").exists()


def test_a_directory_in_its_place_is_told(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SandboxfileError, match="Is a directory"):
        opened(path)


# --- several at once -------------------------------------------------------------------------


def test_processes_take_turns_and_see_what_the_others_wrote(path: Path) -> None:
    first, second = opened(path), opened(path)
    order: list[str] = []

    def follow() -> None:
        with second.turn("api"):
            order.append("second")
            pending = second.pending("api")
            order.append(pending.step if pending else "nothing")

    with first.turn("api"):
        thread = threading.Thread(target=follow)
        thread.start()
        thread.join(0.2)
        order.append("first")
        first.write(record("triggered"))
    thread.join()
    assert order == ["first", "second", "triggered"]


def test_a_wait_for_the_turn_ends_when_the_run_is_stopped(path: Path) -> None:
    cancel = Cancel()
    first, second = opened(path), opened(path, cancel)
    with first.turn("api"):
        threading.Timer(0.05, cancel.set).start()
        with pytest.raises(Cancelled), second.turn("api"):
            pass
    second.write(record())


def test_one_template_does_not_wait_for_another(path: Path) -> None:
    first, second = opened(path), opened(path)
    with first.turn("api"), second.turn("other"):
        second.write(record("registered", "other"))
        first.write(record("registered", "api"))
    assert opened(path).pending("other") == record("registered", "other")
    assert opened(path).pending("api") == record("registered", "api")


def test_a_turn_leaves_no_file_behind(path: Path) -> None:
    journal = opened(path)
    with journal.turn("api"):
        assert [each.name for each in path.with_suffix(".turns").iterdir()] == ["api"]
    assert [*path.with_suffix(".turns").iterdir()] == []


def test_what_a_killed_process_left_of_its_turn_stops_nobody(path: Path) -> None:
    journal = opened(path)
    path.with_suffix(".turns").mkdir()
    (path.with_suffix(".turns") / "api").touch()
    with journal.turn("api"):
        journal.write(record())


def test_a_turn_that_cannot_be_had_is_told(path: Path) -> None:
    journal = opened(path)
    path.with_suffix(".turns").touch()
    with pytest.raises(SandboxfileError, match="cannot use the journal"), journal.turn("api"):
        pass


def test_a_record_is_written_while_another_has_the_turn_and_the_run_is_stopped(path: Path) -> None:
    cancel = Cancel()
    first, second = opened(path), opened(path, cancel)
    cancel.set()
    with first.turn("api"):
        second.write(record())  # an ID that came must not be lost
    assert opened(path).pending("api") == record()


def test_a_record_that_waits_for_the_file_is_given_up_when_the_run_is_stopped(path: Path) -> None:
    cancel = Cancel()
    journal = opened(path, cancel)
    with path.open("rb") as held:  # as a stopped process does
        fcntl.flock(held, fcntl.LOCK_EX)
        cancel.set()
        with pytest.raises(Cancelled):
            journal.write(record())
        journal.close()  # which does not wait for ever either


def test_what_others_append_is_read_without_reading_all_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(path), opened(path)
    for number in range(9):
        first.write(record("registered", f"t{number}"))
    with second.turn("api"):
        assert second.pending("t8")
    first.write(record("ready", "t0"))
    parsed: list[bytes] = []
    loads = json.loads

    def load(line: bytes) -> object:
        parsed.append(line)
        return loads(line)

    monkeypatch.setattr(json, "loads", load)
    with second.turn("api"):
        assert second.pending("t0") == record("ready", "t0")
    assert {b"t0" in line for line in parsed} == {True}


def test_a_journal_that_an_older_version_wrote_is_read(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(
        '{"crc": "1ac75c73", "seq": 3, "template": "api", "content": "sf-1234", '
        '"step": "triggered", "template_id": "t1", "build_id": "b1"}\n'
    )
    pending = opened(path).pending("api")
    assert pending is not None
    assert (pending.step, pending.build_id) == ("triggered", "b1")


def test_a_record_is_written_in_a_free_turn_even_after_the_run_was_stopped(path: Path) -> None:
    cancel = Cancel()
    journal = opened(path, cancel)
    cancel.set()
    journal.write(record())
    assert opened(path).pending("api") == record()


def test_threads_of_one_process_share_the_turn(path: Path) -> None:
    journal = opened(path)
    both = threading.Barrier(2, timeout=30)

    def work(template: str) -> None:
        with journal.turn("api"):
            both.wait()
            journal.write(record("registered", template))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = opened(path)
    assert read.pending("a") == record("registered", "a")
    assert read.pending("b") == record("registered", "b")


def test_many_writers_lose_nothing(path: Path) -> None:
    def work(number: int) -> None:
        journal = opened(path)
        for _ in range(5):
            journal.write(record("registered", f"t{number}"))
        journal.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = opened(path)
    assert all(read.pending(f"t{number}") for number in range(6))
    assert not path.with_name("prod.jsonl.bad").exists()


def test_without_locks_one_process_still_works(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: int, operation: int) -> None:
        del file, operation
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    journal = opened(path)
    journal.write(record())
    assert opened(path).pending("api") == record()


def test_a_broken_lock_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: int, operation: int) -> None:
        del file, operation
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(SandboxfileError, match="Input/output error"):
        opened(path)


def test_a_journal_that_was_deleted_is_made_again(path: Path) -> None:
    journal = opened(path)
    journal.write(record())
    path.unlink()
    journal.write(record("trigger"))
    assert opened(path).pending("api") == record("trigger")


# --- closing ---------------------------------------------------------------------------------


def test_closing_keeps_the_last_record_of_each_open_template(path: Path) -> None:
    journal = opened(path)
    for template, step in (
        ("a", "registered"),
        ("a", "ready"),
        ("b", "registered"),
        ("b", "closed"),
        ("c", "trigger"),
    ):
        journal.write(record(step, template))  # type: ignore[arg-type]
    journal.close()
    assert path.read_bytes().count(b"\n") == 2
    read = opened(path)
    assert [read.pending(name) is None for name in "abc"] == [False, True, False]
    read.write(record("ready", "c"))
    assert opened(path).pending("c") == record("ready", "c")


def test_closing_leaves_a_short_journal_as_it_is(path: Path) -> None:
    journal = opened(path)
    journal.write(record())
    before = path.stat().st_ino
    journal.close()
    journal.close()
    assert path.stat().st_ino == before


def test_others_notice_that_the_file_was_replaced(path: Path) -> None:
    first, second = opened(path), opened(path)
    for _ in range(3):
        first.write(record("registered", "a"))
    first.close()
    second.write(record("registered", "b"))
    read = opened(path)
    assert read.pending("a")
    assert read.pending("b")


def test_a_closed_journal_opens_again_by_itself(path: Path) -> None:
    journal = opened(path)
    journal.close()
    journal.write(record())
    assert opened(path).pending("api") == record()


def test_a_leftover_of_an_interrupted_closing_does_not_hurt(path: Path) -> None:
    journal = opened(path)
    path.with_name("prod.jsonl.new").write_text("half")
    for _ in range(2):
        journal.write(record())
    journal.close()
    assert opened(path).pending("api") == record()


def test_closing_drops_nothing_that_another_thread_is_still_writing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, fsync = opened(path), os.fsync
    closed: list[int] = []

    def slow(file: int) -> None:
        if not closed:  # the run ends while a worker waits for the disk
            closed.append(file)
            journal.close()
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    journal.write(record())
    assert closed
    assert opened(path).pending("api") == record()


def test_where_nothing_can_be_written_it_is_read_and_turns_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(path).write(record("triggered"))
    real = os.open

    def read_only(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        journal = opened(path)
        assert journal.pending("api") == record("triggered")
        with pytest.raises(JournalUnusable, match="Read-only file system"), journal.turn("api"):
            pass
        with pytest.raises(JournalUnusable, match="Read-only file system"):
            journal.write(record("ready"))
        journal.close()
    assert opened(path).pending("api") == record("triggered")
