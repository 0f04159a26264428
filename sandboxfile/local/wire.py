"""Requests and answers of the local service as values, and how their JSON is read and written."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

from sandboxfile.frozen import dataclass, field
from sandboxfile.local.records import Refusal

DIGITS = 18  # of a number in a query or a token: what the store can keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request; `path` as sent, with its escapes, headers in lower case.

    `content` is the body of a request that streams, to be taken once; then `body` is empty.
    `length` is its size as announced, None where it comes in chunks. `query` has the last value of
    each name, `texts` all.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    content: Iterable[bytes] = ()
    length: int | None = 0
    query_string: str = ""

    def texts(self, name: str) -> list[str]:
        """Return all values that the query has for a name."""
        return parse_qs(self.query_string).get(name, [])

    @property
    def base_url(self) -> str:
        """Where the client found us: only that address is sure to be one that it can reach."""
        scheme = self.headers.get("x-forwarded-proto", "http")  # behind a proxy that adds TLS
        return f"{'https' if scheme == 'https' else 'http'}://{self.headers.get('host', '')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; an empty body is sent as none, `file` in place of a body.

    One that `is_lost` is never sent: we hang up.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_lost: bool = False
    file: Path | None = None


def answer(status: int, value: object, **headers: str) -> Answer:
    """Make an answer of a JSON value; header names are written with `_` for `-`."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status=status, body=body, headers={"Content-Type": "application/json", **named})


def refusal(status: int, message: str, **headers: str) -> Answer:
    return answer(status, {"code": status, "message": message}, **headers)


def storage_error(status: int, code: str, message: str) -> Answer:
    """Answer as storages of the S3 kind do; `message` has no characters that XML minds."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return Answer(status=status, body=body.encode(), headers={"Content-Type": "application/xml"})


def timestamp(microseconds: int) -> str:
    """Write a time as RFC 3339 in UTC."""
    moment = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a JSON object of a request; unknown ones are let be, null is absent.

    Everything raises Refusal 400 for a value of another type.
    """

    values: Mapping[str, object]

    @classmethod
    def read(cls, body: bytes) -> "Fields":
        try:
            values = json.loads(body)
            # Half of a surrogate pair is no text (RFC 8259, 8.2): nothing could store or send it.
            json.dumps(values, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"Invalid request body: {error}") from None
        return cls.of(values)

    @classmethod
    def of(cls, values: object) -> "Fields":
        if not isinstance(values, dict):
            raise Refusal(400, "Invalid request body: an object is wanted")
        return cls(values)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise _mistyped(name, "a string")

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise Refusal(400, f"validation error: property '{name}' is missing")
        return value

    def number(self, name: str, default: int) -> int:
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _mistyped(name, "an integer")

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise _mistyped(name, "a boolean")

    def texts(self, name: str) -> tuple[str, ...]:
        items = self._items(name)
        if not all(isinstance(item, str) for item in items):
            raise _mistyped(name, "an array of strings")
        return tuple(str(item) for item in items)

    def objects(self, name: str) -> tuple["Fields", ...]:
        return tuple(Fields.of(item) for item in self._items(name))

    def nested(self, name: str) -> "Fields | None":
        value = self.values.get(name)
        return None if value is None else Fields.of(value)

    def _items(self, name: str) -> list[object]:
        value = self.values.get(name)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise _mistyped(name, "an array")


def _mistyped(name: str, wanted: str) -> Refusal:
    return Refusal(400, f"validation error: property '{name}' must be {wanted}")


def query_number(query: Mapping[str, str], name: str, default: int, *, low: int, high: int) -> int:
    """Return a whole number of the query. Raises Refusal 400 outside `low` to `high`."""
    text = query.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= DIGITS
    if not is_number or not low <= int(text) <= high:
        raise Refusal(
            400, f"validation error: parameter '{name}' must be a number from {low} to {high}"
        )
    return int(text)


def query_choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    """Return one of the words of the query, None if absent. Raises Refusal 400 for another."""
    text = query.get(name)
    if text is not None and text not in choices:
        wanted = ", ".join(choices)
        raise Refusal(400, f"validation error: parameter '{name}' must be one of {wanted}")
    return text
