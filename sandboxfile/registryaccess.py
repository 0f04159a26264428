"""What a registry is shown so that it answers: nothing, a login, or a token of its token server.

The client side of the docker token and OAuth2 specifications. A login goes to its registry and to
that registry's token server alone.
"""

import base64
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from sandboxfile.credentials import HUB
from sandboxfile.errors import NotAllowed, Unreachable
from sandboxfile.loopback import is_loopback, leads_inside
from sandboxfile.model import TOKEN_USER, Login
from sandboxfile.patterns import regex
from sandboxfile.reference import ImageReference
from sandboxfile.registryanswers import (
    FORBIDDEN,
    OK,
    UNAUTHORIZED,
    json_object,
    not_sensible,
    said,
    unreachable,
)
from sandboxfile.web import Reply, Web

TOKEN_LIMIT = 1 << 20
TOKEN_MOST_S = 86_400.0  # the longest one that is believed
TOKEN_S = 60.0  # the shortest life of a token, and that of one which does not say (token spec)

Logins = Callable[[str], Login | None]


class Access:
    """What each registry wants to see in `Authorization`: nothing, a login, or a token."""

    def __init__(
        self,
        web: Web,
        logins: Logins,
        now: Callable[[], float],
    ) -> None:
        self._web = web
        self._logins = logins
        self._now = now
        self._lock = threading.Lock()
        self._asked: dict[str, Login | None] = {}
        self._basic: set[str] = set()
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}

    def login(self, host: str) -> Login | None:
        """Return the login for a registry; a helper program is asked only once."""
        with self._lock:
            if host not in self._asked:
                self._asked[host] = self._logins(host)
            return self._asked[host]

    def known(self, image: ImageReference) -> str | None:
        """Return what this registry wanted last time, while it is valid."""
        if image.registry in self._basic and (login := self.login(image.registry)):
            return _basic(login)
        token, until = self._tokens.get((image.registry, image.repository), ("", 0.0))
        return f"Bearer {token}" if token and self._now() < until else None

    def grant(self, image: ImageReference, reply: Reply) -> str | None:
        """Return what the refusal asks for, None when we do not have it (RFC 9110, 11.6.1)."""
        challenges = _challenges(reply.headers.get("www-authenticate", ""))
        login = self.login(image.registry)
        if "bearer" in challenges:
            token, seconds = self._token(image, challenges["bearer"], login)
            until = self._now() + seconds
            self._tokens[image.registry, image.repository] = (token, until)
            return f"Bearer {token}"
        if "basic" in challenges and login is not None:
            self._basic.add(image.registry)
            return _basic(login)
        return None

    def _token(
        self, image: ImageReference, challenge: Mapping[str, str], login: Login | None
    ) -> tuple[str, float]:
        """Ask the token server (docker token and OAuth2 specifications); the token, its seconds."""
        host = image.registry
        realm = challenge.get("realm", "")
        if not _is_safe(realm, host):
            raise Unreachable(
                f"registry `{host}` wants a token from an address that is not https, or is of this"
                " machine's own",
                hint="its administrator has to set the realm of its token server",
            )
        query = {"scope": challenge.get("scope") or f"repository:{image.repository}:pull"}
        if service := challenge.get("service"):
            query["service"] = service
        reply = self._ask(host, realm, query, login)
        if reply.status in {400, UNAUTHORIZED, FORBIDDEN}:
            what = f"registry `{host}` gives no access to `{image.repository}`{said(reply)}"
            raise NotAllowed(what, hint=remedy(host, login))
        if reply.status != OK:
            text = f"the token server of registry `{host}` answered {reply.status}"
            raise Unreachable(text, hint="try again later")
        return _granted(json_object(reply.body, image), image)

    def _ask(self, host: str, realm: str, query: Mapping[str, str], login: Login | None) -> Reply:
        try:
            if login is not None and login.username == TOKEN_USER:
                form = dict(query, grant_type="refresh_token", client_id="sandboxfile")
                form["refresh_token"] = login.password.reveal()
                return self._web.send(
                    "POST",
                    realm,
                    headers={"content-type": "application/x-www-form-urlencoded"},
                    content=urlencode(form).encode(),
                    limit=TOKEN_LIMIT,
                )
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
            headers = {"authorization": _basic(login)} if login else {}
            return self._web.send("GET", url, headers=headers, limit=TOKEN_LIMIT)
        except Unreachable as error:
            raise unreachable(host, error) from None


def _is_safe(realm: str, registry: str) -> bool:
    """Tell whether a login may be sent to a token server that a registry (`host[:port]`) names.

    One elsewhere must not have us send it to what listens on this machine.
    """
    try:
        parts = urlsplit(realm)
        host = parts.hostname or ""
        is_ours = is_loopback(urlsplit(f"//{registry}").hostname or "")
    except ValueError:
        return False
    if parts.scheme == "http":
        return is_ours and is_loopback(host)
    return parts.scheme == "https" and (is_ours or not leads_inside(host))


_SCHEME = regex(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)\s+")
_PARAMETER = regex(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


def _challenges(header: str) -> Mapping[str, Mapping[str, str]]:
    """Read `WWW-Authenticate`: parameters by scheme, names in lower case; junk ends it."""
    found: dict[str, dict[str, str]] = {}
    header, place = header + " ", 0
    while match := _SCHEME.match(header, place):
        parameters = found.setdefault(match[1].lower(), {})
        place = match.end()
        while match := _PARAMETER.match(header, place):
            quoted, plain = match[2], match[3]
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(match[1].lower(), value)
            place = match.end()
    return found


def _basic(login: Login) -> str:
    pair = f"{login.username}:{login.password.reveal()}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _granted(answer: Mapping[str, Any], image: ImageReference) -> tuple[str, float]:
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise not_sensible(image, "has a token server that gives no token")
    seconds = answer.get("expires_in")
    if not isinstance(seconds, int):
        return token, TOKEN_S
    return token, float(min(max(seconds, TOKEN_S), TOKEN_MOST_S))


def login_command(host: str) -> str:
    """Return what somebody types to log in."""
    return "docker login" if host == HUB else f"docker login {host}"


def remedy(host: str, login: Login | None) -> str:
    """Return what helps where a registry refuses, with this login."""
    if login is None:
        return (
            f"if it exists, log in with `{login_command(host)}`; the target's own registry also "
            "takes SANDBOXFILE_REGISTRY_USERNAME and SANDBOXFILE_REGISTRY_PASSWORD"
        )
    who = "the stored token" if login.username == TOKEN_USER else f"the login of `{login.username}`"
    return f"it was asked with {who}; log in again with `{login_command(host)}`"
