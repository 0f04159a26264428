"""Finds what is copied before it is known that it is, while the configuration is being loaded.

Where nothing is cached, as in a fresh clone, most of the time of a run goes into loading the
configuration and into reading all that is copied. A second process does the latter meanwhile, from
the last template to the first. What it looks at is guessed from the text of the configuration, by
the ways in which a source is written. A guess decides nothing: what is told is what the copy of a
source brings, to whoever asks for just that. A wrong guess costs time of the second process. What a
copy could not take is not read either: nothing outside of the workspace or behind a link, nothing
special, nothing that `.dockerignore` leaves out.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sandboxfile import copied, reading
from sandboxfile.ahead import Ahead, is_possible
from sandboxfile.blobs import Blobs
from sandboxfile.config import finding
from sandboxfile.config.document import LIMIT
from sandboxfile.config.names import is_glob
from sandboxfile.copied import Copies, Finder
from sandboxfile.gathering import LOCKS, Ground
from sandboxfile.model import Copy
from sandboxfile.places import Position

_MUCH = 1 << 15  # bytes of configuration and locks, from which on a second process is worth it
# A source before an arrow, or behind a key that names one.
_SOURCE = re.compile(
    r"""(?<![^\s"'\[\]{},])([^\s\0"'\[\]{},]+)[ ]->[ ]"""
    r"""|\b(?:from|context):[ ]+["']?([^\s\0"'\[\]{},]+)"""
)
_GIT_KEY = b"\n      git_key: "  # as a lock is written
_NOWHERE = Position("", 1, 1)  # nobody is told what is wrong with a guess
_FILES = re.compile(r"^(?:members|include):[ ]*(.*(?:\n[ -].*)*)", re.MULTILINE)
_PATH = re.compile(r"""[^\s\0"'\[\]{},]{2,}""")


def begun(config: Path, root: Path, blobs: Blobs | None) -> Copies | None:
    """Begin to find what the templates of a workspace copy, if that is worth a second process.

    `config` is the configuration of the workspace's directory `root`. Git is asked for the content
    of files (by `blobs`) where a lock says what that stands for.
    """
    locks = [root / name for name in LOCKS]
    if sum(map(_size, (config, *locks))) < _MUCH or not is_possible():
        return None
    asked = blobs if any(_GIT_KEY in _bytes(lock, root) for lock in locks) else None
    with suppress(OSError):  # there may be too many processes
        return Copies(Ahead(_told(config, root, asked)), asked)
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _told(config: Path, root: Path, blobs: Blobs | None) -> Iterator[bytes]:
    """Tell of all copies that are guessed, the last first."""
    files: dict[Path, None] = {config: None}
    copies = [*_guessed(config, root, files)]
    yield from copied.told(reversed(copies), Finder(Ground(root, files), blobs))


def _guessed(config: Path, root: Path, files: dict[Path, None]) -> Iterator[Copy]:
    """Yield what looks like a copy in a configuration and in the `files` that it names."""
    text = _text(config, root)
    yield from _copies(text, config.parent)
    for named in _FILES.findall(text):
        for pattern in _PATH.findall(named):
            for file in finding.match(root, pattern).files:
                files[file] = None
                yield from _copies(_text(file, root), file.parent)


def _copies(text: str, directory: Path) -> Iterator[Copy]:
    lines = [  # these words are found in a fraction of the pattern's time
        line for line in text.split("\n") if " -> " in line or "from:" in line or "context:" in line
    ]
    found = _SOURCE.findall("\n".join(lines))
    for source in dict.fromkeys(one or other for one, other in found):
        if is_glob(source) or os.path.lexists(f"{directory}/{source}"):
            yield Copy(sources=(source,), to="/", root=directory, at=_NOWHERE)


def _text(file: Path, root: Path) -> str:
    """Return the text of a configuration, an empty one for what is none."""
    return _bytes(file, root).decode("utf-8", "replace")


def _bytes(file: Path, root: Path) -> bytes:
    with suppress(OSError):
        if file.stat().st_size <= LIMIT:
            return reading.read(file, root)
    return b""
