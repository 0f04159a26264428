"""Whose requests are answered: keys and access tokens, and which calls take which (1.6).

Numbers in brackets are sections of docs/protocol.md.
"""

import hmac
from typing import Literal

from sandboxfile.frozen import dataclass
from sandboxfile.local import shapes
from sandboxfile.local.records import Refusal
from sandboxfile.local.wire import Request
from sandboxfile.model import Secret

Allowed = Literal["key", "token", "either", "anyone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """`key` is the only credential accepted, None accepts any.

    When `strict`, each call takes the kind of credential that is its own, as E2B has it.
    """

    key: Secret | None = None
    strict: bool = False

    def check(self, request: Request, allowed: Allowed) -> None:
        """Raise Refusal unless the request bears a credential that this call takes."""
        if allowed == "anyone" or (self.key is None and not self.strict):
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = {
            "key": request.headers.get("x-api-key", ""),
            "token": token.strip() if scheme.lower() == "bearer" else "",
        }
        if self.strict and allowed != "either":
            given = {allowed: given[allowed]}
        if not any(self.is_valid(value) for value in given.values()):
            raise Refusal(401, "Invalid API key or access token")

    def is_valid(self, value: str) -> bool:
        """Tell whether a key or access token is good."""
        if self.key is None:
            return bool(value)
        return hmac.compare_digest(value.encode(), self.key.reveal().encode())

    def check_team(self, request: Request) -> None:
        """Refuse another team's id, in strict mode: tools keep one from their last login."""
        if self.strict and request.query.get("teamID", shapes.TEAM) != shapes.TEAM:
            raise Refusal(400, "Team ID param mismatch with the API key")
