"""What was asked of a service and what it answered, on disk before and after each effect.

One file for each target, one JSON object a line. An intent is written before the effect, a receipt
after it, each fsynced before the caller goes on; so whatever kills the program, an ID that the
service gave is found again, and a build that may have been started is not started twice.

Processes take turns, template by template: whoever has the `turn()` of one acts on it alone, and
what others wrote meanwhile is read first. Two processes with the same template and content
therefore meet: the second finds the first one's build in the journal and follows it. The file
itself is locked only while it is read and appended to.
"""

import errno
import json
import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

from sandboxfile import flock, reading
from sandboxfile.cancel import Cancel
from sandboxfile.errors import SandboxfileError
from sandboxfile.events import Emit, Notice
from sandboxfile.frozen import as_dict, dataclass
from sandboxfile.turns import POLL_S, Turns, is_current

Step = Literal["register", "registered", "pushed", "trigger", "triggered", "ready", "closed"]

STEPS: frozenset[str] = frozenset(get_args(Step))
BRIEF_S = 2.0  # nobody holds the file itself for longer, unless it is stopped (or an older version)
_SOON_S = 0.002
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line: how far the build of `content` (a content tag) of `template` has come.

    register: about to ask for IDs; registered: they came; pushed: the image is where the service
    reads it (v1); trigger: about to start the build; triggered: the service said yes; ready: done;
    closed: void, nothing to resume. Never a key, a URL with a query, or a variable's value.
    """

    template: str
    content: str
    step: Step
    template_id: str = ""
    build_id: str = ""
    image: str = ""


class JournalFailed(SandboxfileError):  # noqa: N818 - named for what it says
    """A record could not be made durable; its content is in the message so that it is not lost."""


class JournalUnusable(SandboxfileError):  # noqa: N818 - named for what it says
    """The file of a journal cannot be written, as in a read-only checkout or on a full disk."""


def peek(path: Path) -> Mapping[str, Record]:
    """Return what each template was left at, without a turn, and without making the file.

    A journal that is not there, or is damaged, says nothing here; `Journal.open` tells.
    """
    try:
        lines, _ = _lines(reading.regular(path))
    except (OSError, ValueError):
        return {}
    last = {record.template: record for _, record in lines}
    return {name: record for name, record in last.items() if record.step != "closed"}


class Journal:
    """The journal of one target. Threads may share it; `cancel` ends every long wait."""

    def __init__(self, path: Path, *, emit: Emit, cancel: Cancel) -> None:
        self._path = path
        self._emit = emit
        self._cancel = cancel
        self._lock = threading.RLock()
        self._turns = Turns(path.with_suffix(".turns"), cancel)
        self._file = -1
        self._end = 0
        self._seq = 0
        self._last: dict[str, Record] = {}
        self._appended: dict[str, Record] = {}  # in the file, perhaps not on the disk yet

    @classmethod
    def open(cls, path: Path, *, emit: Emit, cancel: Cancel) -> "Journal":
        """Open the journal at `path` (made with mode 0600 if missing), and read it.

        A torn last line is as if never written. Any other damage sets the whole file aside as
        `<path>.bad`, with a Notice. One that cannot be written, as in a read-only checkout, can be
        asked all the same: whoever wants a turn, or to write, is told. Raises SandboxfileError for
        what is no file.
        """
        journal = cls(path, emit=emit, cancel=cancel)
        try:
            with journal._alone():
                return journal
        except JournalUnusable:
            journal._last = {**peek(path)}
            return journal

    def pending(self, template: str) -> Record | None:
        """Return the last record of a template, None when there is nothing to resume."""
        with self._lock:
            record = self._last.get(template)
        return record if record and record.step != "closed" else None

    def write(self, record: Record) -> None:
        """Append a record and wait until it is on disk. Raises JournalFailed, Cancelled."""
        with self._alone():
            line = _line(self._seq + 1, record)
            try:
                self._append(line)
                file = os.dup(self._file)
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(self._file, self._end)
                raise _failed(self._path, record, error) from None
            self._seq += 1
            self._end += len(line)
            self._appended[record.template] = record
        try:
            os.fsync(file)  # while others append: the disk takes what is there in one go
        except OSError as error:
            raise _failed(self._path, record, error) from None
        else:
            with self._lock:
                self._last[record.template] = record
        finally:
            os.close(file)
            with self._lock:
                self._appended.pop(record.template, None)

    @contextmanager
    def turn(self, template: str) -> Iterator[None]:
        """Keep other processes from a template while the block runs; threads share the turn.

        Waiting for it raises Cancelled when the run is stopped; a free turn is had even then.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._turns.turn(template))
            except OSError as error:
                raise self._unusable(error) from None
            with self._alone():
                pass  # what others wrote is read
            yield

    def close(self) -> None:
        """Keep the last record of each template only, atomically, and close the file."""
        with self._lock:
            if self._file < 0:
                return
            with suppress(OSError, SandboxfileError), self._alone():
                self._compact()
            os.close(self._file)
            self._file = -1

    def _append(self, line: bytes) -> None:
        os.ftruncate(self._file, self._end)  # what is left of a torn line
        os.lseek(self._file, self._end, os.SEEK_SET)
        _write(self._file, line)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Have the file to oneself, and what others wrote to it read."""
        with self._lock:
            self._acquire()
            try:
                self._refresh()
                yield
            finally:
                flock.release(self._file)

    def _acquire(self) -> None:
        """Lock the file that `path` names now: another process may have replaced it meanwhile."""
        try:
            while True:
                if self._file < 0:
                    self._file = _open(self._path)
                    self._end = 0
                self._lock_file()
                if is_current(self._file, self._path):
                    return
                os.close(self._file)
                self._file = -1
        except OSError as error:
            raise self._unusable(error) from None

    def _lock_file(self) -> None:
        """Wait for the file; a stopped run too waits a moment, for it may have IDs to write."""
        brief = time.monotonic() + BRIEF_S
        while not flock.attempt(self._file):
            if time.monotonic() < brief:
                time.sleep(_SOON_S)
            else:
                self._cancel.wait(POLL_S)

    def _unusable(self, error: OSError) -> SandboxfileError:
        kind = JournalUnusable if error.errno in _UNWRITABLE else SandboxfileError
        return kind(
            f"cannot use the journal `{self._path}`: {error.strerror}",
            hint="builds at a service are not started without one",
        )

    def _refresh(self) -> None:
        """Read what was appended since; from the beginning when the file is another one."""
        size = os.fstat(self._file).st_size
        if self._end and self._end == size:
            return  # every append is whole, and under the lock: same size, same content
        if size < self._end:
            self._end = 0
        if self._end == 0:
            self._seq, self._last = 0, {}
        try:
            lines, read = _read(self._file, self._end)
        except ValueError:
            self._set_aside()
            return
        self._end += read
        self._seq = max((seq for seq, _ in lines), default=self._seq)
        self._last.update((record.template, record) for _, record in lines)

    def _set_aside(self) -> None:
        bad = self._path.with_name(self._path.name + ".bad")
        self._path.replace(bad)
        os.close(self._file)
        self._file, self._seq, self._last = -1, 0, {}
        self._acquire()
        text = f"the journal `{self._path}` was damaged; it is now `{bad.name}`"
        self._emit(Notice(job="", text=text, level="warning"))

    def _compact(self) -> None:
        # A worker that the run no longer waits for may be about to have its record on disk.
        last = {**self._last, **self._appended}
        kept = [record for record in last.values() if record.step != "closed"]
        content = b"".join(_line(self._seq + n, record) for n, record in enumerate(kept, 1))
        if len(content) == self._end:
            return
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        fresh.replace(self._path)
        _sync_directory(self._path.parent)


def _line(seq: int, record: Record) -> bytes:
    filled = {name: value for name, value in as_dict(record).items() if value}
    fields = {"seq": seq, **filled}
    return json.dumps({"crc": _crc(fields), **fields}).encode() + b"\n"


def _crc(fields: object) -> str:
    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"


def _read(file: int, start: int) -> tuple[list[tuple[int, Record]], int]:
    """Return the records from `start` on with their numbers, and how many bytes these are.

    Raises ValueError when anything but the last line is damaged.
    """
    if os.fstat(file).st_size > reading.LIMIT:
        raise ValueError("nothing that was written here")
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(start)
        return _lines(stream.read())


def _lines(content: bytes) -> tuple[list[tuple[int, Record]], int]:
    lines = content.splitlines(keepends=True)
    if lines and not _is_whole(lines[-1]):
        lines.pop()
    return [_parse(line) for line in lines], sum(map(len, lines))


def _is_whole(line: bytes) -> bool:
    try:
        _parse(line)
    except ValueError:
        return False
    return line.endswith(b"\n")


def _parse(line: bytes) -> tuple[int, Record]:
    try:
        fields = json.loads(line)
        crc, seq = fields.pop("crc"), fields["seq"]
        if crc != _crc(fields) or fields["step"] not in STEPS:
            raise ValueError("checksum")
        del fields["seq"]
        if not all(isinstance(value, str) and value.isprintable() for value in fields.values()):
            raise ValueError("a record is text")  # a checkout may bring what would harm a terminal
        return int(seq), Record(**fields)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    _sync_directory(path.parent)
    return file


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _failed(path: Path, record: Record, error: OSError) -> JournalFailed:
    known: Iterable[tuple[str, str]] = (
        (name, value) for name, value in as_dict(record).items() if value
    )
    return JournalFailed(
        f"cannot write to the journal `{path}`: {error.strerror}; {json.dumps(dict(known))}",
        hint="keep this line: it names what exists at the service",
    )
