"""Pushes and pulls by the engine: the digest, who refused, and what is worth another try."""

import base64
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sandboxfile.cancel import Cancel
from sandboxfile.engines.wire import Message, Refused, Wire, failure, segment
from sandboxfile.errors import BuildFailed, NotAllowed, Unreachable
from sandboxfile.events import Emit, Log, Notice, Sent
from sandboxfile.frozen import dataclass
from sandboxfile.model import PLATFORM, TOKEN_USER, Login
from sandboxfile.patterns import regex

DELAYS_S = (1.0, 4.0, 10.0)

_DIGEST = regex(r"digest: (sha256:[0-9a-f]{64}) size")
# What engines say of failures, which differs by engine, image store and registry; each was seen.
# Written as text: a run in which nothing fails compiles none of it.
_DENIED = (
    r"(?i)unauthorized|denied|no basic auth credentials|authentication required|bad credentials"
    r"|insufficient[_ ]scope|incorrect username or password|access forbidden|\b40[13]\b"
)
_ABSENT = (
    r"(?i)not found|name unknown|name[_ ]unknown|not known to registry|does not exist"
    r"|manifest unknown|\b404\b"
)
_PLAIN_HTTP = r"(?i)server gave HTTP response to HTTPS client"
_PASSING = (
    r"(?i)\bEOF\b|connection re(?:set|fused)|broken pipe|time-?d? ?out|timeout|i/o|no such host"
    r"|temporary failure|TLS handshake|network is unreachable|no route to host|closed"
    r"|too many requests|unavailable|bad gateway|internal server error|\b(?:429|5\d\d)\b"
    # Another push of the same layers at the same time, seen with Docker's own registry.
    r"|blob unknown to registry|blob upload (?:unknown|invalid)"
)


class _Passing(Exception):  # noqa: N818
    """A transfer failed for a reason that may be gone in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One image to or from a registry: what it is called there, and who we are."""

    wire: Wire
    repository: str
    login: Login | None
    emit: Emit
    job: str
    delays_s: tuple[float, ...] = DELAYS_S

    @property
    def registry(self) -> str:
        host, slash, _ = self.repository.partition("/")
        named = slash and ("." in host or ":" in host or host == "localhost")
        return host if named else "docker.io"

    def push(self, tag: str, cancel: Cancel) -> str:
        """Push `repository:tag`, return its digest. Raises as Engine.push does."""
        return self._persistently(lambda: self._push(tag, cancel), cancel)

    def pull(self, version: str, cancel: Cancel) -> None:
        """Pull a digest or tag. Raises as Engine.ensure does."""
        self._persistently(lambda: self._pull(version, cancel), cancel)

    def _push(self, tag: str, cancel: Cancel) -> str:
        digest = ""
        layers: dict[str, int] = {}
        path = f"/images/{segment(self.repository)}/push"
        try:
            with self._messages(path, {"tag": tag}, cancel) as messages:
                for message in messages:
                    found = _DIGEST.search(str(message.get("status", "")))
                    digest = found[1] if found else digest
                    _count(message, layers)
        finally:
            self.emit(Sent(job=self.job, bytes=sum(layers.values())))
        if not digest:
            raise _Passing("the engine ended the push without a digest")
        return digest

    def _pull(self, version: str, cancel: Cancel) -> str:
        params = {"fromImage": self.repository, "tag": version, "platform": PLATFORM}
        with self._messages("/images/create", params, cancel) as messages:
            for _ in messages:
                pass
        return version

    @contextmanager
    def _messages(
        self, path: str, params: dict[str, str], cancel: Cancel
    ) -> Iterator[Iterator[Message]]:
        # Always a header, even an empty one: without it, some clients and engines go looking for
        # credentials of their own.
        headers = {"X-Registry-Auth": _header(self.login, self.registry)}
        try:
            with self.wire.stream(path, params=params, headers=headers, cancel=cancel) as messages:
                yield map(self._checked, messages)
        except Refused as refused:
            raise self._judged(refused.reason) from refused

    def _checked(self, message: Message) -> Message:
        if failed := failure(message):
            raise self._judged(failed[0])
        status = str(message.get("status", ""))
        if status and "progressDetail" not in message:
            self.emit(Log(job=self.job, text=status, stream="info"))
        return message

    def _judged(self, reason: str) -> Exception:
        """Make the error for a reason that an engine gave."""
        reason = " ".join(reason.split())
        if re.search(_DENIED, reason):
            account = f" as `{self.login.username}`" if self.login else ""
            return NotAllowed(
                f"the registry `{self.registry}` refused `{self.repository}`{account}: {reason}",
                hint=f"log in with `docker login {self.registry}`",
            )
        if re.search(_PLAIN_HTTP, reason):
            return Unreachable(
                f"the registry `{self.registry}` speaks plain HTTP: {reason}",
                hint=f"give it TLS, or add `{self.registry}` to the engine's insecure-registries",
            )
        if re.search(_PASSING, reason) and not re.search(_ABSENT, reason):
            return _Passing(reason)
        if re.search(_ABSENT, reason):
            return NotAllowed(
                f"the registry `{self.registry}` has no `{self.repository}`, or hides it: {reason}",
                hint=f"check the name; if it is private, `docker login {self.registry}`",
            )
        return BuildFailed(f"the transfer of `{self.repository}` failed: {reason}")

    def _persistently(self, attempt: Callable[[], str], cancel: Cancel) -> str:
        for delay in (*self.delays_s, None):
            try:
                return attempt()
            except _Passing as passing:
                cancel.check()
                if delay is None:
                    raise Unreachable(
                        f"the registry `{self.registry}` does not answer sensibly: {passing}",
                        hint="what was transferred is kept there; run again later",
                    ) from passing
                self._announce(passing, delay)
            cancel.wait(delay * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads the load
        raise AssertionError("the loop ends by itself")

    def _announce(self, passing: _Passing, delay: float) -> None:
        text = f"`{self.registry}`: {passing}; trying again in {delay:g} s"
        self.emit(Notice(job=self.job, text=text, level="warning"))


def _count(message: Message, layers: dict[str, int]) -> None:
    """Take note of how much of a layer has been sent, by what an engine says of its progress."""
    detail = message.get("progressDetail")
    if message.get("status") == "Pushing" and isinstance(detail, dict):
        current, name = detail.get("current"), str(message.get("id"))
        if isinstance(current, int):
            layers[name] = max(layers.get(name, 0), current)


def _header(login: Login | None, registry: str) -> str:
    fields = {}
    if login and login.username == TOKEN_USER:  # Docker Engine API, X-Registry-Auth
        fields = {"identitytoken": login.password.reveal(), "serveraddress": registry}
    elif login:
        fields = {
            "username": login.username,
            "password": login.password.reveal(),
            "serveraddress": registry,
        }
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def split(reference: str) -> tuple[str, str]:
    """Return repository and version (tag or digest) of an image name; the tag is `latest`."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        repository, _ = split(name)
        return repository, digest
    head, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        return reference, "latest"
    return head, tag
