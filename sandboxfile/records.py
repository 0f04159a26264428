"""Makes the records that the first stage compares (`fresh`): what a run looked at and said.

Each command line has one. A run that looked at some templates only changes the record of the one
before it: what it did not look at stays as it was there.
"""

import os
import stat as filemode
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping

from sandboxfile import fresh, looks, settled
from sandboxfile.fresh import DIRECTORY, MARK, Look, Record, mark, newest, packed
from sandboxfile.frozen import dataclass
from sandboxfile.looks import Looked
from sandboxfile.statcache import SLACK_NS

_KEPT = 16  # records, and
_BYTES = 1 << 25  # what they may have together
_SIZE = MARK.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a run looked at for one template that is built on `parent`, if on any.

    `looked` has the marks of what it read from before it did; its paths are absolute behind `top`.
    `contents` has the SHA-256 of files as they were read, those that are young at least. `open`
    says that the template is to be looked at again in any case.
    """

    parent: str = ""
    looked: Looked = Looked()
    top: str = ""
    contents: Callable[[], Mapping[str, str]] = dict
    open: bool = False


def remember(
    version: str,
    argv: list[str],
    environ: Mapping[str, str],
    *,
    here: str,
    config: str,
    since: int,
    paths: Iterable[str],
    ways: Mapping[str, int] | None = None,
    seen: Mapping[str, bytes] | None = None,
    told: str,
    printed: str = "",
    read: tuple[str, ...] = (),
    parts: Mapping[str, Part] | None = None,
    contents: Mapping[str, str] | None = None,
    locks: Iterable[str] = (),
    earlier: Look | None = None,
) -> None:
    """Keep what this run, which began at `since` (ns since the epoch), looked at and said.

    `here` is where it was started, `config` the path of the root's `novita.yaml`, `paths` what
    else it looked for, there or not, all absolute; `ways` has the inodes of directories that lead
    to any of it, of which only that they are the same counts, and 0 for what else leads there.
    `seen` has the `mark` of what it read, from before it did. `read` are names of variables of the
    environment that it read besides those of every run; `told` and `printed` are what the next run
    is to write to standard error and standard output. `parts` are what it looked at for templates,
    parents first: all of them, or those of which something had moved when there was an `earlier`
    look at a record. `contents` has the SHA-256 of files that no template owns, as they were read;
    `locks` are those of locks that were as they are written.

    Nothing is kept if some of it is too young to be trusted, its content not known, or changed
    since the run began; of a template that is looked at again.
    """
    root = os.path.dirname(config)  # noqa: PTH120
    try:
        made = _Making(root, here, since)
        made.begin(config, seen or {}, paths, ways or {}, contents or {})
        if earlier is not None and earlier.record is not None:
            made.take(earlier, earlier.record)
        for name, part in (parts or {}).items():
            made.add(name, part)
        if made.is_young:
            return
        said = (told.encode(), printed.encode(), fresh.values([*read], dict(environ)))
        content = made.record(said, locks)
        _keep(f"{root}/{DIRECTORY}", fresh.name(version, argv, dict(environ), here), content)
    except (OSError, struct.error):  # a file of the year 2300 has no mark
        return


class Shortened:
    """Makes paths relative to `here`, where a run was started: the system walks less far."""

    def __init__(self, here: str, root: str) -> None:
        self._inside, self._above = f"{here.rstrip('/')}/", f"{root.rstrip('/')}/"
        is_below = self._inside.startswith(self._above)
        up = "../" * self._inside.count("/", len(self._above))
        self._up = up if is_below else self._above

    def __call__(self, path: str) -> str:
        return self.each([path])[0]

    def below(self, top: str, paths: list[str]) -> list[str]:
        """Make paths behind `top` so, which nearly always are."""
        return paths if top == self._inside else self.each([top + path for path in paths])

    def each(self, paths: Iterable[str]) -> list[str]:
        inside, above, up = self._inside, self._above, self._up
        within, below = len(inside), len(above)
        return [
            (path[within:] or ".")
            if path.startswith(inside)
            else up + path[below:]
            if path.startswith(above)
            else path
            for path in paths
        ]


def general(record: Record) -> dict[str, bytes]:
    """Return the marks of what no template owns, by paths relative to where the run was started."""
    paths = settled.paths(record.general)
    return dict(zip(paths, looks.each(record.general_marks), strict=True))


class _Making:
    """A record that is being made. Its paths are as the first stage has them, from `here`."""

    def __init__(self, root: str, here: str, since: int) -> None:
        self._since = since
        self._above = f"{root.rstrip('/')}/"
        self._short = Shortened(here, root)
        self.is_young = False
        self._general: dict[str, bytes] = {}
        self._absent: dict[str, None] = {}
        self._ways: dict[str, int] = {}
        self._earlier_ways: frozenset[str] = frozenset()  # none of the paths of that record
        self._known: dict[str, str] = {}  # what young files have, and
        self._known_before: dict[str, str] = {}  # as an earlier record has it
        self._paths: list[str] = []  # that templates own, and
        self._marks = bytearray()  # their marks, one after the other
        self._earlier = b"", 0  # the first of these paths as an earlier record has them, how many
        self._numbers: dict[str, int] = {}  # of each path, but for
        self._is_partial = False  # those of an earlier record that nobody has asked for
        self._moved: set[int] = set()  # those that have not been looked at again
        self._owned: dict[str, tuple[str, bytes]] = {}
        self._open: set[str] = set()
        self._directories: dict[str, bytes] = {}

    def begin(
        self,
        config: str,
        seen: Mapping[str, bytes],
        paths: Iterable[str],
        ways: Mapping[str, int],
        contents: Mapping[str, str],
    ) -> None:
        """Take what is no template's own, the configuration first."""
        found = {config: mark(os.lstat(config)), **seen}
        others = (*paths, *(way for way, inode in ways.items() if not inode))
        self._look(others, found)
        self._general = dict(zip(self._short.each(found), found.values(), strict=True))
        marks = b"".join(found.values())
        self.is_young = self._is_young(marks) and not self._are_known(
            [*self._general], marks, contents
        )
        inodes = zip(self._short.each(ways), ways.values(), strict=True)
        self._ways = {way: inode for way, inode in inodes if inode}

    def take(self, look: Look, record: Record) -> None:
        """Take what the record of an earlier run has; of what has moved, parts are to follow.

        Those are few: to sort in all other paths would take longer than anything else here.
        """
        self._general = {**general(record), **self._general}
        self._absent |= dict.fromkeys(settled.paths(record.absent))
        inodes = settled.unpacked(record.inodes)
        ways = settled.paths(record.ways)
        self._earlier_ways = frozenset(ways)
        self._ways |= zip(ways, inodes, strict=True)
        self._paths = settled.paths(record.paths)
        self._earlier = record.paths, len(self._paths)
        self._marks = bytearray(record.marks)
        self._numbers = {self._paths[number]: number for number in look.moved}
        self._is_partial = True
        self._moved = {*look.moved}
        order, parents, counts = settled.order(record)
        at = 0
        for name, count in zip(order, counts, strict=True):
            self._owned[name] = parents.get(name, ""), record.owned[at : at + 8 * count]
            at += 8 * count
        self._open = {*settled.texts(record.open)}
        known = settled.paths(record.contents)
        self._known_before = dict(zip(known[::2], known[1::2], strict=True))

    def add(self, name: str, part: Part) -> None:
        """Take what was looked at for a template."""
        paths = self._short.below(part.top, looks.split(part.looked.paths))
        marks = part.looked.marks
        others = looks.untold(part.looked)
        short = self._short.below(part.top, others)
        new = [path for path, name in zip(others, short, strict=True) if name not in self._absent]
        if new:  # most look for the same
            found: dict[str, bytes] = {}
            self._look([part.top + path for path in new], found)
            paths = [*paths, *self._short.each(found)]
            marks = b"".join([marks, *found.values()])
        if name in self._owned:  # most likely the same as before
            before = settled.unpacked(self._owned[name][1])
            self._numbers |= {self._paths[n]: n for n in before if n < len(self._paths)}
        if self._known_before:
            for path in paths:
                self._known_before.pop(path, None)
        is_open = part.open
        if self._is_young(marks):
            is_open |= not self._are_known(paths, marks, part.contents())
        self._owned[name] = part.parent, packed(self._numbered(paths, marks))
        (self._open.add if is_open else self._open.discard)(name)

    def _numbered(self, paths: list[str], marks: bytes) -> list[int]:
        """Return the numbers of paths, which have these marks."""
        are_new = not self._is_partial and self._numbers.keys().isdisjoint(paths)
        if not are_new or not self._general.keys().isdisjoint(paths):
            pairs = zip(paths, looks.each(marks), strict=True)
            return [self._number(path, known) for path, known in pairs if path not in self._general]
        numbers = [*range(len(self._paths), len(self._paths) + len(paths))]
        self._numbers.update(zip(paths, numbers, strict=True))
        self._paths += paths
        self._marks += marks
        return numbers

    def _number(self, path: str, known: bytes) -> int:
        """Return the number of a path, which has this mark if it is new or has moved.

        Where another template has looked at the same, and it has changed in between, the mark is
        from before: so it has moved for both. Which of them comes first says nothing: they are
        looked at by several processes.
        """
        number = self._find(path)
        if number < 0:
            self._numbers[path] = number = len(self._paths)
            self._paths.append(path)
            self._marks += known
        elif number in self._moved:
            self._moved.discard(number)
            self._mark(number, known)
        elif _changed(known) < _changed(self._marks[number * _SIZE : (number + 1) * _SIZE]):
            self._mark(number, known)
        return number

    def _find(self, path: str) -> int:
        """Return the number of a path, -1 if it has none."""
        if path not in self._numbers and self._is_partial:
            self._numbers = dict(zip(self._paths, range(len(self._paths)), strict=True))
            self._is_partial = False
        return self._numbers.get(path, -1)

    def _mark(self, number: int, known: bytes) -> None:
        self._marks[number * _SIZE : (number + 1) * _SIZE] = known

    def record(self, said: tuple[bytes, bytes, bytes], locks: Iterable[str]) -> bytes:
        """Return the whole of it."""
        first, first_mark = next(iter(self._general.items()))
        for number in self._moved:  # no template looks at it any more: the next whole run drops it
            self._earlier = b"", 0
            self._keep_as_way(number)
            self._paths[number] = first
            self._mark(number, first_mark)
        ways = {way: inode for way, inode in self._ways.items() if not self._is_looked_at(way)}
        names = [each for name, (parent, _) in self._owned.items() for each in (name, parent)]
        numbers = [numbers for _, numbers in self._owned.values()]
        earlier, count = self._earlier
        parts = (
            *said,
            _joined(self._absent),
            _joined(ways),
            packed([*ways.values()]),
            _joined(self._general),
            b"".join(self._general.values()),
            _joined(text for pair in self._still_young() for text in pair),
            _joined(locks),
            _joined(name for name in self._owned if name in self._open),
            _joined(names),
            packed([len(mine) // 8 for mine in numbers]),
            b"".join(numbers),
            earlier + _joined(self._paths[count:]),
            self._marks,
        )
        header = fresh.HEADER.pack(fresh.MAGIC, *map(len, parts))
        return b"".join([header, *parts])

    def _keep_as_way(self, number: int) -> None:
        """Have a directory that no template looks at any more on the way to what others look at."""
        path = self._paths[number]
        self._numbers.pop(path, None)
        *_, known, mode = MARK.unpack_from(self._marks, number * _SIZE)
        if filemode.S_ISDIR(mode) and path not in self._ways:
            self._ways[path] = known

    def _is_looked_at(self, way: str) -> bool:
        if way in self._general or way in self._numbers:
            return True
        return way not in self._earlier_ways and self._find(way) >= 0

    def _still_young(self) -> Iterator[tuple[str, str]]:
        """Yield the files whose content is to be compared: an earlier run's may have grown old."""
        for path, digest in {**self._known_before, **self._known}.items():
            number = -1 if path in self._general else self._find(path)
            of_parts = bytes(self._marks[number * _SIZE : (number + 1) * _SIZE])
            known = self._general.get(path, of_parts)
            if known and newest(known) + 2 * SLACK_NS > self._since:
                yield path, digest

    # --- what is there -----------------------------------------------------------------------

    def _look(self, paths: Iterable[str], found: dict[str, bytes]) -> None:
        """Add the marks of paths that are there to `found`, and note those that are not.

        Directories in the workspace are taken instead of what is not in them: they tell if it
        comes, and one of them saves looking for several names, which takes longer than for one that
        is there. The root itself, in which much else comes and goes, is not taken.
        """
        absent = []
        for path in paths:
            stat = None if path in found else _stat(path)
            if stat is not None:
                found[path] = mark(stat)
            elif path not in found:
                absent.append(path)
        for path in dict.fromkeys(absent):
            above = os.path.dirname(path)  # noqa: PTH120
            known = found.get(above) or self._directory(above)
            if known and looks.is_directory(known):
                found[above] = known
            else:
                self._absent[self._short(path)] = None

    def _directory(self, path: str) -> bytes:
        """Return the mark of what is at a path in the workspace, if anything is."""
        if path not in self._directories:
            stat = _stat(path) if path.startswith(self._above) else None
            self._directories[path] = mark(stat) if stat else b""
        return self._directories[path]

    def _are_known(self, paths: list[str], marks: bytes, contents: Mapping[str, str]) -> bool:
        """Say whether of what is too young to be known by its times the content is, and note it.

        What two have read differently is noted as no content at all: both are to look again.
        """
        known = dict(zip(self._short.each(contents), contents.values(), strict=True))
        pairs = zip(paths, looks.each(marks), strict=True)
        young = [path for path, mark in pairs if self._is_young(mark)]
        for path in known.keys() & young:
            is_same = self._known.setdefault(path, known[path]) == known[path]
            self._known[path] = known[path] if is_same else ""
        return known.keys() >= {*young}

    def _is_young(self, marks: bytes) -> bool:
        return newest(marks) + SLACK_NS > self._since


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _changed(known: bytes | bytearray) -> int:
    """Return the time of the last change that a mark tells of (ns): no change can bring it back."""
    changed: int = MARK.unpack(known)[1]
    return changed


def _joined(texts: Iterable[str]) -> bytes:
    """Return texts, each ended by a zero byte."""
    return os.fsencode("\0".join([*texts, ""]))


def _keep(directory: str, name: str, content: bytes) -> None:
    """Write a record, whole or not at all, and drop the oldest of too many. Raises OSError."""
    if not filemode.S_ISDIR(os.lstat(os.path.dirname(directory)).st_mode):  # noqa: PTH120
        return  # a link that was brought along
    stat = _stat(directory)
    if stat is not None and not filemode.S_ISDIR(stat.st_mode):
        os.unlink(directory)  # noqa: PTH108 - of an older version, or brought along
        stat = None
    if stat is None:
        os.mkdir(directory, 0o700)  # noqa: PTH102
    new = f"{directory}/{name}.{os.getpid()}"
    try:
        with open(new, "xb") as file:  # noqa: PTH123
            file.write(content)
        os.replace(new, f"{directory}/{name}")  # noqa: PTH105
    except OSError:
        os.unlink(new)  # noqa: PTH108
        raise
    _prune(directory)


def _prune(directory: str) -> None:
    with os.scandir(directory) as scan:
        stats = {each.path: each.stat(follow_symlinks=False) for each in scan}
    size = 0
    latest = sorted(stats, key=lambda path: stats[path].st_mtime_ns, reverse=True)
    for number, path in enumerate(latest):
        size += stats[path].st_size
        if number >= _KEPT or (size > _BYTES and number):
            os.unlink(path)  # noqa: PTH108
