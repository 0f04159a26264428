"""Docker's `.dockerignore`: which paths a list of patterns leaves out, decided as Docker does.

The rules are those of Docker's matcher (moby/patternmatcher) in the way BuildKit walks a context:
the last pattern that matches decides, `!` takes back, `**` spans directories, and what matched a
directory holds for everything below it. One thing is stricter here: a backslash in front of a
letter or digit, and a class such as `[:alpha:]`, are refused. Docker hands both to a regular
expression engine, where a `d` behind a backslash asks for a digit; nobody who writes it means that.
"""

import posixpath
import re
from collections.abc import Callable, Iterable

from sandboxfile.errors import ConfigError
from sandboxfile.frozen import dataclass
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem, excerpt

# Go's unicode.IsSpace; Python's own idea of white space is wider.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
# The grammar of Go's filepath.Match; a character that is no UTF-8 may not stand in a class.
_SYNTAX = regex(
    # `[^]` is open: a `^` that comes first is never one of the characters of the class.
    r"(?:[^\\\[]|\\.|\[(?:\^|(?!\^))(?:(?:[^\\\]\-\udc80-\udcff]|\\[^\udc80-\udcff])"
    r"(?:-(?:[^\\\]\-\udc80-\udcff]|\\[^\udc80-\udcff]))?)+\])*",
    re.DOTALL,
)
_MAGIC = frozenset("*[]?^\\")
_BROKEN = "a `[` is not closed, a range is incomplete, or it ends with a backslash"

Matches = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One pattern: `text` as written, `pattern` cleaned and without its `!`."""

    text: str
    at: Position
    pattern: str
    negated: bool
    matches: Matches


class Ignore:
    """The patterns of one `.dockerignore`, asked about paths relative to its directory.

    Paths are written with `/`, without a leading or trailing one.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._numbered = tuple((1 << number, rule) for number, rule in enumerate(self.rules))
        self._exceptions = tuple(_prefix(rule) for rule in self.rules if rule.negated)
        self._directories: dict[str, int] = {"": 0}

    @classmethod
    def parse(cls, text: str, file: str) -> "Ignore":
        """Read a `.dockerignore`; `file` is its name as shown. Raises ConfigError."""
        lines = text.removeprefix("\ufeff").split("\n")
        return cls._of(
            (line.removesuffix("\r"), Position(file, number, 1), excerpt(text, number))
            for number, line in enumerate(lines, 1)
            if not line.startswith("#")
        )

    @classmethod
    def of(cls, patterns: Iterable[str], at: Position) -> "Ignore":
        """Take patterns that were written at one place. Raises ConfigError."""
        return cls._of((pattern, at, ()) for pattern in patterns)

    @classmethod
    def _of(cls, lines: Iterable[tuple[str, Position, tuple[tuple[int, str], ...]]]) -> "Ignore":
        rules, problems = [], []
        for line, at, shown in lines:
            text = line.strip(_SPACE)
            if not text:
                continue
            try:
                rules.append(_rule(text, at))
            except ValueError as error:
                message = f"`{text}` is no pattern: {error}"
                problems.append(Problem(at, message, width=len(text), excerpt=shown))
        if problems:
            raise ConfigError(problems)
        return cls(rules)

    def excludes(self, path: str) -> bool:
        """Say whether the path is left out."""
        return self.rule(path) is not None

    def rule(self, path: str) -> Rule | None:
        """Return the rule that leaves the path out, None if it stays."""
        return self._judge(path, self._inherited(path.rpartition("/")[0]))[0]

    def keeps_below(self, directory: str) -> bool:
        """Say whether something below a directory that is left out may stay."""
        below = directory + "/"
        return any(prefix is None or prefix.startswith(below) for prefix in self._exceptions)

    def _inherited(self, directory: str) -> int:
        """Return the set of rules (as bits) that hold for everything in a directory."""
        known = self._directories.get(directory)
        if known is None:
            above = self._inherited(directory.rpartition("/")[0])
            known = self._directories[directory] = self._judge(directory, above)[1]
        return known

    def _judge(self, path: str, inherited: int) -> tuple[Rule | None, int]:
        last: Rule | None = None
        hits = 0
        for bit, rule in self._numbered:
            # A rule that cannot change the verdict so far is not even looked at, and so is not
            # inherited either: visible in the result, hence kept as Docker has it.
            idle = rule.negated is (last is None)
            if inherited & bit or (not idle and rule.matches(path)):
                hits |= bit
                last = None if rule.negated else rule
        return last, hits


def _rule(text: str, at: Position) -> Rule:
    """Build a rule the way Docker cleans a line; ValueError if it is refused."""
    mark = "!" if text.startswith("!") else ""
    pattern = text.removeprefix(mark).strip(_SPACE)
    if pattern:
        pattern = _clean(pattern)
        pattern = pattern[1:] if len(pattern) > 1 and pattern.startswith("/") else pattern
    # The line is cleaned once more with its mark, and only now is the mark looked for: `!/` has
    # become `!`, which is refused, and `./!x` has become `!x`, which takes `x` back.
    pattern = _clean(mark + pattern)
    negated = pattern.startswith("!")
    pattern = pattern.removeprefix("!")
    if not pattern:
        raise ValueError("there is nothing after `!`")
    return Rule(text=text, at=at, pattern=pattern, negated=negated, matches=matcher(pattern))


def _clean(pattern: str) -> str:
    """Return the shortest form of a path: Go's filepath.Clean."""
    cleaned = posixpath.normpath(pattern)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _prefix(rule: Rule) -> str | None:
    """Return the literal path of an exception, with `/` at its end; None when it has wildcards."""
    literal = rule.pattern.removesuffix("/**").removesuffix("/*")
    return None if _MAGIC.intersection(literal) else literal + "/"


# --- patterns --------------------------------------------------------------------------------


def matcher(pattern: str) -> Matches:
    """Return the test for one pattern in its shortest form. Raises ValueError with the reason."""
    if not _SYNTAX.fullmatch(pattern):
        raise ValueError(_BROKEN)
    if not _MAGIC.intersection(pattern.replace("**", "").replace("^", "")):
        starred = pattern.count("**")
        if starred == 0:
            return pattern.__eq__
        if starred == 1 and pattern.endswith("**"):
            start = pattern[:-2]
            return lambda path: path.startswith(start)
        if starred == 1 and pattern.startswith("**"):
            return _ending(pattern[2:])
    return re.compile(_python(_expression(pattern))).match


def _ending(end: str) -> Matches:
    """`**/x` is whatever ends in `/x`, and `x` itself."""
    top = end.removeprefix("/") if end.startswith("/") else None
    return lambda path: path.endswith(end) or path == top


def _expression(pattern: str) -> str:
    """Write a pattern as the regular expression that Docker makes of it, wildcards in classes too.

    `[*]` becomes `[[^/]*]`: a class of three characters, any number of times, and a `]`.
    """
    out = []
    rest = pattern
    while rest:
        if rest.startswith("**"):
            rest = rest[2:].removeprefix("/")
            out.append("(.*/)?" if rest else ".*")
            continue
        char, rest = rest[0], rest[1:]
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\":
            out.append(char + rest[0])
            rest = rest[1:]
        else:
            out.append("\\" + char if char in ".+()|{}$" else char)
    return "".join(out)


def _python(expression: str) -> str:
    """Write a regular expression of Go's for Python; the two differ in classes and escapes.

    Raises ValueError for one that ends too early, as `[?[]` does: its `?` has become a class.
    """
    out = [r"\A"]
    at = 0
    try:
        while at < len(expression):
            text, at = _next(expression, at)
            out.append(text)
    except IndexError:
        raise ValueError(_BROKEN) from None
    return "".join([*out, r"\Z"])


def _next(expression: str, at: int) -> tuple[str, int]:
    """Read a character or a class; return it for Python, and where it ends."""
    char = expression[at]
    if char == "[":
        return _class(expression, at + 1)
    if char == "\\":
        return re.escape(_escaped(expression, at)), at + 2
    return char, at + 1


def _class(expression: str, at: int) -> tuple[str, int]:
    """Read a class from behind its `[`; return it for Python, and where it ends."""
    negated = expression[at] == "^"
    at += negated
    out: list[str] = []
    while not out or expression[at] != "]":
        if expression.startswith("[:", at):
            raise ValueError("named classes such as `[:alpha:]` are not supported")
        low, at = _character(expression, at)
        high = low
        if expression[at] == "-" and expression[at + 1] != "]":
            high, at = _character(expression, at + 1)
        if high < low:
            raise ValueError(f"the range `{low}-{high}` runs backwards")
        out.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' if negated else ''}{''.join(out)}]", at + 1


def _character(expression: str, at: int) -> tuple[str, int]:
    if expression[at] == "\\":
        return _escaped(expression, at), at + 2
    return expression[at], at + 1


def _escaped(expression: str, at: int) -> str:
    char = expression[at + 1]
    if char.isalnum() or not char.isascii():
        raise ValueError(f"`\\{char}` has no clear meaning; directories are separated by `/`")
    return char
