"""COPY steps: which members of an uploaded archive go where, as an archive of our own making.

What the engine unpacks is written here, member by member, with owner and mode already right: the
image needs no tools, and nothing that a client sent reaches the engine unread. The rules are those
of docs/protocol.md, 3.6.
"""

import gzip
import posixpath
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tarfile import (
    BLOCKSIZE,
    DIRTYPE,
    GNU_FORMAT,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    REGTYPE,
    SOLARIS_XHDTYPE,
    XGLTYPE,
    XHDTYPE,
    HeaderError,
    ReadError,
    TarError,
    TarFile,
    TarInfo,
)
from typing import BinaryIO, TypeVar, cast

from sandboxfile.frozen import dataclass, field

CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
LIMIT = 20_480 << 20  # bytes unpacked: the disk of a sandbox (docs/protocol.md, 6)
DIRECTORY = 0o755  # mode of directories that the archive does not name
NAME_LIMIT = 4096  # characters (limits.h, PATH_MAX): each directory of a name costs an entry
HEADER_LIMIT = 1 << 20  # bytes of one header about a member, which the library holds in memory
HEADERS_LIMIT = 2 * HEADER_LIMIT  # of all that is said of a member, a sparse file's map too
MEMBER_LIMIT = LIMIT >> 14  # files of such a disk: mke2fs(8) makes an inode for each 16 KiB
TRAILER_LIMIT = 16 << 20  # bytes behind the end of the archive, which pads to its block
_TIME_LIMIT = 1 << 40
_ABOUT = frozenset({XHDTYPE, XGLTYPE, SOLARIS_XHDTYPE, GNUTYPE_LONGNAME, GNUTYPE_LONGLINK})
_GLOB = re.compile(r"[*?\[{]")
_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
BROKEN = (TarError, zlib.error, EOFError, OSError)
_END = bytes(2 * BLOCKSIZE)
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A COPY step taken apart; `owner` is empty for the current user, `mode` None to keep it."""

    source: str
    destination: str
    owner: str
    mode: int | None

    @classmethod
    def of(cls, args: tuple[str, ...]) -> "Copy":
        """Read `[source, destination, owner, mode]`. Raises ValueError."""
        source, destination, owner, mode = (*args, "", "")[:4]
        if owner and not _OWNER.fullmatch(owner):
            raise ValueError(f"'{owner}' cannot be an owner")
        if mode and not _MODE.fullmatch(mode):
            raise ValueError(f"'{mode}' cannot be a mode")
        return cls(
            source=source,
            destination=destination,
            owner=owner,
            mode=int(mode, 8) if mode else None,
        )

    @property
    def is_into(self) -> bool:
        """Whether a file goes inside the destination, even where that is not there yet."""
        return posixpath.basename(self.destination) in {"", ".", ".."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a copy goes in the box: `path`, the deepest directory of it that is there, the owner.

    `path` is absolute and normal; `uid` and `gid` are numbers of the box.
    """

    path: str
    there: str
    uid: int
    gid: int

    @property
    def is_directory(self) -> bool:
        return self.there == self.path


def packed(archive: Path, copy: Copy, place: Place) -> Iterator[bytes]:
    """Yield a plain tar for `place.there` with what the copy takes from the archive.

    Raises ValueError, in the service's words, for an archive that does not have it, cannot be
    read, or would write where a copy must not.
    """
    source = _source(copy.source, archive)
    sink = _Sink(copy=copy, place=place)
    for member, name, tar in _members(archive):
        relative = _below(name, source)
        if relative is not None:
            yield from sink.put(member, relative, tar, source)
    if not sink.is_begun:
        raise ValueError("source path does not exist")
    yield _END


# --- reading ---------------------------------------------------------------------------------


class _Member(TarInfo):
    """A member; the library takes a broken one behind the first for the end of the archive.

    It also holds headers about members in memory, however large, and goes back by negative sizes.
    Not by `frombuf`, which newer Pythons no longer call when they read an archive.
    """

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> "_Member":
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if any(cast("_Metered", tarfile.fileobj).last):  # the end is a block of zeros, or none
                raise ReadError(str(error)) from error
            raise

    def _proc_member(self, tarfile: TarFile) -> TarInfo:
        """Go on behind the first block of a header: the library's own hook for subclasses."""
        if self.size < 0 or (self.type in _ABOUT and self.size > HEADER_LIMIT):
            raise ReadError("a header has an impossible size")
        return cast("TarInfo", super()._proc_member(tarfile))  # type: ignore[misc]


class _Metered:
    """A file that counts what is read of it; `room` is how much may be, None for any amount.

    `last` is what was read last. The library reads all that a member's headers say before it
    tells of the member: a map of a sparse file goes on for as long as each block says that
    another follows.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        self._file = file
        self.room: int | None = HEADERS_LIMIT
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = data = self._file.read(size)
        if self.room is not None:
            self.room -= len(data)
            if self.room < 0:
                raise ReadError("the headers of a member are too large")
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(archive: Path) -> Iterator[TarFile]:
    """Read an archive from its start to its end, packed by gzip or not."""
    with ExitStack() as stack:
        try:
            file: BinaryIO | gzip.GzipFile = stack.enter_context(archive.open("rb"))
            magic = file.read(len(GZIP))
            file.seek(0)
            if magic == GZIP:
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            metered = cast("BinaryIO", _Metered(file))
            begin = partial(TarFile, fileobj=metered, mode="r", tarinfo=_Member)
            yield stack.enter_context(_understood(begin))
            _read_out(file)
        except BROKEN as error:
            # Without where on this machine it is.
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ValueError(f"failed to unpack files: {reason}") from error


def _read_out(file: BinaryIO | gzip.GzipFile) -> None:
    """Read to the end, for the checksum is there."""
    rest = 0
    while chunk := file.read(CHUNK):
        rest += len(chunk)
        if rest > TRAILER_LIMIT:
            raise ReadError("the archive goes on behind its end")


def _each(tar: TarFile) -> Iterator[TarInfo]:
    """Read members as they come, keeping none. Raises ReadError."""
    file = cast("_Metered", tar.fileobj)
    number, size = 0, 0
    while member := _understood(tar.next):
        tar.members = []  # type: ignore[attr-defined] # else every member is kept
        number, size = number + 1, size + HEADERS_LIMIT - (file.room or 0)
        if number > MEMBER_LIMIT:
            raise ReadError(f"it has more than {MEMBER_LIMIT} members")
        if size > LIMIT:
            raise ReadError(f"its headers have more than {LIMIT >> 20} MiB")
        file.room = None  # for the content
        if member.size < 0 or not abs(member.mtime) < _TIME_LIMIT:
            raise ReadError("a header has an impossible size or time")
        if len(member.name) > NAME_LIMIT:
            raise ReadError(f"a name has more than {NAME_LIMIT} characters")
        yield member
        file.room = HEADERS_LIMIT


def _understood(read: Callable[[], _Read]) -> _Read:
    """Read a header, which may be numbers that are none, or headers about headers without end."""
    try:
        return read()
    except (ValueError, OverflowError, RecursionError) as error:
        raise ReadError("a header cannot be read") from error


def _members(archive: Path) -> Iterator[tuple[TarInfo, str, TarFile]]:
    """Read members as they come, with their names in normal form."""
    links: set[str] = set()
    size = 0
    with _opened(archive) as tar:
        for member in _each(tar):
            name = _checked(member, links)
            size += member.size
            if size > LIMIT:
                raise ValueError(f"failed to unpack files: more than {LIMIT >> 20} MiB")
            if member.issym():
                links.add(name)
            yield member, name, tar


def _checked(member: TarInfo, links: set[str]) -> str:
    name = posixpath.normpath(member.name)
    if name.startswith("/") or ".." in member.name.split("/"):
        raise ValueError(f"failed to unpack files: '{member.name}' leads out of the archive")
    if not (member.isfile() or member.isdir() or member.islnk() or member.issym()):
        raise ValueError(
            f"failed to unpack files: '{member.name}' is neither a file, a directory nor a link"
        )
    if links and (link := next((each for each in _above(name) if each in links), None)):
        # As GNU tar: the link comes first, then nothing can be put below it.
        raise ValueError(f"failed to unpack files: '{member.name}' is below the link '{link}'")
    return name


def _above(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name


def _source(text: str, archive: Path) -> str:
    """Return what the source names in the archive: of a glob, the directory before its stars.

    A name that is in the archive as written is no glob, whatever characters it has.
    """
    name = posixpath.normpath(text)
    glob = _GLOB.search(name)
    if not glob or any(_below(each, name) is not None for each in _names(archive)):
        return name
    return posixpath.dirname(name[: glob.start()]) or "."


def _names(archive: Path) -> Iterator[str]:
    with _opened(archive) as tar:
        for member in _each(tar):
            yield posixpath.normpath(member.name)


def _below(name: str, source: str) -> str | None:
    """Return a name relative to the source, empty for the source itself, None for another's."""
    if source == ".":
        return "" if name == "." else name
    if name == source:
        return ""
    return name[len(source) + 1 :] if name.startswith(f"{source}/") else None


# --- writing ---------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Sink:
    """The archive that is being written; `root` is where the source went, relative to `there`."""

    copy: Copy
    place: Place
    root: str | None = None
    is_file: bool = False
    directories: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)

    @property
    def is_begun(self) -> bool:
        return self.root is not None

    def put(self, member: TarInfo, relative: str, tar: TarFile, source: str) -> Iterator[bytes]:
        """Write a member of the source."""
        if self.root is None:
            self.is_file = not relative and not member.isdir()
            self.root = self._root(source)
            # What is missing above; for a directory, its own place too.
            yield from self._parents(self.root if self.is_file else f"{self.root}/-")
        if not relative and member.isdir() and not self.is_file:
            return  # the destination stays as it is, or as it was just made
        if self.is_file and relative:
            raise ValueError(f"failed to unpack files: '{member.name}' is below a file")
        name = posixpath.normpath(posixpath.join(self.root, relative))
        yield from self._parents(name)
        yield from self._written(member, name, tar, source)

    def _root(self, source: str) -> str:
        inside = self.is_file and (self.copy.is_into or self.place.is_directory)
        path = self.place.path
        if inside:
            path = posixpath.join(path, posixpath.basename(source))
        return posixpath.relpath(path, self.place.there)

    def _parents(self, name: str) -> Iterator[bytes]:
        """Write the directories above that nobody wrote; owned like all the rest."""
        missing = [each for each in _above(name) if each not in self.directories]
        for each in reversed(missing):
            if each != ".":
                info = TarInfo(each)
                info.type, info.mode = DIRTYPE, DIRECTORY
                yield self._header(info, each)

    def _written(self, member: TarInfo, name: str, tar: TarFile, source: str) -> Iterator[bytes]:
        if self.copy.mode is not None:
            member.mode = self.copy.mode
        if member.islnk():
            member.linkname = self._linked(member, source)
        if not (member.isdir() or member.issym()):
            self.files.add(name)
        if not member.isfile():
            member.size = 0
            yield self._header(member, name)
            return
        content = tar.extractfile(member)
        assert content is not None
        member.type, member.pax_headers = REGTYPE, {}
        yield self._header(member, name)
        while chunk := content.read(CHUNK):
            yield chunk
        yield bytes(-member.size % BLOCKSIZE)

    def _linked(self, member: TarInfo, source: str) -> str:
        """Return where the other name of a file went: it has to be a file of this same copy."""
        relative = _below(posixpath.normpath(member.linkname), source)
        name = posixpath.normpath(posixpath.join(self.root or "", relative or "."))
        if name not in self.files:
            raise ValueError(
                f"failed to unpack files: '{member.name}' is a link to '{member.linkname}', which"
                " is not among the files before it"
            )
        return name

    def _header(self, member: TarInfo, name: str) -> bytes:
        if member.isdir():
            self.directories.add(name)
        member.name = name
        member.uid, member.gid = self.place.uid, self.place.gid
        member.uname = member.gname = ""
        return member.tobuf(GNU_FORMAT, "utf-8", "surrogateescape")
