"""The tokens of the v1 registry: who gets one, and what it opens (docs/protocol.md, 2.5)."""

import base64
import re
import secrets
import string
import time
from collections.abc import Callable, Sequence
from threading import Lock

from sandboxfile.local.repositories import REPOSITORY

USER = "_e2b_access_token"
EXPIRES_IN_S = 3600  # what clients are told; docs/protocol.md, 2.5
LIFE_S = 2 * 3600
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 128
_SCOPE = re.compile(rf"repository:{REPOSITORY}/([a-z0-9]+):([a-z,*]+)")


class Denied(Exception):  # noqa: N818 - an answer, not a defect
    """A token that is not given out: an HTTP status and its plain text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Tokens:
    """Tokens given out, in memory: a client whose token is unknown asks for another."""

    def __init__(
        self,
        *,
        is_valid: Callable[[str], bool],
        is_waiting: Callable[[str], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take access tokens that are `is_valid`, for templates with a build that `is_waiting`."""
        self._is_valid = is_valid
        self._is_waiting = is_waiting
        self._now = now
        self._lock = Lock()
        self._given: dict[str, tuple[str, float]] = {}  # token: template, end

    def issue(self, authorization: str, scopes: Sequence[str]) -> str:
        """Return a token for a scope; without one it opens nothing (a login). Raises Denied.

        Several come when layers may be mounted from elsewhere: the one that pushes is meant.
        """
        if not self._is_valid(_access_token(authorization)):
            raise Denied(403, "invalid access token")
        pushes = (each for each in scopes if "push" in each.rpartition(":")[2])
        wanted = [*pushes, *scopes]
        return self._remember(self._template(wanted[0]) if wanted else "")

    def _template(self, scope: str) -> str:
        found = _SCOPE.fullmatch(scope)
        if found is None:
            raise Denied(400, f"invalid scope: repository:{REPOSITORY}/<template> is wanted")
        template, actions = found.groups()
        if "delete" in actions.split(","):
            raise Denied(403, "access denied: nothing can be deleted")
        if not self._is_waiting(template):
            raise Denied(403, "access denied: no build of this template is waiting for an image")
        return template

    def _remember(self, template: str) -> str:
        token = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        now = self._now()
        with self._lock:
            self._given = {each: what for each, what in self._given.items() if what[1] > now}
            self._given[token] = template, now + LIFE_S
        return token

    def template(self, authorization: str) -> str | None:
        """Return what a bearer token opens, empty for nothing; None when it is unknown."""
        scheme, _, token = authorization.partition(" ")
        template, end = self._given.get(token.strip(), ("", 0.0))
        known = scheme.lower() == "bearer" and end > self._now()
        return template if known else None


def _access_token(authorization: str) -> str:
    """Return the password of basic credentials. Raises Denied for other credentials."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        decoded = ""
    user, colon, token = decoded.partition(":")
    token = token.strip().removeprefix('"').removesuffix('"').strip()
    if scheme.lower() != "basic" or not colon or user != USER or ":" in token:
        raise Denied(400, f"invalid credentials: the user {USER} with an access token is wanted")
    return token
