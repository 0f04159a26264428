"""What a survey found of each template, kept for as long as nothing that it looked at changes.

It only saves time: a file that cannot be read is none, and losing it costs time, nothing else. It
is opened under a name that has the marks of the configuration in it, inode and change time among
them, which nobody can guess: what a checkout brings along, or was copied from elsewhere, is not
even unpacked. Of a template nothing is believed unless the `lstat` of every file, directory and
ignore file that its survey looked at is the same, directories telling of what came and went, and
its parent's key is. The directories on the way must be the same ones; through links nothing is
kept. Racy files (git's rule): nothing is kept of a template of which something was younger than
two seconds when the run began.

The file: a header with a checksum and the name, and the templates in the format of `marshal`.
"""

import marshal
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from sandboxfile import fresh, looks, reading, writing
from sandboxfile.frozen import dataclass
from sandboxfile.keys import Keys
from sandboxfile.looks import Looked, Seen
from sandboxfile.statcache import SLACK_NS

_MAGIC = b"sfsurv1\n"
_HEADER = struct.Struct("<8sI32s")  # magic, CRC-32 of the rest, the name it goes under


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a survey found of a template below `top`, and what shows that it is still true."""

    keys: Keys
    looked: Looked
    top: str

    @property
    def seen(self) -> Iterator[Seen]:
        """The mark of what is there, by absolute path."""
        return looks.pairs(self.looked, self.top)

    @property
    def absent(self) -> frozenset[str]:
        """The paths (absolute) that were looked for and are not there."""
        return frozenset([self.top + path for path in looks.split(self.looked.absent)])

    @property
    def above(self) -> Iterator[str]:
        """The directories (absolute) of all these paths, but for those that were `seen`."""
        return ((self.top + path).rstrip("/") for path in self.looked.above)


class _Kept(NamedTuple):
    """One template as it lies in the file; paths, between zero bytes, begin at the root.

    `ways` are the directories that lead to `paths`, each behind its inode.
    """

    parent: str
    image_key: str
    template_key: str
    parts: Mapping[str, str]
    paths: bytes
    marks: bytes
    absent: bytes
    ways: tuple[tuple[str, int], ...]


def name(identity: bytes, *decisive: object) -> bytes:
    """Return what a file goes under: a digest of all that is the same for all of its templates.

    `identity` is that of the workspace, with the program that loaded it; what else is given must
    have a `repr` that tells it apart.
    """
    return sha256(ascii((identity, os.geteuid(), decisive)).encode()).digest()


class Recall:
    """The surveys kept in one file, read for one run; `since` is when that began (ns)."""

    def __init__(self, file: Path, name: bytes, *, root: Path, since: int) -> None:
        self._file = file
        self._name = name
        self._since = since
        self._top = looks.slashed(os.fspath(root))
        self._kept = _load(file, name)
        self._changed = False
        self._inodes: dict[str, int] = {}
        self._absent: dict[str, bool] = {}

    def find(self, template: str, *, parent: str) -> Known | None:
        """Return what is known of a template whose parent has this image key, if still true."""
        kept = self._kept.get(template)
        if kept is None or kept.parent != parent:
            return None
        paths = [self._top + path for path in looks.split(kept.paths)]
        try:
            marks = b"".join(map(fresh.mark, map(os.lstat, paths)))
        except (OSError, struct.error):
            return None
        return self._known(kept) if marks == kept.marks and self._leads(kept) else None

    def _known(self, kept: _Kept) -> Known:
        return Known(
            keys=Keys(image_key=kept.image_key, template_key=kept.template_key, parts=kept.parts),
            looked=Looked(
                paths=kept.paths,
                marks=kept.marks,
                absent=kept.absent,
                above=("", *(way for way, _ in kept.ways)),
            ),
            top=self._top,
        )

    def _leads(self, kept: _Kept) -> bool:
        """Say whether the ways are the same, and what was not there is not there."""
        same_ways = all(self._inode(way) == inode for way, inode in kept.ways)
        return same_ways and all(map(self._is_absent, looks.split(kept.absent)))

    def _inode(self, way: str) -> int:
        """Return the inode of a directory, 0 for what is none; each is looked at once."""
        if way not in self._inodes:
            self._inodes[way] = looks.inode(self._top + way)
        return self._inodes[way]

    def _is_absent(self, path: str) -> bool:
        if path not in self._absent:
            self._absent[path] = not os.path.lexists(self._top + path)
        return self._absent[path]

    def add(self, template: str, keys: Keys, *, parent: str, looked: Looked) -> Known | None:
        """Take what was found of a template, if it can be trusted; else nothing is known of it.

        Returns what is known from now on.
        """
        self._changed = self._kept.pop(template, None) is not None or self._changed
        if fresh.newest(looked.marks) + SLACK_NS > self._since:
            return None
        try:
            ways = self._ways(looked.above)
        except ValueError:
            return None
        self._kept[template] = _Kept(
            parent=parent,
            image_key=keys.image_key,
            template_key=keys.template_key,
            parts=dict(keys.parts),
            paths=looked.paths,
            marks=looked.marks,
            absent=looked.absent,
            ways=ways,
        )
        self._changed = True
        return Known(keys=keys, looked=looked, top=self._top)

    def forget(self, template: str) -> None:
        """Drop what is kept of a template, for later runs too: it has turned out not to be true."""
        if self._kept.pop(template, None) is not None:
            self._changed = True
            self.save()

    def told(self, template: str) -> tuple[object, ...] | None:
        """Return in plain data what is known of a template, for `learn` of another process."""
        kept = self._kept.get(template)
        return None if kept is None else tuple(kept)

    def learn(self, template: str, told: tuple[Any, ...]) -> Known:
        """Take what another process of this run has found."""
        self._kept[template] = kept = _Kept(*told)
        self._changed = True
        return self._known(kept)

    def _ways(self, above: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
        """Return directories and all that lead to them, with their inodes.

        Raises ValueError for one that is a link: it may lead elsewhere without a change here.
        """
        ways: dict[str, int] = {}
        for way in above:
            while way and way not in ways:
                ways[way] = inode = self._inode(way)
                if not inode:
                    raise ValueError(way)
                way = way.rpartition("/")[0]  # noqa: PLW2901 - upwards
        return tuple(ways.items())

    def save(self) -> None:
        """Write what is known, atomically; what cannot be written is left as it was."""
        if not self._changed:
            return
        body = marshal.dumps({template: tuple(kept) for template, kept in self._kept.items()})
        with suppress(OSError):
            writing.whole(self._file, _HEADER.pack(_MAGIC, crc32(body), self._name) + body)
            self._changed = False


def _load(file: Path, name: bytes) -> dict[str, _Kept]:
    try:
        content = reading.own(file)
        magic, checksum, found = _HEADER.unpack_from(content)
        body = content[_HEADER.size :]
        if magic != _MAGIC or found != name or checksum != crc32(body):
            return {}
        kept = marshal.loads(body)  # written here: nobody else knows the name  # noqa: S302
        return {template: _Kept(*each) for template, each in kept.items()}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, struct.error):
        return {}
