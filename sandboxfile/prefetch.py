"""Reads files before it is known that they are needed, while the configuration is being loaded.

Where nothing is cached, as in a fresh clone, most of the time of a run goes into loading the
configuration and into reading all that is copied. A second process does the latter meanwhile, from
the last template to the first. What it reads is guessed from the text of the configuration, by the
ways in which a source is written. A guess decides nothing: what comes of it is content hashes of
files by their stat, for whoever asks for them. A wrong guess costs time of the second process. What
a copy could not take is not read either: nothing outside of the workspace or behind a link, nothing
special, nothing that `.dockerignore` leaves out.
"""

import os
import re
import stat as filemode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sandboxfile import context, reading, statcache
from sandboxfile.ahead import Ahead, is_possible
from sandboxfile.config import finding
from sandboxfile.config.document import LIMIT
from sandboxfile.errors import SandboxfileError
from sandboxfile.gathering import OWN, Ground
from sandboxfile.model import Copy
from sandboxfile.places import Position

_MUCH = 1 << 15  # bytes of configuration and locks, from which on a second process is worth it
# A source before an arrow, or behind a key that names one.
_SOURCE = re.compile(
    r"""(?<![^\s"'\[\]{},])([^\s\0"'\[\]{},]+)[ ]->[ ]"""
    r"""|\b(?:from|context):[ ]+["']?([^\s\0"'\[\]{},]+)"""
)
_NOWHERE = Position("", 1, 1)  # nobody is told what is wrong with a guess
_FILES = re.compile(r"^(?:members|include):[ ]*(.*(?:\n[ -].*)*)", re.MULTILINE)
_PATH = re.compile(r"""[^\s\0"'\[\]{},]{2,}""")


def begun(config: Path, root: Path) -> Ahead | None:
    """Begin to read what the templates of a workspace copy, if that is worth a second process.

    `config` is the configuration of the workspace's directory `root`. The answers are for a
    `StatCache` of that directory.
    """
    locks = (root / name for name in OWN if name.endswith(".lock"))
    if sum(map(_size, (config, *locks))) < _MUCH or not is_possible():
        return None
    with suppress(OSError):  # there may be too many processes
        return Ahead(_read(config, root))
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(config: Path, root: Path) -> Iterator[bytes]:
    """Read the files of all copies that are guessed, the last first, and tell of each copy."""
    ground = Ground(root, [config])
    for copy in reversed([*_guessed(config, root)]):
        yield statcache.told(_files(copy, ground), root)


def _guessed(config: Path, root: Path) -> Iterator[Copy]:
    """Yield what looks like a copy in a configuration and in the files that it names."""
    text = _text(config, root)
    yield from _copies(text, config.parent)
    for named in _FILES.findall(text):
        for pattern in _PATH.findall(named):
            for file in finding.match(root, pattern).files:
                yield from _copies(_text(file, root), file.parent)


def _copies(text: str, directory: Path) -> Iterator[Copy]:
    for source in dict.fromkeys(one or other for one, other in _SOURCE.findall(text)):
        if finding.is_glob(source) or os.path.lexists(directory / source):
            yield Copy(sources=(source,), to="/", root=directory, at=_NOWHERE)


def _text(file: Path, root: Path) -> str:
    """Return the text of a configuration, an empty one for what is none."""
    with suppress(OSError):
        if file.stat().st_size <= LIMIT:
            return reading.read(file, root).decode("utf-8", "replace")
    return ""


# --- files -----------------------------------------------------------------------------------

_File = tuple[str, os.stat_result]


def _files(copy: Copy, ground: Ground) -> Iterator[_File]:
    """Yield the files that a copy takes, each with its lstat; of a directory without much ado."""
    (source,) = copy.sources
    top = os.path.normpath(copy.root / source)
    try:
        if finding.is_glob(source):
            found = context.select(copy, ground).entries
            yield from ((each.path, each.stat) for each in found if each.kind == "file")
        elif f"{top}/".startswith(f"{ground.root}/") and ground.real(top) == top:
            yield from _below(top, copy.root, ground)
    except (SandboxfileError, OSError):  # whoever loads the configuration says so
        return


def _below(top: str, root: Path, ground: Ground) -> Iterator[_File]:
    """Yield the files in and below a directory, or the one file that it is.

    What the ignore file of `root` leaves out with a directory and takes back is not looked for.
    """
    ignore, _ = ground.ignore(f"{root}/.dockerignore")
    above = "" if top == os.fspath(root) else f"{os.path.relpath(top, root)}/"
    stat = os.lstat(top)
    if filemode.S_ISREG(stat.st_mode):
        yield top, stat
    stack = [(top, above)] if filemode.S_ISDIR(stat.st_mode) else []
    while stack:
        directory, above = stack.pop()
        with os.scandir(directory) as found:
            for each in found:
                name = above + each.name
                if each.name in ground.ours or (ignore.rules and ignore.excludes(name)):
                    continue
                if each.is_dir(follow_symlinks=False):
                    stack.append((each.path, f"{name}/"))
                elif each.is_file(follow_symlinks=False):
                    yield each.path, each.stat(follow_symlinks=False)
