"""Child processes: lines as they come, ended with everything they started."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile.cancel import Cancel
from sandboxfile.errors import Cancelled, SandboxfileError, Unreachable
from sandboxfile.process import Command, LineSplitter, run


def shell(script: str, *arguments: str) -> Command:
    return Command(argv=("/bin/sh", "-c", script, "sh", *arguments))


def gone(pid: int) -> bool:
    """Say whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < end, f"process {pid} still runs"
        time.sleep(0.02)


# --- lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"ne", b"\nt", b"wo"], ["one", "two"]),
        ([b"one\r\ntwo\r\n"], ["one", "two"]),
        ([b"one\r", b"\n"], ["one"]),
        ([b"\n\n"], ["", ""]),
        ([b"a\rb\n"], ["a\rb"]),
        (["h\u00e9".encode()[:2], "h\u00e9".encode()[2:], b"\n"], ["h\u00e9"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
        ([b"a\x0bb\x85c\x1cd\n"], ["a\x0bb\ufffdc\x1cd"]),  # only a newline ends a line
        ([], []),
        ([b""], []),
    ],
)
def test_pieces_become_lines(pieces: list[bytes], lines: list[str]) -> None:
    splitter = LineSplitter()
    found = [line for piece in pieces for line in splitter.feed(piece)]
    assert found + splitter.flush() == lines


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_line_over_the_limit_comes_in_parts(size: int) -> None:
    splitter = LineSplitter(limit=10)
    data = b"x" * 25 + b"\n" + b"y" * 10 + b"\n"
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    found = [line for piece in pieces for line in splitter.feed(piece)]
    assert "".join(found) == "x" * 25 + "y" * 10
    assert max(map(len, found)) == 10
    assert found[-1] == "y" * 10
    assert splitter.flush() == []


@pytest.mark.parametrize("text", ["\u20ac" * 9, "\U0001f600" * 9, "a" + "\u00e9" * 20])
def test_a_cut_never_splits_a_character(text: str) -> None:
    splitter = LineSplitter(limit=10)
    assert "".join(splitter.feed(text.encode()) + splitter.flush()) == text


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])), st.data())
def test_nothing_is_lost_however_the_bytes_arrive(text: str, draw: st.DataObject) -> None:
    data, found = text.encode(), []
    splitter = LineSplitter(limit=draw.draw(st.integers(4, 30)))
    while data:
        size = draw.draw(st.integers(1, len(data)))
        found += splitter.feed(data[:size])
        data = data[size:]
    assert "".join(found + splitter.flush()) == text.replace("\n", "")


def test_many_small_pieces_of_one_long_line_take_no_square_time() -> None:
    splitter = LineSplitter(limit=1 << 30)
    for _ in range(50_000):  # joined anew at each piece, this would move 1.25 GB
        assert splitter.feed(b"x") == []
    assert len(splitter.feed(b"\n")[0]) == 50_000


# --- commands --------------------------------------------------------------------------------


def test_the_outcome_has_status_and_output() -> None:
    outcome = run(shell("echo out; echo err >&2; exit 3"))
    assert (outcome.status, outcome.stdout, outcome.stderr) == (3, "out\n", ("err",))
    assert outcome.seconds > 0


def test_a_signal_is_a_negative_status() -> None:
    assert run(shell("kill -KILL $$")).status == -9


def test_lines_of_both_streams_come_while_it_runs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    seen: list[str] = []

    def release(line: str) -> None:
        seen.append(line)
        if line == "ready":  # the child waits for us: it has seen nothing of its own end
            (tmp_path / "go").write_text("on")

    run(shell('echo ready; cat "$1"; echo; echo bad >&2', str(tmp_path / "go")), on_line=release)
    assert sorted(seen) == ["bad", "on", "ready"]


def test_stdin_is_written_and_closed() -> None:
    assert run(Command(argv=("cat",), stdin=b"some\nbytes")).stdout == "some\nbytes"
    chunks = (b"%d\n" % n for n in range(1000))
    assert run(Command(argv=("wc", "-l"), stdin=chunks)).stdout.strip() == "1000"


def test_without_stdin_there_is_none() -> None:
    assert run(Command(argv=("cat",))).stdout == ""


def test_a_child_that_reads_no_further_is_not_an_error_of_ours() -> None:
    endless = (b"x" * 65536 for _ in range(10_000))
    assert run(Command(argv=("head", "-c", "3"), stdin=endless)).stdout == "xxx"


def test_an_error_of_the_source_of_stdin_ends_the_child_and_is_raised() -> None:
    def source() -> Iterator[bytes]:
        yield b"first\n"
        raise SandboxfileError("changed while being read")

    with pytest.raises(SandboxfileError, match="changed while being read"):
        run(Command(argv=("cat",), stdin=source()))


def test_the_environment_is_ours_and_what_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    command = Command(argv=("/bin/sh", "-c", 'echo "$OURS $ADDED"'), env={"ADDED": "2"})
    assert run(command).stdout == "1 2\n"


def test_only_the_end_of_stderr_is_kept() -> None:
    outcome = run(shell("seq 1 1000 >&2"))
    assert outcome.stderr[0] == "801"
    assert outcome.stderr[-1] == "1000"


def test_a_missing_program_is_named_with_its_remedy() -> None:
    with pytest.raises(Unreachable) as caught:
        run(Command(argv=("no-such-program",)))
    assert str(caught.value) == (
        "error: `no-such-program` is not installed\n"
        "hint: install `no-such-program` and put it on PATH"
    )
    with pytest.raises(Unreachable) as caught:
        run(Command(argv=("no-such-program",), remedy="apt-get install it"))
    assert caught.value.hint == "apt-get install it"


def test_a_program_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o644)
    with pytest.raises(Unreachable, match="cannot be started: Permission denied"):
        run(Command(argv=(str(tmp_path / "file"),)))


# --- ends ------------------------------------------------------------------------------------


def test_cancelling_ends_the_child_and_its_children() -> None:
    cancel = Cancel()
    pids: list[int] = []

    def note(line: str) -> None:
        pids.append(int(line))
        if len(pids) == 2:
            threading.Thread(target=cancel.set).start()

    with pytest.raises(Cancelled):
        run(shell("echo $$; sleep 100 & echo $!; wait"), on_line=note, cancel=cancel)
    for pid in pids:
        until_gone(pid)


def test_a_child_that_ignores_the_request_is_killed() -> None:
    cancel = Cancel()
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    command = Command(argv=(sys.executable, "-c", f"{script}; time.sleep(100)"))
    with pytest.raises(Cancelled):
        run(command, on_line=lambda _: cancel.set(), cancel=cancel)


def test_a_run_already_cancelled_starts_nothing(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        run(Command(argv=("touch", str(tmp_path / "made"))), cancel=cancel)
    assert not (tmp_path / "made").exists()


def test_a_time_out_ends_the_child() -> None:
    pids: list[int] = []
    with pytest.raises(SandboxfileError, match=r"`/bin/sh` did not end within 0\.3 s"):
        run(
            shell("echo $$; exec sleep 100"),
            on_line=lambda line: pids.append(int(line)),
            timeout_s=0.3,
        )
    until_gone(pids[0])


def test_a_grandchild_that_keeps_the_output_open_does_not_hold_us() -> None:
    outcome = run(shell("echo done; sleep 100 &"))
    assert (outcome.status, outcome.stdout) == (0, "done\n")


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_child() -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        time.sleep(0.2)  # let the main thread come to where it waits
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(shell("echo $$; exec sleep 100"), on_line=interrupt)
    until_gone(pids[0])


def test_an_error_of_the_listener_is_raised() -> None:
    def listener(_: str) -> None:
        raise ValueError("cannot listen")

    with pytest.raises(ValueError, match="cannot listen"):
        run(shell("echo x; exec sleep 100"), on_line=listener)
