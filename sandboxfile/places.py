"""Places in files, and what is wrong there: what every complaint about a file is made of."""

from typing import NamedTuple

from sandboxfile.frozen import dataclass


class Position(NamedTuple):
    """A place in a file; line and column count from 1, `file` is as shown to the user.

    A tuple, because there are tens of thousands.
    """

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One thing wrong with a file.

    `width` is the number of columns to underline, `hint` the remedy (shown after the caret),
    `excerpt` the lines of the file around the place as (line number, text).
    """

    at: Position
    message: str
    hint: str = ""
    width: int = 1
    excerpt: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.at}: error: {self.message}", *self._drawing()])

    def _drawing(self) -> list[str]:
        if not self.excerpt:
            return [f"hint: {self.hint}"] if self.hint else []
        margin = max(5, *(len(str(number)) for number, _ in self.excerpt))
        lines = []
        for number, text in self.excerpt:
            lines.append(f"{number:>{margin}} | {text}".rstrip())
            if number == self.at.line:
                # A tab in front of the place must stay a tab, or the caret points elsewhere.
                pad = "".join("\t" if c == "\t" else " " for c in text[: self.at.column - 1])
                caret = f"{'':>{margin}} | {pad}{'^' * max(1, self.width)}"
                lines.append(f"{caret} {self.hint}".rstrip())
        return lines


def excerpt(text: str, line: int) -> tuple[tuple[int, str], ...]:
    """Return the line at `line` of `text`, and the one above it."""
    lines = text.split("\n")
    first = max(1, line - 1)
    return tuple((n, lines[n - 1].rstrip("\r")) for n in range(first, min(line, len(lines)) + 1))
