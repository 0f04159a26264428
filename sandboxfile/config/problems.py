"""What is found wrong while a configuration is read, gathered to be told all at once."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NoReturn

from sandboxfile.config.document import Node, complaint
from sandboxfile.errors import ConfigError
from sandboxfile.frozen import dataclass
from sandboxfile.places import Position, Problem

MOST = 50  # more than this nobody reads
LISTED = 50  # known words in a hint
_SLIPS = 2  # that a word may be away from the one that is meant


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a text, without its place; `token` is the part of it to underline."""

    message: str
    hint: str = ""
    token: str = ""


class Problems:
    """Gathers one problem per place: the first said there is the most exact."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._by_place: dict[Position, Problem] = {}
        self._followers: set[Position] = set()

    def follows(self, node: Node) -> None:
        """Hear no complaint of a value: it is made of one that was complained of."""
        self._followers.add(node.at)

    def include(self, problems: Iterable[Problem]) -> None:
        """Take over problems that have their places already."""
        for problem in problems:
            self._by_place.setdefault(problem.at, problem)

    def __bool__(self) -> bool:
        return bool(self._by_place)

    def add(self, node: Node, message: str, hint: str = "", *, token: str = "") -> None:
        """Complain of a value, of `token` in it, or of its key where the value is empty."""
        if node.key_at is not None and node.content is None and not node.raw:
            self.add_key(node, message, hint)
            return
        if node.at in self._followers:
            return
        raw = node.raw.rstrip("\n")
        at, width = node.at, len(raw.partition("\n")[0])
        if token and (found := raw.find(token)) >= 0:
            before, newline, inside = raw[:found].rpartition("\n")
            line = node.at.line + (before + newline).count("\n")
            column = len(inside) + (1 if newline else node.at.column)
            at, width = Position(at.file, line, column), len(token.partition("\n")[0])
        self._put(at, message, hint, width)

    def add_key(self, node: Node, message: str, hint: str = "") -> None:
        """Complain of the key that names a value."""
        self._put(node.key_at or node.at, message, hint, len(node.key_raw))

    def fault(self, node: Node, fault: Fault | None) -> bool:
        """Complain of a value if there is a fault; say whether there was."""
        if fault is None:
            return False
        self.add(node, fault.message, fault.hint, token=fault.token)
        return True

    def key_fault(self, node: Node, fault: Fault | None) -> bool:
        """Complain of a key if there is a fault; say whether there was."""
        if fault is None:
            return False
        self.add_key(node, fault.message, fault.hint)
        return True

    def _put(self, at: Position, message: str, hint: str, width: int) -> None:
        if at not in self._by_place:
            text = self._texts.get(at.file, "")
            self._by_place[at] = complaint(text, at, message, hint, max(1, width))

    def stop(self, node: Node, message: str, hint: str = "") -> NoReturn:
        """Complain of a value and raise ConfigError with all that is known of its file."""
        self.add(node, message, hint)
        file = node.at.file
        found = [problem for problem in self._by_place.values() if problem.at.file == file]
        raise ConfigError(found)

    def end(self) -> None:
        """Raise ConfigError with what was found, if anything was."""
        found = sorted(self._by_place.values())
        if len(found) > MOST:
            message = f"and {len(found) - MOST} more problems"
            found[MOST:] = [Problem(found[MOST].at, message, "solve those above first")]
        if found:
            raise ConfigError(found)


# --- near misses -----------------------------------------------------------------------------

# Words of other tools and slips, for what is written here. A word counts where it is known.
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "base": ("image", "from", "from_image", "dockerfile"),
    "env": ("environment", "envs", "env_vars", "variables"),
    "files": ("copy", "copies", "volumes", "mounts", "file"),
    "memory": ("ram", "mem", "memory_mb", "memory_mib"),
    "cpu": ("vcpu", "cpu_count", "cores"),
    "mode": ("chmod", "permissions"),
    "owner": ("chown", "user"),
    "pre_boot": ("preboot", "init"),
    "ready": ("readiness", "ready_cmd", "readycmd", "healthcheck", "wait"),
    "resources": ("cpu", "memory", "limits"),
    "run": ("command", "commands", "script", "scripts", "build"),
    "start": ("cmd", "entrypoint", "start_cmd", "startcmd", "start_command"),
    "user": ("username",),
    "workdir": ("cwd", "working_dir", "working_directory", "directory"),
}


def near(word: str, known: Iterable[str]) -> str:
    """Return the hint `did you mean ...?`, or the known words when none is near."""
    return _near(word, tuple(known))


@lru_cache(maxsize=256)  # one slip is made in a thousand templates
def _near(word: str, names: tuple[str, ...]) -> str:
    folded = word.lower().replace("-", "_")
    candidates = {name: name for name in names}
    for name in names:
        candidates.update(dict.fromkeys(_SYNONYMS.get(name, ()), name))
    candidates |= {name: name for name in names}
    alike = [each for each in candidates if abs(len(each) - len(folded)) <= _SLIPS]
    best = min(alike, key=lambda each: _distance(folded, each), default="")
    if best and _distance(folded, best) <= min(_SLIPS, len(best) // 3):
        return f"did you mean `{candidates[best]}`?"
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    return f"known: {listed}" if names else ""


def _distance(one: str, other: str) -> int:
    """Count the slips between two words: a letter added, lost, changed, or two swapped.

    Beyond `_SLIPS` nobody needs to know how many there are.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row = row, [i]
        for j, b in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = above
        if min(row) > _SLIPS and min(above) > _SLIPS:
            return _SLIPS + 1
    return row[-1]
