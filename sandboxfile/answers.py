"""Read what a template service answers as coming from a stranger; errors name the address."""

from collections.abc import Mapping
from typing import cast

from sandboxfile.errors import Unreachable
from sandboxfile.model import UUID
from sandboxfile.patterns import regex
from sandboxfile.redact import sanitise
from sandboxfile.web import Reply, shown

TEMPLATE_ID = regex(r"[a-z0-9]{1,64}")
MAX_TEXT = 2048


def clean(text: object) -> str:
    """Make one line of it: a line of theirs in our output could be a command to a CI system."""
    if not isinstance(text, str):
        return ""
    return sanitise(" ".join(text[:MAX_TEXT].replace("\r", "\n").split("\n")).strip())


def nonsense(reply: Reply, why: str) -> Unreachable:
    return Unreachable(
        f"`{shown(reply.url)}` answered nonsense: {why}",
        hint="is this address really a template service's?",
    )


def mapping(reply: Reply, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise nonsense(reply, "an object was expected")
    return cast("Mapping[str, object]", value)


def fields(reply: Reply) -> Mapping[str, object]:
    return mapping(reply, reply.json())


def array(reply: Reply, value: object) -> list[object]:
    if not isinstance(value, list):
        raise nonsense(reply, "a list was expected")
    return value


def text(reply: Reply, answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise nonsense(reply, f"`{name}` is missing")
    return clean(value)


def template_id(reply: Reply, answer: Mapping[str, object]) -> str:
    value = text(reply, answer, "templateID")
    if not TEMPLATE_ID.fullmatch(value):
        raise nonsense(reply, "`templateID` is not a template's ID")
    return value


def build_id(reply: Reply, answer: Mapping[str, object]) -> str:
    value = text(reply, answer, "buildID")
    if not UUID.fullmatch(value):
        raise nonsense(reply, "`buildID` is not a build's ID")
    return value
