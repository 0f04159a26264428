"""What the service is sent for a copy: under which hash, in which archive (docs/protocol.md, 3).

A copy of one path without a glob is sent as the official clients send it: the members are named
from the directory that states the copy, and the source is as it is written, so that the hash is
theirs too. Everything else (several sources, globs, `..`) is laid out in one directory of the
archive, as it is to arrive, and copied as that directory: the service takes the first source
only, and that up to its first glob character.
"""

import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from posixpath import normpath
from stat import S_IFDIR, S_IFLNK, S_IFREG

from sandboxfile import archive
from sandboxfile.archive import Member
from sandboxfile.contents import Selection, as_bytes
from sandboxfile.frozen import dataclass
from sandboxfile.statcache import Digests
from sandboxfile.steps import Sent

LAID_OUT = "files"  # the directory that is copied where the source cannot be named

_TYPES = {"file": S_IFREG, "directory": S_IFDIR, "link": S_IFLNK}
_GZIP = 31  # zlib's window of 32 KiB, with the header of gzip: time 0 and no name (RFC 1952)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The files of one copy as they are sent, and how its step names them."""

    sent: Sent
    members: tuple[Member, ...]

    def files_hash(self) -> str:
        """Return the hash under which the service keeps these files; reads all of them.

        Raises SandboxfileError when a file is no longer what the key says.
        """
        return files_hash(self.sent.source, self.sent.to, self.members)

    def packed(self) -> Iterator[bytes]:
        """Yield the archive, compressed: the same bytes for the same members. Raises as above."""
        packer = zlib.compressobj(wbits=_GZIP)
        for chunk in archive.stream(self.members):
            yield packer.compress(chunk)
        yield packer.flush()


def upload(selection: Selection, digests: Digests) -> Upload:
    """Return what is sent for the copy of a selection."""
    copy = selection.copy
    assert copy is not None
    source, name = copy.sources[0], normpath(copy.sources[0])
    if len(copy.sources) > 1 or not _is_plain(source, name):
        members = archive.directory(LAID_OUT, selection, digests, mode=copy.mode)
        return Upload(sent=Sent(source=LAID_OUT, to=copy.to.rstrip("/") + "/"), members=members)
    if selection.single:
        mode = copy.mode.zfill(4) if copy.mode else ""
        members = (archive.file(name, selection.entries[0], digests),)
        return Upload(sent=Sent(source=source, to=copy.to, mode=mode), members=members)
    # The service would give a mode to directories too, which nobody could enter then.
    members = archive.directory(name, selection, digests, mode=copy.mode)
    return Upload(sent=Sent(source=source, to=copy.to), members=members)


def files_hash(source: str, to: str, members: Iterable[Member]) -> str:
    """Return the hash of a copy of these members from `source` to `to`, both as written.

    SHA-256 over `COPY source to` and, for each member in the order of code points: its path, its
    whole mode word, its size and its content or the text of a link, nothing between them; `.`
    comes first. The sizes of directories are left out, since they differ from one file system to
    the next (docs/protocol.md, 3.4).
    """
    hashed = sha256(f"COPY {source} {to}".encode())
    for member in sorted(members, key=lambda each: (each.name != ".", each.name)):
        hashed.update(as_bytes(member.name))
        hashed.update(b"%d" % (_TYPES[member.kind] | member.mode))
        for piece in _pieces(member):
            hashed.update(piece)
    return hashed.hexdigest()


def _pieces(member: Member) -> Iterator[bytes]:
    """Yield size and content of a member."""
    if member.kind == "link":
        link = as_bytes(member.link)
        yield b"%d%b" % (len(link), link)
    elif member.path is not None:
        yield b"%d" % member.size
        yield from archive.content(member, member.path)


def _is_plain(source: str, name: str) -> bool:
    """Tell whether a source names one path below its directory, tidily."""
    if name.partition("/")[0] == ".." or any(letter in source for letter in "*?[\\"):
        return False
    return source.removeprefix("./").rstrip("/") in {name, "", "."}
