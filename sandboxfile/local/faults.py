"""Faults on purpose: what networks and services do to clients, at the edge of the local service.

`PLACE-EFFECT[=COUNT]` names one: `register-429` refuses the next registration, `status-503=3` the
next three looks at a build, `files-502=always` every link. Several at one place come one after
another, in the order given. docs/reference.md lists them.
"""

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from threading import Lock
from types import MappingProxyType
from typing import Any

from sandboxfile.errors import UsageError
from sandboxfile.local.wire import DIGITS, Answer, Request, answer, refusal

ALWAYS = "always"
Handle = Callable[[Request], Answer]
_Effect = Callable[[Handle, Request], "Answer | None"]  # None: nothing to spoil in this request

LOST = Answer(status=0, is_lost=True)
_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n</html>\r\n"
_XML = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
)


def _place(request: Request) -> str:
    """Return the name of the call, empty for one that has no faults of its own."""
    parts = request.path.strip("/").split("/")
    if parts[0] in {"v2", "v3"} and parts[1:2] == ["templates"]:
        parts = parts[1:]
    if parts[0] != "templates":
        return "upload" if request.method == "PUT" and parts[0] != "v2" else ""
    match request.method, parts[1:]:
        case (_, ["tags"]) | (_, [_, "tags"]):
            return "tags"
        case "POST", [] | [_]:
            return "register"
        case "POST", [_, "builds", _]:
            return "trigger"
        case _, [_, "builds", _, "status"]:
            return "status"
        case _, [_, "files", _]:
            return "files"
        case _:
            return "other"


# --- what happens ----------------------------------------------------------------------------


def _refused(status: int, message: str, **headers: str) -> _Effect:
    return lambda _handle, _request: refusal(status, message, **headers)


def _gateway(_handle: Handle, _request: Request) -> Answer:
    """Answer as a load balancer that does not reach the service, in no JSON."""
    return Answer(status=HTTPStatus.BAD_GATEWAY, body=_PAGE, headers={"Content-Type": "text/html"})


def _gone(_handle: Handle, _request: Request) -> Answer:
    """Hang up instead of carrying the request out."""
    return LOST


def _lost(handle: Handle, request: Request) -> Answer:
    """Carry the request out and hang up instead of answering."""
    handle(request)
    return LOST


def _expired(_handle: Handle, _request: Request) -> Answer:
    """Answer as the storage does to a link that is too old."""
    return Answer(
        status=HTTPStatus.FORBIDDEN, body=_XML, headers={"Content-Type": "application/xml"}
    )


def _waiting(handle: Handle, request: Request) -> Answer | None:
    """Tell a build as not begun yet, whatever it does."""
    true = handle(request)
    if true.status != HTTPStatus.OK:
        return None
    shape = _shape(true)
    shape.pop("reason", None)
    return answer(HTTPStatus.OK, {**shape, "status": "waiting", "logs": [], "logEntries": []})


def _late(handle: Handle, request: Request) -> Answer | None:
    """Give a build that has ended with one line of its log, so that the rest comes after it."""
    true = handle(request)
    shape = _shape(true)
    lines = shape.get("logEntries", [])
    if len(lines) < 2 or shape["status"] not in {"ready", "error"}:  # noqa: PLR2004 - more than one
        return None
    shape |= {"logEntries": lines[:1], "logs": shape["logs"][:1]}
    if "reason" in shape:
        shape["reason"] = {**shape["reason"], "logEntries": []}
    return answer(true.status, shape)


def _shape(true: Answer) -> dict[str, Any]:
    shape: dict[str, Any] = json.loads(true.body)
    return shape


_SLOWER = {
    "Retry_After": "1",
    "RateLimit_Limit": "1",
    "RateLimit_Remaining": "0",
    "RateLimit_Reset": "1",
}
_FULL = "you have reached the maximum number of concurrent template builds (20)"
_NO_BUILDER = "Error when getting available build client"

# Of every place; docs/protocol.md, 7.
_ANYWHERE: dict[str, _Effect] = {
    "401": _refused(401, "Invalid API key or access token"),
    "403": _refused(403, "You don't have access to this"),
    "429": _refused(429, "Rate limit exceeded", **_SLOWER),
    "500": _refused(500, "An internal error occurred"),
    "502": _gateway,
    "503": _refused(503, _NO_BUILDER),
    "gone": _gone,
    "lost": _lost,
}
_SPECIAL: dict[str, dict[str, _Effect]] = {
    "register": {"limit": _refused(429, _FULL)},
    "files": {},
    "upload": {"expired": _expired},
    "trigger": {},
    "status": {"waiting": _waiting, "late": _late},
    "tags": {},
    "other": {},
}
EFFECTS = MappingProxyType(
    {
        f"{place}-{name}": effect
        for place, special in _SPECIAL.items()
        for name, effect in {**_ANYWHERE, **special}.items()
    }
)


# --- when ------------------------------------------------------------------------------------


class Faults:
    """Faults that are still to come; safe from any thread."""

    def __init__(self, faults: Iterable[str] = ()) -> None:
        """Take `PLACE-EFFECT[=COUNT]`, once without a count. Raises UsageError."""
        self._lock = Lock()
        self._left: dict[str, float] = {}
        for text in faults:
            name, count = _read(text)
            self._left[name] = self._left.get(name, 0) + count

    @property
    def left(self) -> dict[str, float]:
        """How often each fault is still to come; infinite for `always`."""
        with self._lock:
            return {name: count for name, count in self._left.items() if count}

    def around(self, handle: Handle) -> Handle:
        """Return the handler with these faults; itself if there are none."""
        return (lambda request: self._handle(handle, request)) if self._left else handle

    def _handle(self, handle: Handle, request: Request) -> Answer:
        place = _place(request)
        for name in self._left:
            if name.rpartition("-")[0] == place and self._take(name):
                spoilt = EFFECTS[name](handle, request)
                if spoilt is not None:
                    return spoilt
                self._give_back(name)
        return handle(request)

    def _take(self, name: str) -> bool:
        with self._lock:
            is_left = self._left[name] > 0
            self._left[name] -= is_left
            return is_left

    def _give_back(self, name: str) -> None:
        with self._lock:
            self._left[name] += 1


def _read(text: str) -> tuple[str, float]:
    name, equals, count = text.partition("=")
    if name not in EFFECTS:
        raise UsageError(f"there is no fault `{name}`", hint=f"faults are {', '.join(EFFECTS)}")
    if not equals:
        return name, 1
    if count == ALWAYS:
        return name, float("inf")
    if not (count.isascii() and count.isdigit() and len(count) <= DIGITS):
        raise UsageError(
            f"the fault `{text}` has no number behind `=`",
            hint=f"write `{name}=2` or `{name}=always`",
        )
    return name, int(count)
