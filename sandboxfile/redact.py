"""Text from elsewhere made fit to show: control characters defused, secrets replaced."""

import json
import re
import shlex
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

from sandboxfile.model import Secret
from sandboxfile.patterns import regex

MIN_LENGTH = 6  # a shorter secret would blank out ordinary words
MAX_LINE = 4096  # characters of one shown line
MASK = "***"
_SECRET = ("_KEY", "_TOKEN", "_PASSWORD", "_SECRET")  # how names of secret variables end

_COLOURS = regex(r"\x1b\[[0-9;:]*m")  # SGR, by far the most common: dropped, not shown
_UNSAFE = regex(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f"  # C0 but the tab, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # unseen, bidi
    "\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"  # private, tags
)


def printable(line: str) -> str:
    """Drop colours from one line and show every other control character as visible text.

    Nothing but colours is dropped: a dropped character would join what stands on its two sides.
    """
    line = line.removesuffix("\r")
    if line.isascii() and line.isprintable():
        return line
    return _UNSAFE.sub(_visible, _COLOURS.sub("", line))


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:  # noqa: PLR2004 - C0: caret notation, as `cat -v` writes it
        return "^" + chr(code + 0x40)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004


def cut(line: str) -> str:
    """Cut one line at 4096 characters and say how many are missing."""
    rest = len(line) - MAX_LINE
    return f"{line[:MAX_LINE]}… (+{rest} characters)" if rest > 0 else line


def defuse(line: str) -> str:
    """Make one line harmless to a CI system that reads commands (`::x::`, `##[x]`) from logs."""
    return "│ " + line.replace("##[", "# #[")


def sanitise(text: str, *, ci: bool = False) -> str:
    """Make text of unknown origin fit for a terminal; with `ci` also for a CI system's log."""
    lines = [cut(printable(line)) for line in text.split("\n")]
    return "\n".join(map(defuse, lines) if ci else lines)


def secrets_in(environ: Mapping[str, str]) -> list[str]:
    """Return the values of variables that by their names are secrets."""
    return [value for name, value in environ.items() if name.endswith(_SECRET) and value]


class Redactor:
    """Replaces secrets, and the usual encodings of them, by `***`.

    Values shorter than MIN_LENGTH characters are not looked for. Threads may share one.
    """

    def __init__(self, secrets: Iterable[Secret | str] = ()) -> None:
        self._lock = threading.Lock()
        self._forms: tuple[str, ...] = ()
        self._pattern = regex(r"(?!)")
        self.add(*secrets)

    def add(self, *secrets: Secret | str) -> None:
        """Look for these too from now on: a login that was fetched in the middle of a run."""
        values = [s.reveal() if isinstance(s, Secret) else s for s in secrets]
        found = {form for value in values for form in _forms(value) if len(form) >= MIN_LENGTH}
        with self._lock:
            # Longest first: a whole value is replaced before a line of it.
            forms = sorted(found.union(self._forms), key=lambda form: (-len(form), form))
            self._pattern = regex("|".join(map(re.escape, forms)) or r"(?!)")
            self._forms = tuple(forms)

    def text(self, text: str) -> str:
        """Return `text` with every known secret replaced."""
        # Searching for plain strings is much faster than the alternation, and mostly enough.
        if any(form in text for form in self._forms):
            return self._pattern.sub(MASK, text)
        return text

    def line(self, line: str, *, ci: bool = False) -> str:
        """Return one line of unknown origin ready to be shown: defused, redacted, cut."""
        # Redacted before it is cut, else half a secret could stay at the edge.
        shown = cut(self.text(printable(line)))
        return defuse(shown) if ci else shown

    def lines(self, text: str, *, ci: bool = False) -> str:
        """Return text of several lines ready to be shown."""
        # Once as a whole, since a secret may itself have several lines.
        return "\n".join(self.line(line, ci=ci) for line in self.text(text).split("\n"))


def _forms(value: str) -> Iterator[str]:
    """Yield the ways in which a value commonly turns up in output."""
    for whole in {value, value.strip()}:
        yield from _encoded(whole)
    if "\n" in value:
        yield from (line.strip() for line in value.split("\n"))


def _encoded(value: str) -> Iterator[str]:
    data = value.encode("utf-8", "surrogatepass")
    yield value
    yield printable(value)
    for text in _base64(data):
        yield text
        yield text.translate(str.maketrans("+/", "-_"))
    yield data.hex()
    yield data.hex().upper()
    for escaped in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield escaped
        yield re.sub("%..", lambda match: match.group().lower(), escaped)
    yield "".join(f"%{byte:02X}" for byte in data)
    for text in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        yield text
        yield text.replace("/", "\\/")
    yield from _quoted(value)


def _quoted(value: str) -> Iterator[str]:
    """Yield a value as XML, C, Python and shells write it."""
    xml = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield xml
    yield xml.replace('"', "&quot;").replace("'", "&apos;")
    yield xml.replace('"', "&quot;").replace("'", "&#x27;")
    yield value.encode("unicode_escape").decode("ascii")
    yield repr(value)[1:-1]
    yield shlex.quote(value)
    yield value.replace("'", "'\\''")
    yield re.sub(r'([\\"$`])', r"\\\1", value)
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)
    yield value.replace("$", "$$")


def _base64(data: bytes) -> Iterator[str]:
    """Yield the part of the base64 text that is the same whatever stands around `data`.

    Three forms, because the value may begin at any of the three bytes of a group.
    """
    for shift in range(3):
        text = b64encode(bytes(shift) + data).decode("ascii")
        first = (shift * 8 + 5) // 6
        last = (shift + len(data)) * 8 // 6
        yield text[first:last]
