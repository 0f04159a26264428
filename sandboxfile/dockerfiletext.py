"""The text of a Dockerfile as instructions and words, each of which knows where it stands.

Rules are those of the Dockerfile reference and of BuildKit's parser: parser directives, line
continuations, comments, here-documents.
"""

import re
from collections.abc import Iterator

from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass
from sandboxfile.patterns import regex
from sandboxfile.places import Position

_DIRECTIVE = regex(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
BLANKS = " \t\v\f\r\ufeff"


@dataclass(frozen=True, slots=True)
class Source:
    """A Dockerfile; `file` is what errors call it, `escape` its escape character."""

    text: str
    file: str
    escape: str

    def position(self, offset: int) -> Position:
        """Return the line and column of a letter of the text."""
        line_start = self.text.rfind("\n", 0, offset) + 1
        return Position(self.file, self.text.count("\n", 0, offset) + 1, offset - line_start + 1)


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction, the lines that continue it joined; `offsets` say where each letter is."""

    text: str
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of an instruction that knows where it stands in the file."""

    line: Line
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.line.text[self.start : self.end]

    @property
    def offset(self) -> int:
        return self.line.offsets[self.start]

    @property
    def end_offset(self) -> int:
        return self.line.offsets[self.end - 1] + 1

    def after(self, separator: str) -> "Word | None":
        """Return what follows the first `separator`, None when that is nothing."""
        at = self.text.find(separator) + len(separator)
        return Word(self.line, self.start + at, self.end) if self.start + at < self.end else None

    def unquoted(self) -> str:
        """Return the word without the quotes around it."""
        return self.text.strip("\"'")


def directives(text: str) -> dict[str, str]:
    """Read the lines `# name=value` at the very top; the first other line ends them."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _DIRECTIVE.match(line.strip(BLANKS))
        if not match or match[1].lower() not in ("syntax", "escape", "check"):
            break
        found.setdefault(match[1].lower(), match[2])
    return found


_Raw = Iterator[tuple[int, str]]  # offset of a line in the file, the line


def lines(source: Source) -> Iterator[Line]:
    """Yield each instruction; comments and the text of here-documents are passed over."""
    raw = _raw_lines(source.text)
    for offset, text in raw:
        if _says_something(text):
            line = _joined(offset, text, raw, source.escape)
            yield line
            for name, is_indented in heredocs(words(line, source.escape)):
                _pass_over(raw, name, source.position(offset), is_indented=is_indented)


def _raw_lines(text: str) -> _Raw:
    offset = 0
    for line in text.split("\n"):
        yield offset, line.removesuffix("\r")
        offset += len(line) + 1


def _says_something(text: str) -> bool:
    return text.strip(BLANKS)[:1] not in ("", "#")


def _joined(offset: int, text: str, raw: _Raw, escape: str) -> Line:
    """Join an instruction with the lines that continue it; comments and blanks between go."""
    e = re.escape(escape)
    # Two escapes at the end are an escaped escape.
    continued = re.compile(rf"(?:(?<=[^{e}])|^){e}[ \t]*$")
    joined, offsets = "", list[int]()
    following: tuple[int, str] | None = (offset, text)
    while following:
        offset, text = following
        end = continued.search(text)
        text = text[: end.start()] if end else text
        joined += text
        offsets += range(offset, offset + len(text))
        following = next((each for each in raw if _says_something(each[1])), None) if end else None
    return Line(joined, tuple(offsets))


def words(line: Line, escape: str) -> list[Word]:
    """Split at blanks that are neither quoted nor escaped."""
    e = re.escape(escape)
    word = rf"""(?:{e}.|"(?:{e}.|[^"{e}])*"|'[^']*'|[^{BLANKS}])+"""
    return [Word(line, found.start(), found.end()) for found in re.finditer(word, line.text)]


_HEREDOC = regex(r"\d*<<(-?)([^<]+)")


def heredocs(words: list[Word]) -> Iterator[tuple[str, bool]]:
    """Yield the end of each here-document, and whether tabs may stand before it."""
    texts = [word.text for word in words]
    if texts[0].upper() == "ONBUILD":
        texts = texts[1:]
    arguments = [text for text in texts[1:] if not text.startswith("--")]
    if not texts or texts[0].upper() not in ("RUN", "COPY", "ADD") or arguments[:1] == []:
        return
    if arguments[0].startswith("["):  # exec form: a shell may see here-documents in it, Docker none
        return
    for text in arguments:
        found = _HEREDOC.fullmatch(text)
        name = re.sub(r"""["'\\]""", "", found[2]) if found else ""
        if found and name:
            yield name, bool(found[1])


def _pass_over(raw: _Raw, name: str, at: Position, *, is_indented: bool) -> None:
    for _, text in raw:
        if (text.lstrip("\t") if is_indented else text) == name:
            return
    raise SandboxfileError(
        f"the here-document that `{name}` should end has no end",
        at=at,
        hint=f"write `{name}` alone on a line, without blanks",
    )
