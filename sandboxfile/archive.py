"""The build context as a tar archive: deterministic, streamed, checked against the key.

Same members, same bytes: sorted, time 0, owner 0, modes 0644 or 0755. The headers are our own
(POSIX ustar, IEEE 1003.1 `pax`): Python's `tarfile` takes ten times as long. Every file is hashed
while it is sent, and a file that is no longer what the key says ends the archive with an error.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Literal, NamedTuple

from sandboxfile import environment
from sandboxfile.contents import Entry, Selection, as_bytes, shown
from sandboxfile.errors import SandboxfileError
from sandboxfile.statcache import Digests

# Nothing of a context can be called that (see `context`), so it hides no file of the user's.
DOCKERFILE = ".sandboxfile/Dockerfile"

_BLOCK = 512
_CHUNK = 1 << 20  # what is read of a file, and about what is yielded, at once
_PADDING = tuple(bytes(-size % _BLOCK) for size in range(_BLOCK))
# Neither a link nor a FIFO that took the place of a file is followed or waited for.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME = 100
_SIZE = 8**11  # sizes from here on do not fit into eleven octal digits

_TYPES = {"file": b"0", "directory": b"5", "link": b"2"}


class Member(NamedTuple):
    """One entry of an archive (a tuple: there are tens of thousands).

    A file has `content`, or `path` with the `size` and the `digest` (SHA-256) that it must have;
    the `name` of a directory has no `/` at its end.
    """

    name: str
    kind: Literal["file", "directory", "link"] = "file"
    mode: int = 0o644
    content: bytes = b""
    path: str | None = None
    size: int = 0
    digest: str = ""
    link: str = ""


def members(
    dockerfile: str,
    selections: Mapping[int, Selection],
    digests: Digests,
    kept: Mapping[str, bytes],
) -> tuple[Member, ...]:
    """Return the context of a template: the Dockerfile, and each copy in `copy-<number>/`.

    `digests` must be what the key was computed with; it answers from memory then. `kept` are the
    files that keep the environment (`environment.files`).
    """
    found = [_text(dockerfile), *_environment(kept)]
    for number, selection in selections.items():
        mode = selection.copy.mode if selection.copy else None
        found += directory(f"copy-{number}", selection, digests, mode=mode)
    return tuple(found)


def _environment(kept: Mapping[str, bytes]) -> Iterator[Member]:
    paths = {f"{environment.DIRECTORY}/{path}": content for path, content in kept.items()}
    for name in {parent for path in paths for parent in _parents(path)}:
        yield Member(name, "directory", 0o755)
    for path, content in paths.items():
        yield Member(path, content=content)


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def directory(
    name: str, selection: Selection, digests: Digests, *, mode: str | None = None
) -> tuple[Member, ...]:
    """Return the directory `name` with what a selection takes in it; `.` is the archive itself."""
    prefix = "" if name == "." else f"{name}/"
    entries = (_member(entry, digests, prefix, mode) for entry in selection.entries)
    return (Member(name, "directory", 0o755), *entries)


def file(name: str, entry: Entry, digests: Digests) -> Member:
    """Return one file, under this name."""
    return _member(entry, digests, "", None)._replace(name=name)


def context_members(dockerfile: str, selection: Selection, digests: Digests) -> tuple[Member, ...]:
    """Return the context of the user's own Dockerfile, whose text is `dockerfile` by now."""
    entries = (_member(entry, digests, "", None) for entry in selection.entries)
    return (_text(dockerfile), *entries)


def below(directory: str, found: Iterable[Member]) -> tuple[Member, ...]:
    """Return members as they are called in a directory of an archive with others."""
    inside = (member._replace(name=f"{directory}/{member.name}") for member in found)
    return (Member(directory, "directory", 0o755), *inside)


def _text(dockerfile: str) -> Member:
    return Member(name=DOCKERFILE, content=dockerfile.encode("utf-8", "surrogateescape"))


def _member(entry: Entry, digests: Digests, prefix: str, mode: str | None) -> Member:
    name = prefix + entry.name
    if entry.kind == "link":
        return Member(name, "link", 0o777, link=entry.link)
    if entry.kind == "directory":
        return Member(name, "directory", _directory_mode(mode))
    bits = int(mode, 8) if mode else 0o755 if entry.executable else 0o644
    digest = digests.digest(entry.path, entry.stat)
    return Member(name, "file", bits, path=entry.path, size=entry.size, digest=digest)


def _directory_mode(mode: str | None) -> int:
    """Return a directory's mode: who may read the files of a copy may enter its directories."""
    if mode is None:
        return 0o755
    bits = int(mode, 8) & 0o777
    return bits | (bits & 0o444) >> 2


def stream(found: Iterable[Member]) -> Iterator[bytes]:
    """Yield the archive in chunks of about a megabyte.

    Raises SandboxfileError when a file is not what its digest says, or gone, and for two members
    of one name. Nothing sent so far is a whole archive then.
    """
    pending: list[bytes] = []
    waiting = 0
    last = None
    for name, member in sorted(((as_bytes(m.name), m) for m in found), key=lambda each: each[0]):
        if name == last:
            raise SandboxfileError(
                f"two files of the build context are called `{shown(member.name)}`"
            )
        last = name
        for piece in _pieces(name, member):
            pending.append(piece)
            waiting += len(piece)
            if waiting >= _CHUNK:
                yield b"".join(pending)
                pending.clear()
                waiting = 0
    pending.append(bytes(2 * _BLOCK))
    yield b"".join(pending)


def _pieces(name: bytes, member: Member) -> Iterable[bytes]:
    if member.path is None:
        size = len(member.content)
        return _header(name, member, size), member.content, _PADDING[size % _BLOCK]
    header = _header(name, member, member.size)
    if member.size > _CHUNK:
        return _large(header, member, member.path)
    data = _whole(member.path, member.size)
    if len(data) != member.size or sha256(data).hexdigest() != member.digest:
        raise _changed(member.path)
    return header, data, _PADDING[len(data) % _BLOCK]


def _whole(path: str, size: int) -> bytes:
    """Read a file of this size, and one byte more if there is one."""
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            return os.read(descriptor, size + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _changed(path, error.strerror) from None


def _large(header: bytes, member: Member, path: str) -> Iterator[bytes]:
    yield header
    yield from content(member, path)
    yield _PADDING[member.size % _BLOCK]


def content(member: Member, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces. Raises SandboxfileError at the end if they changed."""
    hashed = sha256()
    left = member.size
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            while left and (data := os.read(descriptor, min(left, _CHUNK))):
                hashed.update(data)
                left -= len(data)
                yield data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _changed(path, error.strerror) from None
    if left or hashed.hexdigest() != member.digest:
        raise _changed(path)


def _changed(path: str, reason: str | None = None) -> SandboxfileError:
    return SandboxfileError(
        f"`{shown(path)}` changed while being read" + (f": {reason}" if reason else ""),
        hint="run again when nothing writes to it",
    )


# --- headers ---------------------------------------------------------------------------------

_FORMAT = b"%b%07o\0000000000\0000000000\000%011o\00000000000000\0%06o\0 %b%bustar\00000%b"
_REST = b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 167
# The checksum counts its own field as spaces.
_FIXED = sum(_FORMAT % (b"", 0, 0, 0, b"", b"", _REST)) - sum(b"%07o%011o%06o\0 " % (0, 0, 0)) + 256


def _header(name: bytes, member: Member, size: int) -> bytes:
    """Return the header of a member, after one of extended attributes where it needs that."""
    link = as_bytes(member.link)
    if member.kind == "directory":
        name += b"/"
    if len(name) <= _NAME and len(link) <= _NAME and size < _SIZE:
        return _ustar(name, member.mode, size, _TYPES[member.kind], link)
    records = {}
    if len(name) > _NAME:
        records[b"path"] = name
    if len(link) > _NAME:
        records[b"linkpath"] = link
    if size >= _SIZE:
        records[b"size"] = b"%d" % size
        size = 0
    kind = _TYPES[member.kind]
    return _extended(records) + _ustar(name[:_NAME], member.mode, size, kind, link[:_NAME])


def _ustar(name: bytes, mode: int, size: int, kind: bytes, link: bytes) -> bytes:
    numbers = b"%07o%011o" % (mode, size)
    checksum = _FIXED + sum(name) + sum(numbers) + sum(kind) + sum(link)
    padded, target = name.ljust(_NAME, b"\0"), link.ljust(_NAME, b"\0")
    return _FORMAT % (padded, mode, size, checksum, kind, target, _REST)


def _extended(records: Mapping[bytes, bytes]) -> bytes:
    """Return a `pax` extended header; names are put there as they are, UTF-8 or not."""
    body = b"".join(_attribute(key, value) for key, value in records.items())
    return _ustar(b"pax", 0o644, len(body), b"x", b"") + body + _PADDING[len(body) % _BLOCK]


def _attribute(key: bytes, value: bytes) -> bytes:
    """Return one record, `<length> <key>=<value>`, whose length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d%b" % (length, rest)
