"""Variables in a Dockerfile's text, replaced by the rules of Docker (Dockerfile reference)."""

from collections.abc import Callable

from sandboxfile.patterns import regex

_NAME = regex(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#]")


def expanded(text: str, value: Callable[[str], str | None], escape: str) -> str:
    """Return a text with variables replaced and quotes taken away, by the rules of Docker.

    Raises ValueError with the reason.
    """
    return _Expansion(text, value, escape).result()


class _Expansion:
    """Replaces `$X`, `${X}`, `${X:-word}` and their like, and takes quotes away."""

    def __init__(self, text: str, value: Callable[[str], str | None], escape: str) -> None:
        self._text = text
        self._value = value
        self._escape = escape
        self._at = 0

    def result(self) -> str:
        """Return the text replaced. Raises ValueError with the reason."""
        return self._until("")

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise ValueError("a quote or brace is not closed")
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, stop: str) -> str:
        found = ""
        while stop or self._at < len(self._text):
            letter = self._next()
            if letter == stop:
                break
            found += self._one(letter, is_quoted=stop == '"')
        return found

    def _one(self, letter: str, *, is_quoted: bool) -> str:
        if letter == "$":
            return self._variable()
        if letter == self._escape:
            following = self._next()
            keeps = is_quoted and following not in ('"', "$", self._escape)
            return letter + following if keeps else following
        if letter == "'" and not is_quoted:
            return self._literal()
        return self._until('"') if letter == '"' else letter

    def _literal(self) -> str:
        found = ""
        while (letter := self._next()) != "'":
            found += letter
        return found

    def _variable(self) -> str:
        has_brace = self._text.startswith("{", self._at)
        name = _NAME.match(self._text, self._at + has_brace)
        if not name and not has_brace:
            return "$"
        if not name:
            raise ValueError("`${` is not followed by a name")
        self._at = name.end()
        value = self._value(name[0])
        return self._modified(name[0], value) if has_brace else value or ""

    def _modified(self, name: str, value: str | None) -> str:
        sign = self._next()
        if sign == "}":
            return value or ""
        if sign == ":":
            value, sign = value or None, self._next()
        if sign not in "-+?":
            raise ValueError(f"the modifier of `{name}` is not one of `-`, `+` and `?`")
        word = self._until("}")
        if sign == "?" and value is None:
            raise ValueError(f"`{name}` is not set: {word}")
        if sign == "+":
            return "" if value is None else word
        return word if value is None else value
