"""What a template service says when it does not do what was asked: one clear error each.

Sections named here are those of `docs/protocol.md`.
"""

import re
from urllib.parse import urljoin, urlsplit

from sandboxfile import answers
from sandboxfile.errors import NotAllowed, SandboxfileError, Unreachable
from sandboxfile.patterns import regex
from sandboxfile.redact import sanitise
from sandboxfile.web import REDIRECTS, Reply, shown

_THING = regex(r"\b(template|tag|build|alias)\b", re.IGNORECASE)


class Answered(SandboxfileError):  # noqa: N818 - named for what it says
    """An HTTP answer that is not what was asked for; `text` is the service's own message."""

    status: int = 0
    text: str = ""

    def says(self, *words: str) -> bool:
        """Tell whether the service's message contains one of these."""
        return any(word in self.text.lower() for word in words)

    @property
    def is_missing(self) -> bool:
        """Whether the service does not have this call at all.

        404 is also what it says of things that are not there, but then it names the thing.
        """
        if self.status in {405, 501}:
            return True
        return self.status == 404 and not _THING.search(self.text)  # noqa: PLR2004 - HTTP statuses

    @property
    def is_gone(self) -> bool:
        """Whether the service says that a build is not there (400 "not found", or 404)."""
        is_unknown = self.status == 400 and self.says("not found")  # noqa: PLR2004 - HTTP
        return self.status == 404 or is_unknown  # noqa: PLR2004 - an HTTP status


class Rejected(Answered):
    """The service understood and says no: 400, 404, 409 and the like. Never repeated as is."""


class NameTaken(Rejected):
    """The template's name belongs to another template or team (403 and 409 when registering)."""


class InUse(Rejected):
    """The template is not deleted: sandboxes run, or are paused, on it."""


class Denied(Answered, NotAllowed):
    """401 or 403: the credential is missing, wrong, or not for this."""


class Busy(Answered, NotAllowed):
    """429 after all waiting: a rate limit, or as many builds at once as the account may run."""


class Failing(Answered, Unreachable):
    """The service has a fault of its own (5xx); the request may have been carried out."""


def error(reply: Reply, *, has_key: bool, key_source: str) -> SandboxfileError:
    """Map an answer to one clear message (section 7).

    `has_key` says whether a credential was sent, `key_source` where it came from.
    """
    text, status = _message(reply), reply.status
    host = urlsplit(reply.url).netloc.rpartition("@")[2]
    where = f"`{shown(reply.url)}` answered {status}" + (f": {text}" if text else "")
    found: Answered
    if status in REDIRECTS:
        return _redirected(reply, host)
    if status in {403, 409} and "already used" in text.lower():
        found = NameTaken(
            f"the template name is taken: {text}",
            hint="it belongs to another template or team at this service: choose another name",
        )
    elif status in {401, 403}:
        found = _denied(status, host, text, has_key=has_key, key_source=key_source)
    elif status == 429:  # noqa: PLR2004 - an HTTP status
        hint = "wait for running builds to end, or lower -j"
        found = Busy(f"`{host}` has no room for more requests: {text or status}", hint=hint)
    elif status >= 500:  # noqa: PLR2004 - an HTTP status
        hint = "this is the service's own fault; run the command again later"
        found = Failing(where, hint=hint)
    else:
        found = Rejected(where)
    found.status, found.text = status, text
    return found


def _denied(status: int, host: str, text: str, *, has_key: bool, key_source: str) -> Denied:
    said = f": {text}" if text else ""
    if not has_key:
        return Denied(f"`{host}` wants a key{said}", hint=f"set {key_source}")
    if status == 401:  # noqa: PLR2004 - an HTTP status
        return Denied(
            f"`{host}` does not accept the key from {key_source}{said}",
            hint=f"check {key_source}, and that the target's domain is the key's",
        )
    return Denied(
        f"the key from {key_source} may not do this at `{host}`{said}",
        hint="it may belong to another team, or lack the permission",
    )


def in_use(error: Rejected, template_id: str) -> InUse:
    """Return what it means that a template is not deleted."""
    kind = "paused" if error.says("paused sandboxes") else "running"
    found = InUse(
        f"template {template_id} is in use by {kind} sandboxes",
        hint="end them, or wait until they end, and run the command again",
    )
    found.status, found.text = error.status, error.text
    return found


def _redirected(reply: Reply, host: str) -> Unreachable:
    hint = "check the target's domain or api_url"
    try:
        location = reply.headers.get("location", "")
        url = urljoin(reply.url, location) if location else ""
        target = urlsplit(url).hostname or "elsewhere"
    except ValueError:
        return Unreachable(f"`{host}` redirects to what is no address", hint=hint)
    if url == reply.url:
        return Unreachable(f"`{shown(url)}` redirects to itself", hint=hint)
    return Unreachable(
        f"`{host}` redirects to `{sanitise(target)}`; a key is not sent along a redirect",
        hint=hint,
    )


def _message(reply: Reply) -> str:
    """Return the service's own words, fit to be shown, at most 2 KiB."""
    try:
        answer = reply.json()
    except Unreachable:
        answer = None
    if isinstance(answer, dict):
        return answers.clean(answer.get("message") or answer.get("error"))
    if "html" in reply.headers.get("content-type", ""):
        return ""
    return answers.clean(reply.body[: answers.MAX_TEXT * 2].decode(errors="replace"))
