"""A workspace as it was loaded, packed in one file, for as long as nothing that decides it changed.

It only saves time: a file that cannot be read is none, and losing it costs time, nothing else. It
is believed only while the `lstat` of all that was looked at is the same as when it was written,
inode and change time of `novita.yaml` among it: nobody can guess these, so what a checkout brings
along, or was copied from elsewhere, is not even unpacked. Racy files (git's rule): nothing is
kept that was younger than two seconds when loading began.

The file: a header with a checksum and the lengths of the parts; which run it is for; the names of
variables of the environment with a digest of their values; the paths; their marks; and the
workspace, as plain data in the format of `marshal`, which has the classes by number, and each
template in a part of its own.
"""

import marshal
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any
from zlib import crc32

from sandboxfile import __version__, model, reading, writing
from sandboxfile.config.given import Given
from sandboxfile.fresh import MARK, mark, newest
from sandboxfile.model import InstallProject, Workspace
from sandboxfile.places import Position
from sandboxfile.statcache import SLACK_NS

_MAGIC = b"sfwork3\n"
_HEADER = struct.Struct("<8sI5Q")  # magic, CRC-32 of the rest, lengths of the five parts
_ABSENT = b"\0" * MARK.size
_SCALARS = frozenset([str, int, bool, type(None)])
_TUPLE, _MAP, _PATH, _POSITION, _TEMPLATES = -1, -2, -3, -4, -5
CLASSES: tuple[Any, ...] = (  # a dataclass each
    model.Workspace,
    model.Template,
    model.ImageBase,
    model.TemplateBase,
    model.RemoteBase,
    model.DockerfileBase,
    model.BootstrapBase,
    model.Env,
    model.Account,
    model.Install,
    model.Copy,
    model.InstallProject,
    model.Run,
    model.Workdir,
    model.Ready,
    model.Resources,
    model.Target,
    model.EngineChoice,
    model.BuildCache,
    model.SecretSource,
)
_FIELDS: tuple[tuple[str, ...], ...] = tuple(kind.__slots__ for kind in CLASSES)
_TAKEN = {kind: (n, attrgetter(*_FIELDS[n])) for n, kind in enumerate(CLASSES)}


def read(file: Path, config: Path, given: Given) -> Workspace | None:
    """Return the workspace of the root `config` if the one in `file` is that still."""
    try:
        name, read_names, paths, marks, body = _parts(reading.own(file))
        if name != _placed(config, given) or read_names != _values(read_names.split()[1:], given):
            return None
        looked_at = paths.split(b"\0")
        if looked_at[0] != os.fsencode(config) or marks.startswith(_ABSENT):
            return None
        if _marks(looked_at) != marks:
            return None
        found = _unpacked(marshal.loads(body))  # written here: see the marks  # noqa: S302
    except (OSError, ValueError, TypeError, EOFError, LookupError, struct.error):
        return None
    return found if isinstance(found, Workspace) else None


def write(file: Path, config: Path, given: Given, workspace: Workspace, *, since: int) -> None:
    """Keep a workspace whose loading began at `since` (ns since the epoch), if it can be trusted.

    Raises OSError.
    """
    paths = _paths(config, workspace)
    marks = _marks(paths)
    if newest(marks) + SLACK_NS > since:
        return
    parts = (
        _placed(config, given),
        _values([os.fsencode(name) for name in workspace.environment], given),
        b"\0".join(paths),
        marks,
        marshal.dumps(_packed(workspace)),
    )
    writing.whole(file, _joined(*parts))


def identity(config: Path, given: Given, workspace: Workspace) -> tuple[bytes, int]:
    """Return a digest of all that a workspace was loaded from as it is now, and its newest change.

    The latter in ns since the epoch. The digest has inodes and change times in it.
    """
    paths = _paths(config, workspace)
    marks = _marks(paths)
    values = _values([os.fsencode(name) for name in workspace.environment], given)
    parts = (_name(config, given), values, b"\0".join(paths), marks)
    return sha256(b"".join(sha256(part).digest() for part in parts)).digest(), newest(marks)


# --- what it depends on ----------------------------------------------------------------------


def _name(config: Path, given: Given, *more: object) -> bytes:
    """Return a digest of what two runs must have in common, files and environment aside."""
    real = os.path.realpath(config.parent)
    options = sorted(given.options.items())
    same = (__version__, sys.version, _program(), config, real, options, *more)
    return sha256(ascii(same).encode()).digest()


def _placed(config: Path, given: Given) -> bytes:
    """Return a digest as `_name`, with the directory in which places are told."""
    return _name(config, given, os.getcwd())  # noqa: PTH109


def _program() -> list[tuple[str, int, int]]:
    """Return the state of the modules that load a workspace: one of the same version may differ."""
    here = Path(__file__).parent
    stats = [
        (each.name, each.stat())
        for directory in (here, here.parent)
        for each in os.scandir(directory)
        if each.name.endswith(".py")
    ]
    return sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def _values(names: Iterable[bytes], given: Given) -> bytes:
    """Return the names of variables after a digest of their values, which may be secrets."""
    names = list(names)
    values = [given.environ.get(os.fsdecode(name)) for name in names]
    return b" ".join([sha256(ascii(values).encode()).hexdigest().encode(), *names])


def _paths(config: Path, workspace: Workspace) -> list[bytes]:
    """Return all that the workspace was made of, the root's file first; links with their way."""
    paths = {os.fspath(config): None, **dict.fromkeys(workspace.looked_at)}
    for template in workspace.templates.values():
        for each in template.instructions:
            if isinstance(each, InstallProject):  # its files are read, its lock files looked for
                for source in each.copy.sources:
                    path = each.copy.root / source
                    paths |= {os.fspath(path): None, os.fspath(path.parent): None}
    links = [path for path in paths if os.path.islink(path)]  # noqa: PTH114
    paths |= dict.fromkeys(each for link in links for each in reading.way(link))
    return [os.fsencode(path) for path in paths]


def _marks(paths: Iterable[bytes]) -> bytes:
    return b"".join(map(_mark, paths))


def _mark(path: bytes) -> bytes:
    try:
        return mark(os.lstat(path))
    except OSError:
        return _ABSENT


def _joined(*parts: bytes) -> bytes:
    rest = b"".join(parts)
    return _HEADER.pack(_MAGIC, crc32(rest), *map(len, parts)) + rest


def _parts(content: bytes) -> list[bytes]:
    """Take the file apart. Raises ValueError, struct.error if it is none."""
    magic, checksum, *lengths = _HEADER.unpack_from(content)
    rest = content[_HEADER.size :]
    if magic != _MAGIC or checksum != crc32(rest) or sum(lengths) != len(rest):
        raise ValueError(magic)
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    return [rest[end - length : end] for end, length in zip(ends, lengths, strict=True)]


# --- plain data ------------------------------------------------------------------------------


def _packed(value: Any) -> Any:
    """Return a value that is no scalar as plain data: as a tuple that begins with its kind.

    Raises LookupError for what a workspace does not consist of.
    """
    kind = type(value)
    if kind in _TAKEN:
        number, values = _TAKEN[kind]
        return (number, *_each(values(value)))
    if isinstance(value, tuple):
        return (_TUPLE, *_each(value))
    if isinstance(value, Path):
        return (_PATH, os.fspath(value))
    if not isinstance(value, Mapping):
        raise LookupError(kind)  # noqa: TRY004 - as the docstring says
    if model.Template in map(type, value.values()):
        packed = [(name, marshal.dumps(_packed(each))) for name, each in value.items()]
        return (_TEMPLATES, *chain.from_iterable(packed))
    return (_MAP, *_each(chain.from_iterable(value.items())))


def _each(values: Iterable[Any]) -> list[Any]:
    # Nearly all are scalars, which stand for themselves, or places: no call for each of them.
    return [
        each
        if (kind := type(each)) in _SCALARS
        else (_POSITION, *each)
        if kind is Position
        else _packed(each)
        for each in values
    ]


def _unpacked(plain: tuple[Any, ...]) -> Any:
    kind = plain[0]
    if kind == _POSITION:
        return Position._make(plain[1:])
    if kind == _TEMPLATES:
        return _Templates(plain)
    if kind == _MAP and type(plain[-1]) is tuple and plain[-1][0] == _POSITION:
        return _Places(plain)
    # Scalars stand for themselves: no call for each of them.
    values = [_unpacked(each) if type(each) is tuple else each for each in plain[1:]]
    if kind >= 0:
        return CLASSES[kind](**dict(zip(_FIELDS[kind], values, strict=True)))
    if kind == _TUPLE:
        return tuple(values)
    if kind == _MAP:
        return dict(zip(values[::2], values[1::2], strict=True))
    return _path(*values)


class _Templates(Mapping[str, model.Template]):
    """The templates by name, each unpacked when it is asked for: most runs want few of a thousand.

    What is asked for again is the same object.
    """

    __slots__ = ("_packed", "_templates")

    def __init__(self, plain: tuple[Any, ...]) -> None:
        self._packed: dict[str, bytes] = dict(zip(plain[1::2], plain[2::2], strict=True))
        self._templates: dict[str, model.Template] = {}

    def __getitem__(self, name: str) -> model.Template:
        if name not in self._templates:
            plain = marshal.loads(self._packed[name])  # as all of it  # noqa: S302
            self._templates[name] = _unpacked(plain)
        return self._templates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, name: object) -> bool:
        return name in self._packed


class _Places(Mapping[str, Position]):
    """A map of places, unpacked when one is asked for: most runs want none of ten thousand."""

    __slots__ = ("_plain",)

    def __init__(self, plain: tuple[Any, ...]) -> None:
        self._plain = plain

    def __getitem__(self, name: str) -> Position:
        try:
            found = self._plain[1::2].index(name)
        except ValueError:
            raise KeyError(name) from None
        place: Position = _unpacked(self._plain[2 * found + 2])
        return place

    def __iter__(self) -> Iterator[str]:
        return iter(self._plain[1::2])

    def __len__(self) -> int:
        return len(self._plain) // 2


@cache
def _path(text: str) -> Path:
    return Path(text)
