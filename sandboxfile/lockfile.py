"""`novita.lock`: what bases were resolved to and what was built, per target; text, strict, atomic.

Nothing here knows how entries come about. Text in the form that `render` writes is read without
a YAML parser; all other text takes the long way, which knows the place of every mistake.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sandboxfile import flock
from sandboxfile.entries import ENGINE_PREFIX, VERSION, Change, Entry, Lock, base_name
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.fresh import digest_of
from sandboxfile.frozen import dataclass, field
from sandboxfile.frozen import replace as replaced
from sandboxfile.lockcheck import NEWER, Complaint, complaints
from sandboxfile.locktext import HEADER, quick, render, renewed
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem

__all__ = [
    "ENGINE_PREFIX",
    "HEADER",
    "VERSION",
    "Change",
    "Entry",
    "Latest",
    "Lock",
    "base_name",
    "content",
    "is_as_written",
    "named",
    "naming",
    "parse",
    "read",
    "render",
    "replace",
    "update",
    "write",
]

MAX_BYTES = 16 << 20

_POLL_S = 0.02


# --- reading ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Latest:
    """What was read or written last; the same text is not parsed again."""

    text: str | None = None
    lock: Lock = field(default_factory=Lock)


def read(path: Path, *, latest: Latest | None = None, known: Collection[str] = ()) -> Lock:
    """Read a lock; a missing file is an empty lock.

    `known` are the SHA-256 of texts that are as they are written: they are not checked again.
    Raises ConfigError when the file cannot be read or is not a lock we understand.
    """
    text = content(path)
    if text is None:
        return Lock()
    if latest is None:
        return parse(text, _shown(path), known=known)
    if text != latest.text:
        latest.lock = parse(text, _shown(path))
        latest.text = text
    return latest.lock


def named(path: Path) -> Lock | None:
    """Read a lock that somebody has named, None where there is no file. Raises as `naming`."""
    with naming():
        text = content(path)
        return None if text is None else parse(text, _shown(path))


@contextmanager
def naming() -> Iterator[None]:
    """Raise ConfigError with one problem of a file that somebody has named: it may be anything.

    It is not to be removed, as the lock of a workspace is, which is found again by its keys.
    """
    try:
        yield
    except ConfigError as error:
        first = error.problems[0]
        is_true = first.hint.startswith(_TRUE_OF_ANY)
        raise ConfigError([first if is_true else replaced(first, hint=_NONE)]) from None


_NONE = "this is no lock that sandboxfile has written: name another file"
_READABLE = "look at the path, and at who may read it"
_NO_LINK = "replace the link by the file it points to"
_SOLVED = "`sandboxfile lock --merge` solves it"
_TRUE_OF_ANY = (_READABLE, _NO_LINK, _SOLVED, NEWER)


def parse(text: str, file: str, *, known: Collection[str] = ()) -> Lock:
    """Read the text of a lock; `file` is the name in messages. Raises ConfigError."""
    lock = _recent.get(text)
    if lock is None:
        whole = renewed(text)
        is_known = bool(known) and digest_of(text.encode()).decode() in known
        lock = quick(whole, is_known=is_known) or _careful(whole, file)
        _keep(text, lock)
    return lock


def is_as_written(text: str) -> bool:
    """Say whether a text that was read before without complaints is as it would be written."""
    lock = _recent.get(text)  # which another thread may be about to drop
    return lock is not None and render(lock) == text


_RECENT = 4
_recent: dict[str, Lock] = {}  # by text: a run asks for its locks, and what it wrote, several times


def _keep(text: str, lock: Lock) -> None:
    for each in [*_recent][: 1 - _RECENT]:
        _recent.pop(each, None)
    _recent[text] = lock


def content(path: Path) -> str | None:
    """Return the text of a lock as it is, None without one. Raises ConfigError as `read` does."""
    shown = _shown(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(shown, error) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            what = "a directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "a special file"
            hint = f"remove `{shown}`, or restore the file from version control"
            raise _refused(shown, f"the lock is {what}, not a regular file", hint=hint)
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise _refused(shown, f"the lock is larger than {MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(shown, "this is not UTF-8 text", line=line) from None


def _unreadable(shown: str, error: OSError) -> ConfigError:
    if error.errno == errno.ELOOP:
        return _refused(
            shown,
            "the lock is a symbolic link, which could lead anywhere",
            hint=_NO_LINK,
        )
    return _refused(shown, f"the lock cannot be read: {_reason(error)}", hint=_READABLE)


def _refused(shown: str, message: str, *, line: int = 1, hint: str = "") -> ConfigError:
    return ConfigError([Problem(Position(shown, line, 1), message, hint)])


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _shown(path: Path) -> str:
    here = Path.cwd()
    whole = here / path
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(path)


_CONFLICT = regex(r"^(?:<{7}|\|{7}|>{7})(?: .*)?$", re.MULTILINE)


def _careful(text: str, file: str) -> Lock:
    from sandboxfile.config import (  # the YAML parser costs more than all the rest here
        document,
        parser,
    )

    conflict = _CONFLICT.search(text)
    if conflict is not None:
        at = Position(file, text.count("\n", 0, conflict.start()) + 1, 1)
        raise ConfigError([document.complaint(text, at, "git left a conflict here", _SOLVED, 7)])
    root = parser.parse(text, file, limit=MAX_BYTES)
    plain = root.plain()
    problems = [
        _place(root, complaint, text) for complaint in complaints({} if plain is None else plain)
    ]
    if problems:
        raise ConfigError(problems)
    assert isinstance(plain, dict)
    return _lock(plain)


def _lock(plain: dict[str, Any]) -> Lock:
    return Lock(
        resolved=dict(plain.get("resolved", {})),
        targets={
            target: {name: _entry(entry) for name, entry in templates.items()}
            for target, templates in plain.get("targets", {}).items()
        },
    )


def _entry(plain: dict[str, Any]) -> Entry:
    tags = plain.get("tags")
    return Entry(**{**plain, "tags": None if tags is None else tuple(sorted(tags))})


def _place(root: Any, complaint: Complaint, text: str) -> Problem:
    from sandboxfile.config import document

    node = root.find(complaint.path)
    if complaint.on_key and node.key_at is not None:
        at, width = node.key_at, len(node.key_raw)
    else:
        at, width = node.at, len(node.raw.partition("\n")[0])
    return document.complaint(text, at, complaint.message, complaint.hint, max(1, width))


# --- changing --------------------------------------------------------------------------------


def update(
    path: Path,
    change: Callable[[Lock], Lock],
    *,
    timeout_s: float = 60.0,
    latest: Latest | None = None,
) -> Lock:
    """Change a lock so that no other process's change is lost, and no reader sees half of it.

    The directory is locked (flock), the file read anew, changed, written beside and renamed;
    file and directory are fsynced. Content that stays the same is not written. Returns what the
    file says now. Raises ConfigError if the file is not a lock, SandboxfileError if it cannot be
    written or the directory stays locked for `timeout_s` seconds.
    """
    with _locked(path, timeout_s) as directory:
        old = read(path, latest=latest)
        new = change(old)
        if new != old:
            text = render(new)
            _replace(directory, path, text)
            _keep(text, new)
            if latest is not None:
                latest.text, latest.lock = text, new
        return new


def write(path: Path, lock: Lock) -> None:
    """Write a lock over whatever is there, in the way of `update`. Raises SandboxfileError."""
    with _locked(path, timeout_s=60.0) as directory:
        text = render(lock)
        if content(path) != text:
            _replace(directory, path, text)


def replace(path: Path, lock: Lock, *, seen: str | None) -> None:
    """Write a lock that was made of the text that was `seen` there, in the way of `update`.

    Raises SandboxfileError when another process has written meanwhile: its results would be lost.
    """
    with _locked(path, timeout_s=60.0) as directory:
        now, text = content(path), render(lock)
        if now != seen:
            raise SandboxfileError(
                f"`{_shown(path)}` has been changed meanwhile, by a build perhaps",
                hint="run the command again",
            )
        if now != text:
            _replace(directory, path, text)


@contextmanager
def _locked(path: Path, timeout_s: float) -> Iterator[int]:
    """Hold the lock of a lock's directory, which the kernel gives back even when we are killed.

    A file system that knows no flock on directories (NFS) is used without; there only one
    process at a time may build. Gives a descriptor of the directory.
    """
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        _wait_for_turn(directory, path, timeout_s)
        yield directory
    finally:
        os.close(directory)  # which gives the lock back


def _wait_for_turn(directory: int, path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    try:
        while not flock.attempt(directory):
            if time.monotonic() >= deadline:
                raise SandboxfileError(
                    f"another process has held the directory of `{_shown(path)}` locked for "
                    f"{timeout_s:.0f} s",
                    hint="find it with `lsof` or `fuser`, or wait until it is done",
                )
            time.sleep(_POLL_S)
    except OSError as error:
        raise _unwritable(path, error) from None


def draft(name: str) -> str:
    """Return the name of what becomes the lock `name` once it is whole, beside it.

    One will do: only who holds the lock writes it.
    """
    return f".{name}.new"


def _replace(directory: int, path: Path, text: str) -> None:
    temporary = draft(path.name)
    try:
        with suppress(FileNotFoundError):  # left by a killed process
            os.unlink(temporary, dir_fd=directory)
        try:
            _write(directory, path.name, temporary, text.encode("utf-8"))
            os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        os.fsync(directory)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write(directory: int, name: str, temporary: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o666, dir_fd=directory)
    with os.fdopen(handle, "wb") as file:
        with suppress(FileNotFoundError):
            old = os.stat(name, dir_fd=directory, follow_symlinks=False)
            os.fchmod(handle, stat.S_IMODE(old.st_mode))
        file.write(data)
        file.flush()
        os.fsync(handle)


def _unwritable(path: Path, error: OSError) -> SandboxfileError:
    return SandboxfileError(
        f"`{_shown(path)}` cannot be written: {_reason(error)}",
        hint="what the service has built is not lost: the next `sandboxfile build` finds it again",
    )
