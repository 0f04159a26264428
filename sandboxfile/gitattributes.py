"""Which files of a working tree git may have changed when it put them there (gitattributes(5)).

That are those with `filter`, `ident` or `working-tree-encoding`. More than git does are thought to
be: of its patterns only `*.ending` is matched, any other one is taken to mean all files. Where line
ends are converted the size is another, which tells.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sandboxfile import reading
from sandboxfile.patterns import regex

FILE = ".gitattributes"

Endings = tuple[str, ...] | None

_CHANGING = regex(rb"(?i)filter|ident|working-tree-encoding")
_ENDING = regex(rb"\*(\.[A-Za-z0-9_.-]+)")
_LIMIT = 1 << 20  # bytes of a file that people write


class Attributes:
    """What attributes say of the files below a directory of a working tree.

    `above` are the directories that lead to it, from the top of the tree, and it itself. `files`
    have attributes of all repositories. Raises OSError for one that cannot be read.
    """

    def __init__(self, above: Sequence[Path], files: Iterable[Path]) -> None:
        whole = b"\n".join(map(_text, (*files, *(each / FILE for each in above))))
        self._root = above[-1]
        self._found = {"": _changed(whole)}

    def may_change(self, name: str) -> bool:
        """Say whether git may have changed a file; it is named from the directory."""
        endings = self.changed(name.rpartition("/")[0])
        return endings is None or (endings != () and name.lower().endswith(endings))

    def changed(self, directory: str, *, has_own: bool = True) -> Endings:
        """Return how the names of files in a directory end that may be changed, in small letters.

        None stands for all of them. Where it is known to have no attributes of its own, nobody
        looks for them.
        """
        at, below = directory, []
        while at not in self._found:
            below.append(at)
            at = at.rpartition("/")[0]
        endings = self._found[at]
        for each in reversed(below):
            own = () if each == directory and not has_own else self._own(each)
            endings = None if endings is None or own is None else endings + own
            self._found[each] = endings
        return endings

    def _own(self, directory: str) -> Endings:
        file = f"{self._root}/{directory}/{FILE}"
        if not os.path.lexists(file):  # as in thousands of directories
            return ()
        try:
            return _changed(_text(Path(file)))
        except OSError:
            return None


def _changed(text: bytes) -> Endings:
    found = []
    for line in text.splitlines():
        if not line.lstrip().startswith(b"#") and _CHANGING.search(line):
            pattern = _ENDING.fullmatch(line.split()[0])
            if pattern is None:
                return None
            found.append(pattern[1].decode().lower())
    return tuple(found)


def _text(file: Path) -> bytes:
    try:
        return reading.regular(file, limit=_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return b""
