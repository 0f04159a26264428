"""What a failed build at a service means: lost there, overtaken by another, or the user's."""

import re
from collections.abc import Iterable
from typing import Literal

from sandboxfile.buildstatus import BuildStatus
from sandboxfile.errors import BuildFailed, NotAllowed, SandboxfileError
from sandboxfile.frozen import dataclass
from sandboxfile.model import Template
from sandboxfile.places import Position

Kind = Literal["superseded", "service", "user"]

# Texts of docs/protocol.md, 5.7, in lower case.
SUPERSEDED = ("superseded by a newer one", "build was cancelled", "build was canceled")
SERVICE = (
    "polling received unrecoverable error",
    "an internal error occurred",
    "in waiting state for too long",
    "already exists in cache",
    "error when building env",
    "error when starting template build",
)
_HINTS = (
    ("ready command timed out", "does the start command serve what `ready` asks for?"),
    ("provisioning sandbox", "the service needs a Debian-like image: apt and glibc"),
    ("does not match expected", "build for linux/amd64, the only platform of the service"),
    ("failed to pull image", "the service must be able to reach the target's registry"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A step that we sent: what asked for it, and what it does if it is a script of ours."""

    at: Position
    script: str = ""
    title: str = ""


def kind(page: BuildStatus) -> Kind:
    """Tell whose failure it is; one without any reason is the service's."""
    reason = page.reason.lower()
    if any(text in reason for text in SUPERSEDED):
        return "superseded"
    if not reason or any(text in reason for text in SERVICE):
        return "service"
    return "user"


def explain(
    page: BuildStatus, template: Template, *, tail: Iterable[str], steps: tuple[Asked, ...] = ()
) -> SandboxfileError:
    """Return the error for a failed build; `steps` are those that we sent.

    Services quote the commands that they ran: of ours, people are told what they do.
    """
    reason = _in_words(page.reason, steps) or "no reason given"
    text = f"`{template.name}` failed at the service: {reason}"
    at = _place(page, template, steps)
    if page.reason.lower().startswith("access denied to"):
        hint = "give the service a login that may pull: the target's registry credentials"
        return NotAllowed(text, hint=hint, at=at)
    status = re.search(r"exit status:? (\d{1,3})", page.reason)
    return BuildFailed(
        text,
        hint=next((hint for part, hint in _HINTS if part in page.reason.lower()), ""),
        at=at,
        step=page.step,
        status=int(status[1]) if status else None,
        tail=tuple(_in_words(line, steps) for line in tail),
    )


def _in_words(text: str, steps: tuple[Asked, ...]) -> str:
    for each in steps:
        if each.script and each.title:
            text = text.replace(each.script, each.title)
    return text


def _place(page: BuildStatus, template: Template, steps: tuple[Asked, ...]) -> Position:
    reason = page.reason.lower()
    for key in ("start", "ready"):
        if reason.startswith(f"{key} command"):
            return template.place(key)
    if page.step == "base":
        return template.place("base")
    if re.fullmatch("[0-9]{1,9}", page.step) and 0 < int(page.step) <= len(steps):
        return steps[int(page.step) - 1].at
    return template.at
