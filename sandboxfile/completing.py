"""What may come next on a command line, as its parsers have it. Pure."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from sandboxfile import commandline
from sandboxfile.commandline import Parser
from sandboxfile.frozen import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the last word of a command line may become.

    `words` are those that the parser itself knows, with what they do. `kinds` are the metavars of
    other values, for example `TEMPLATE`, of which there may be `several`. `value` is as much of it
    as is there, `before` what precedes it in the word (`--target=`). `taken` are the values that
    the command has of its own, `given` the values of options that stand before the last word.
    """

    words: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    several: bool = False
    value: str = ""
    before: str = ""
    taken: tuple[str, ...] = ()
    given: tuple[tuple[argparse.Action, str], ...] = ()


def expected(words: Sequence[str]) -> Expected:
    """Return what the last of the words may become; the name of the program is not among them."""
    *before, last = words
    line = _Line()
    for word in before:
        line.take(word)
    return line.expected(last)


@dataclass(slots=True)
class _Line:
    """What is understood of a command line so far.

    `waiting` is the option whose value comes next; nothing is an option where it `is_over`, and
    where it `is_foreign` nothing is ours: it is the command line of another program.
    """

    parser: Parser = field(default_factory=commandline.parser)
    command: str | None = None
    waiting: argparse.Action | None = None
    is_over: bool = False
    is_foreign: bool = False
    seen: set[str] = field(default_factory=set)
    taken: list[str] = field(default_factory=list)
    given: list[tuple[argparse.Action, str]] = field(default_factory=list)

    def take(self, word: str) -> None:
        """Understand one more word."""
        if self.waiting is not None:
            self.given.append((self.waiting, word))
            self.waiting = None
        elif self.is_over or not _is_option(word):
            self._take_place(word)
        elif word == "--":
            self.is_over = True
        else:
            self._take_option(word)

    def _take_place(self, word: str) -> None:
        if self.command is None:
            self.command = word
            if word in commandline.COMMANDS:
                _, self.parser = commandline.parser_of(word)
            else:
                self.is_over = self.is_foreign = True
            return
        place = self._place()
        if place is not None and place.nargs == argparse.REMAINDER:
            self.is_over = self.is_foreign = True
        self.taken.append(word)

    def _take_option(self, word: str) -> None:
        name, attached = _parted(word)
        action = self.parser.options.get(name)
        if action is None:
            return
        self.seen.add(action.dest)
        if action.nargs == 0:  # a flag
            return
        if attached is None:
            self.waiting = action
        else:
            self.given.append((action, attached))

    def _place(self) -> argparse.Action | None:
        """Return what the next word is that is no option, if there is room for one."""
        if self.command is None or self.is_foreign:
            return None
        left = len(self.taken)
        for action in self.parser.places:
            if action.nargs in {"*", "+", argparse.REMAINDER} or not left:
                return action
            left -= 1
        return None

    # --- the last word -----------------------------------------------------------------------

    def expected(self, last: str) -> Expected:
        if self.waiting is not None:
            return self._of(self.waiting, last)
        if self.is_over or not _is_option(last):
            if self.command is None:
                return Expected(words=_begun(commandline.COMMANDS, last), value=last)
            place = self._place()
            return Expected() if place is None else self._of(place, last)
        name, attached = _parted(last)
        action = self.parser.options.get(name)
        if attached is None or action is None or action.nargs == 0:
            return Expected(words=_begun(dict(self._options()), last), value=last)
        return self._of(action, attached, before=last[: len(last) - len(attached)])

    def _of(self, action: argparse.Action, value: str, before: str = "") -> Expected:
        choices = [f"{before}{each}" for each in action.choices or ()]
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        return Expected(
            words=_begun(dict.fromkeys(choices, ""), before + value),
            kinds=() if action.choices else tuple(metavar.split("|")),
            several=action.nargs in {"*", "+"},
            value=value,
            before=before,
            taken=tuple(self.taken),
            given=tuple(self.given),
        )

    def _options(self) -> Iterator[tuple[str, str]]:
        """Yield the long options that may still be given, with what they do."""
        for name, action in self.parser.options.items():
            is_done = action.dest in self.seen and action.dest not in self.parser.repeatable
            if name.startswith("--") and not is_done and action.help != argparse.SUPPRESS:
                yield name, " ".join((action.help or "").split())


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _parted(word: str) -> tuple[str, str | None]:
    """Return the name of an option, and its value where that is attached to it."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None


def _begun(words: Mapping[str, str], beginning: str) -> Mapping[str, str]:
    return {word: text for word, text in words.items() if word.startswith(beginning)}
