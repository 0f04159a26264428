"""Which files of a working tree git may have changed by a filter, when it put them there.

More than git does are thought to be: of the patterns of gitattributes(5) only `*.ending` is
matched, any other one is taken to mean all files.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from sandboxfile import reading
from sandboxfile.patterns import regex

FILE = ".gitattributes"

_CHANGING = regex(rb"filter|working-tree-encoding", re.IGNORECASE)
_ENDING = regex(rb"\*(\.[A-Za-z0-9_.-]+)")
_ELSEWHERE = regex(rb"^\s*attributesfile\b", re.IGNORECASE | re.MULTILINE)
_INCLUDED = regex(rb'^\s*path\s*=\s*"?(.*?)"?\s*$', re.IGNORECASE | re.MULTILINE)
_ODD = regex(r"""["\\#;]|^~(?!/)|^%\(""")  # escapes, comments, homes of others, the prefix
_DEPTH = 10  # of files that name each other; as many as git follows
_LIMIT = 1 << 20  # bytes of a file that people write

_Endings = tuple[str, ...] | None  # how the names of the files end; None for any


class Attributes:
    """What attributes say of the files below a directory of a working tree.

    `above` are the directories that lead to it, from the top of the tree, and it itself. `files`
    have attributes of all repositories. Raises OSError for one that cannot be read.
    """

    def __init__(self, above: Iterable[Path], files: Iterable[Path]) -> None:
        whole = b"\n".join(map(text_of, (*files, *(each / FILE for each in above))))
        *_, self._root = above
        self._found = {"": _changed(whole)}

    def may_change(self, name: str) -> bool:
        """Say whether a filter may change a file; it is named from the directory."""
        directory = name.rpartition("/")[0]
        endings = self._found[directory] if directory in self._found else self._of(directory)
        return endings is None or (endings != () and name.lower().endswith(endings))

    def _of(self, directory: str) -> _Endings:
        if directory not in self._found:
            above = self._of(directory.rpartition("/")[0])
            self._found[directory] = _both(above, self._own(directory))
        return self._found[directory]

    def _own(self, directory: str) -> _Endings:
        file = f"{self._root}/{directory}/{FILE}"
        if not os.path.lexists(file):  # as in thousands of directories
            return ()
        try:
            return _changed(text_of(Path(file)))
        except OSError:
            return None


def _both(one: _Endings, other: _Endings) -> _Endings:
    return None if one is None or other is None else one + other


def _changed(text: bytes) -> _Endings:
    found = []
    for line in text.splitlines():
        if not line.lstrip().startswith(b"#") and _CHANGING.search(line):
            pattern = _ENDING.fullmatch(line.split()[0])
            if pattern is None:
                return None
            found.append(pattern[1].decode().lower())
    return tuple(found)


def names_another(config: Path, home: Path) -> bool:
    """Say whether a configuration of git may name a file with attributes (`core.attributesFile`).

    What it includes counts, whatever the condition. Raises OSError for what cannot be read.
    """
    waiting, seen = [config], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        text = text_of(file)
        if _ELSEWHERE.search(text) or len(seen) > _DEPTH:
            return True
        for found in _INCLUDED.finditer(text):
            name = os.fsdecode(found[1].strip())
            if _ODD.search(name):
                return True
            waiting.append(home / name[2:] if name.startswith("~/") else file.parent / name)
    return False


def text_of(file: Path) -> bytes:
    """Return the text of a file that people write, none of what is not there. Raises OSError."""
    try:
        return reading.regular(file, limit=_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return b""
