"""What may be wrong with a lock; the same things that lock-1.schema.json refuses."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sandboxfile.entries import VERSION
from sandboxfile.frozen import dataclass
from sandboxfile.model import DIGEST, NAME, TAG
from sandboxfile.patterns import regex

KEY = regex(r"sf[0-9]+:[0-9a-f]{64}")
ID = regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
IMAGE = regex(r"[A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]{0,511}")
PART = regex(r"[0-9a-f]{8}")
PART_NAME = regex(r"[a-z][a-z_]{0,31}")
RESOLVED = regex(r"[!-~]+( [!-~]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    on_key: bool = False


_TEXTS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "build_id": (ID, "a build ID"),
    "git_key": (KEY, "a key, `sf1:` and 64 hexadecimal digits,"),
    "image": (IMAGE, "an image reference"),
    "image_key": (KEY, "a key, `sf1:` and 64 hexadecimal digits,"),
    "parent": (NAME, "a template's name"),
    "template_id": (ID, "a template ID"),
    "template_key": (KEY, "a key, `sf1:` and 64 hexadecimal digits,"),
}
_REQUIRED = ("build_id", "image_key", "template_id", "template_key")
NEWER = "use a release of sandboxfile that reads lock format"
_AGAIN = "remove the file and run `sandboxfile build`: what is built is found again by its key"


def complaints(plain: object) -> Iterator[Complaint]:
    """Yield what is wrong; the same things that lock-1.schema.json refuses."""
    if not isinstance(plain, dict):
        yield Complaint(path=(), message="this is not a lock", hint=_AGAIN)
        return
    version = plain.get("version")
    if type(version) is int and version > VERSION:
        from sandboxfile import __version__

        yield Complaint(
            path=("version",),
            message=f"the lock has format {version}; sandboxfile {__version__} reads format "
            f"{VERSION}",
            hint=f"{NEWER} {version}",
        )
        return
    if type(version) is not int or version != VERSION:
        message = f"`version: {VERSION}` is expected"
        yield Complaint(path=("version",), message=message, hint=_AGAIN)
    yield from _unknown((), plain, ("version", "resolved", "targets"))
    yield from _each(("resolved",), plain.get("resolved", {}), RESOLVED, "a base", _digest)
    yield from _each(("targets",), plain.get("targets", {}), NAME, "a target's name", _target)


_Path = tuple[str | int, ...]
_Check = Callable[[_Path, object], Iterator[Complaint]]


def _each(
    path: _Path, value: object, names: re.Pattern[str], what: str, check: _Check
) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        yield Complaint(path=path, message="a map is expected", hint=_AGAIN)
        return
    for key, item in value.items():
        if not names.fullmatch(key):
            message = f"`{key}` is not {what}"
            yield Complaint(path=(*path, key), message=message, hint=_AGAIN, on_key=True)
        yield from check((*path, key), item)


def _unknown(path: _Path, plain: dict[str, Any], known: Collection[str]) -> Iterator[Complaint]:
    for key in plain:
        if key not in known:
            message = f"unknown key `{key}`"
            yield Complaint(path=(*path, key), message=message, hint=_AGAIN, on_key=True)


def _text(path: _Path, value: object, pattern: re.Pattern[str], what: str) -> Iterator[Complaint]:
    if isinstance(value, str) and pattern.fullmatch(value):
        return
    is_number = isinstance(value, (int, float)) and pattern.fullmatch(str(value))
    hint = f'write it as text: "{value}"' if is_number else _AGAIN
    yield Complaint(path=path, message=f"{what} is expected", hint=hint)


def _digest(path: _Path, value: object) -> Iterator[Complaint]:
    return _text(path, value, DIGEST, "a digest, `sha256:` and 64 hexadecimal digits,")


def _build(path: _Path, value: object) -> Iterator[Complaint]:
    return _text(path, value, ID, "a build ID")


def _part(path: _Path, value: object) -> Iterator[Complaint]:
    return _text(path, value, PART, "a short digest, 8 hexadecimal digits,")


def _target(path: _Path, value: object) -> Iterator[Complaint]:
    return _each(path, value, NAME, "a template's name", _entry_complaints)


def _entry_complaints(path: _Path, value: object) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        yield Complaint(path=path, message="a map is expected", hint=_AGAIN)
        return
    yield from _unknown(path, value, (*_TEXTS, "moved", "parts", "tags"))
    for key, (pattern, what) in _TEXTS.items():
        if key in value:
            yield from _text((*path, key), value[key], pattern, what)
        elif key in _REQUIRED:
            yield Complaint(path=path, message=f"`{key}` is missing", hint=_AGAIN, on_key=True)
    yield from _each((*path, "parts"), value.get("parts", {}), PART_NAME, "a part", _part)
    yield from _tags((*path, "tags"), value.get("tags", []))
    yield from _each((*path, "moved"), value.get("moved", {}), TAG, "a tag", _build)


def _tags(path: _Path, value: object) -> Iterator[Complaint]:
    if not isinstance(value, list):
        yield Complaint(path=path, message="a list is expected", hint=_AGAIN)
        return
    for index, tag in enumerate(value):
        yield from _text((*path, index), tag, TAG, "a tag")
        if tag in value[:index]:
            message = f"the tag `{tag}` is given twice"
            yield Complaint(path=(*path, index), message=message, hint=_AGAIN)
