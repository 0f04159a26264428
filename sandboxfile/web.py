"""The only door to HTTP: whole replies, total deadlines, careful retries, no secret in an error."""

import json as jsonlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from sandboxfile import __version__, proxies
from sandboxfile.cancel import Cancel
from sandboxfile.errors import Cancelled, SandboxfileError, Unreachable
from sandboxfile.events import Emit, Notice
from sandboxfile.frozen import dataclass, field, replace

USER_AGENT = f"sandboxfile/{__version__}"

Retry = Literal["never", "connect", "idempotent"]

TOO_MANY_REQUESTS = 429
AGAIN = frozenset({TOO_MANY_REQUESTS, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CONNECT_S = 10.0
RETRY_COST = 5


class AnswerLost(Unreachable):
    """The request was sent and no whole answer came: it may or may not have been carried out."""


class _Refused(Unreachable):
    """Nothing was sent and trying again cannot help: a bad address, a certificate, a proxy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole HTTP answer, whatever its status; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def json(self) -> object:
        """Return the body read as JSON. Raises Unreachable when it is none (RFC 8259)."""
        try:
            return jsonlib.loads(self.body, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Unreachable(
                f"`{shown(self.url)}` answered {self.status} with something that is not JSON",
                hint="is this address really the service's?",
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how long: waits double from `first_s` to `most_s`, with full jitter.

    That a host has been silent for `silent_s` is told once for all that wait for it.

    `retry_after_s` caps what a server may ask for. A wait of a second or more is told, and any
    after an attempt that itself took `slow_s`: somebody is waiting at the screen; what several
    workers wait for is told once. A rate limit holds up all requests to its host. All retries of
    a process share one `budget`, so that a broken service is not hit by every worker's every
    attempt: a retry takes five from it, an answer gives one back.
    """

    attempts: int = 6
    first_s: float = 0.5
    most_s: float = 20.0
    retry_after_s: float = 120.0
    slow_s: float = 2.0
    silent_s: float = 10.0
    budget: int = 500
    random: Callable[[], float] = field(default=SystemRandom().random)

    def wait_s(self, attempt: int, reply: Reply | None) -> float:
        """Return the seconds to wait after failed attempt number `attempt` (from 1)."""
        jittered: float = self.random() * min(self.most_s, self.first_s * 2**attempt)
        asked = retry_after(reply) if reply else None
        return max(jittered, min(asked, self.retry_after_s)) if asked is not None else jittered


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is sent piece by piece: exactly `size` bytes, and the same at each `open`."""

    size: int
    open: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """`called` is what errors call the address, `stall_s` how long the peer may say nothing."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | Body | None
    timeout_s: float
    limit: int
    grace_s: float
    called: str = ""
    stall_s: float | None = None

    @property
    def name(self) -> str:
        """The address as it may be shown."""
        return self.called or shown(self.url)


class Web:
    """A pool of connections; safe to share between threads.

    `sleep` replaces waiting between attempts (tests); waits end when `cancel` is pressed.
    """

    def __init__(
        self,
        *,
        user_agent: str = USER_AGENT,
        cancel: Cancel | None = None,
        emit: Emit | None = None,
        retries: Retries | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._cancel = cancel or Cancel()
        self._emit = emit
        self._retries = retries or Retries()
        self._sleep = sleep or self._cancel.wait
        self._budget = self._retries.budget
        self._lock = threading.Lock()
        self._user_agent = user_agent
        self._clients: dict[str, Any] = {}
        self._held: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | None = None,
        retry: Retry = "idempotent",
        timeout_s: float = 60.0,
        limit: int = 4 << 20,
        redirects: int = 0,
        grace_s: float = 0.0,
    ) -> Reply:
        """Send one request and return its whole answer.

        `timeout_s` bounds one attempt from the first byte to the last, `limit` the body in bytes.
        `retry`: "idempotent" repeats after lost answers, 429, 502, 503 and 504; "connect" only
        what certainly was not carried out (nothing was sent, or 429 with Retry-After). A redirect
        is followed `redirects` times, to another origin without credentials, never from https
        to http; else it is the reply. When the run is cancelled, an answer is waited for another
        `grace_s` seconds.

        Raises Unreachable (AnswerLost when the request may have been carried out), Cancelled.
        """
        given = dict(headers or {})
        if json is not None:
            content = jsonlib.dumps(json, ensure_ascii=False, allow_nan=False).encode()
            given["content-type"] = "application/json"
        request = _Request(
            method=method,
            url=url,
            headers=given,
            content=content,
            timeout_s=timeout_s,
            limit=limit,
            grace_s=grace_s,
        )
        reply = self._persist(request, retry)
        for _ in range(redirects):
            if reply.status not in REDIRECTS or "location" not in reply.headers:
                break
            request = _redirected(request, reply.headers["location"])
            reply = self._persist(request, retry)
        return reply

    def upload(self, url: str, body: Body, *, timeout_s: float, stall_s: float = 120.0) -> Reply:
        """Send a body to a signed address (PUT), with its length and no header of ours but a name.

        The address is a secret: of it only the host is ever shown. No redirect is followed, and
        what was lost on the way is sent again. Raises Unreachable, Cancelled, and what `body`
        raises.
        """
        request = _Request(
            method="PUT",
            url=url,
            headers={"content-length": str(body.size)},
            content=body,
            timeout_s=timeout_s,
            limit=1 << 20,
            grace_s=0.0,
            called=host(url),
            stall_s=stall_s,
        )
        return self._persist(request, "idempotent")

    def pause(self, seconds: float) -> None:
        """Wait, as between attempts. Raises Cancelled."""
        self._sleep(seconds)

    def close(self) -> None:
        """Give back all connections."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _persist(self, request: _Request, retry: Retry) -> Reply:
        attempt = 0
        while True:
            attempt += 1
            began = time.monotonic()
            reply: Reply | None = None
            error: Unreachable | None = None
            try:
                reply = self._try(request)
            except Unreachable as caught:
                error = caught
            if not self._once_more(attempt, retry, reply, error):
                if reply is not None:
                    self._pay_back()
                    return reply
                assert error is not None
                raise error
            seconds = self._retries.wait_s(attempt, reply)
            if reply is not None and reply.status == TOO_MANY_REQUESTS and retry_after(reply):
                self._hold(request.url, seconds)
            if seconds >= 1 or time.monotonic() - began >= self._retries.slow_s:
                self._tell(seconds, request.name, reply, error)
            self._sleep(seconds)

    def _once_more(
        self, attempt: int, retry: Retry, reply: Reply | None, error: Unreachable | None
    ) -> bool:
        if attempt >= self._retries.attempts or not _worthwhile(retry, reply, error):
            return False
        with self._lock:
            if self._budget < RETRY_COST:
                return False
            self._budget -= RETRY_COST
        return True

    def _pay_back(self) -> None:
        with self._lock:
            self._budget = min(self._retries.budget, self._budget + 1)

    def _tell(
        self, seconds: float, called: str, reply: Reply | None, error: Unreachable | None
    ) -> None:
        what = f"`{called}` answers {reply.status}" if reply else str(error and error.message)
        same = f"{called.partition('/')[0]} {reply.status if reply else what}"
        now = time.monotonic()
        with self._lock:
            is_told = self._told.get(same, now) > now
            self._told[same] = max(self._told.get(same, now), now + seconds)
        if self._emit and not is_told:
            text = f"{what}; trying again in {max(1, seconds):.0f} s"
            self._emit(Notice(job="", text=text, level="warning"))

    def _tell_silence(self, request: _Request) -> None:
        """Say that somebody is waited for, of each host once in an attempt's time."""
        if request.stall_s is not None or self._emit is None:  # an upload is long by itself
            return
        name, now = host(request.url), time.monotonic()
        with self._lock:
            is_told = self._told.get(name, now) > now
            self._told[name] = max(self._told.get(name, now), now + request.timeout_s)
        if not is_told:
            text = f"`{name}` has not answered for {self._retries.silent_s:.0f} s; still waiting"
            self._emit(Notice(job="", text=text))

    def _hold(self, url: str, seconds: float) -> None:
        with self._lock:
            until = time.monotonic() + seconds
            self._held[host(url)] = max(self._held.get(host(url), until), until)

    def _wait_for_others(self, url: str) -> None:
        """Wait while a limit that another worker has met is in force."""
        with self._lock:
            rest = self._held.get(host(url), 0.0) - time.monotonic()
        if rest > 0:
            self._sleep(rest)

    def _try(self, request: _Request) -> Reply:
        self._wait_for_others(request.url)
        self._cancel.check()
        exchange = _Exchange(self._pool(request.url), request)
        with self._cancel.on_cancel(exchange.woken.set):
            exchange.start()
            silent_s = min(self._retries.silent_s, request.timeout_s)
            if not exchange.woken.wait(silent_s) and silent_s < request.timeout_s:
                self._tell_silence(request)
                exchange.woken.wait(request.timeout_s - silent_s)
        if self._cancel.is_set and not exchange.done.wait(request.grace_s):
            exchange.leave()
            raise Cancelled("stopped")
        return exchange.result()

    def _pool(self, url: str) -> Any:
        scheme = "http" if url.lower().startswith("http://") else "https"
        with self._lock:
            if scheme not in self._clients:
                self._clients[scheme] = _client(self._user_agent, url, scheme)
            return self._clients[scheme]


class _Exchange:
    """One attempt, in a thread of its own: its caller can leave it whatever the peer does.

    A timeout of the HTTP library is per read, so a peer that sends one byte a second would hold
    us for ever, and a look-up of a host name cannot be interrupted at all.
    """

    def __init__(self, client: Any, request: _Request) -> None:
        self._client = client
        self._request = request
        self._reply: Reply | None = None
        self._error: Exception | None = None
        self._sent = False
        self._left = False
        self.done = threading.Event()
        self.woken = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="http", daemon=True).start()

    def leave(self) -> None:
        """Let the thread end by itself, at the next chunk or at its own timeout."""
        self._left = True

    def result(self) -> Reply:
        if self._reply is not None:
            return self._reply
        called = self._request.name
        if not self.done.is_set():
            self.leave()
            late = f"`{called}` gave no whole answer within {self._request.timeout_s:g} s"
            raise AnswerLost(late) if self._sent else Unreachable(late)
        if isinstance(self._error, SandboxfileError):
            raise self._error
        raise _failure(called, self._error, sent=self._sent) from None

    def _run(self) -> None:
        try:
            self._reply = self._exchange()
        except Exception as error:  # noqa: BLE001 - carried over to the caller's thread
            self._error = error
        finally:
            self.done.set()
            self.woken.set()

    def _exchange(self) -> Reply:
        request = self._request
        with self._client.stream(
            request.method,
            request.url,
            headers=request.headers,
            content=self._content(),
            timeout=_timeout(request.stall_s or request.timeout_s),
            extensions={"trace": self._trace},
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = self._body(response, headers)
            return Reply(status=response.status_code, headers=headers, body=body, url=request.url)

    def _content(self) -> bytes | Iterator[bytes] | None:
        content = self._request.content
        return self._pieces(content) if isinstance(content, Body) else content

    def _pieces(self, body: Body) -> Iterator[bytes]:
        for piece in body.open():
            if self._left:
                raise _Refused("left alone")
            yield piece

    def _body(self, response: Any, headers: Mapping[str, str]) -> bytes:
        host = self._request.name
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _Refused(f"`{host}` answered in an encoding that was not asked for")
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > self._request.limit:
                raise _Refused(f"`{host}` answered with more than {self._request.limit} bytes")
            if self._left:
                break
        return bytes(body)

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        # The request that opens a tunnel through a proxy is not ours yet.
        if name.endswith("send_request_headers.started"):
            self._sent = self._sent or info["request"].method != b"CONNECT"


def shown(url: str) -> str:
    """Return host, port and path of `url`: never its user, password, query or fragment."""
    try:
        parts = urlsplit(url)
        return parts.netloc.rpartition("@")[2] + parts.path
    except ValueError:
        return "(an address that cannot be read)"


def host(url: str) -> str:
    """Return the host and port of `url`, for an address that is itself a secret."""
    return shown(url).partition("/")[0]


def retry_after(reply: Reply) -> float | None:
    """Return the seconds a reply asks us to wait (RFC 9110, 10.2.3), None when it does not.

    Where it only says when the limit is counted anew (`RateLimit-Reset`: in seconds, or as Unix
    time), that is what it asks for.
    """
    text = reply.headers.get("retry-after", "").strip()
    if _is_number(text):
        return float(text)
    with suppress(ValueError, TypeError, OverflowError):
        then = parsedate_to_datetime(text)
        return max(0.0, (then - datetime.now(UTC)).total_seconds())
    reset = reply.headers.get("ratelimit-reset", "").strip()
    if reply.status != TOO_MANY_REQUESTS or not _is_number(reset):
        return None
    now = datetime.now(UTC).timestamp()
    return float(reset) if float(reset) < now / 2 else max(0.0, float(reset) - now)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _worthwhile(retry: Retry, reply: Reply | None, error: Unreachable | None) -> bool:
    if retry == "never" or isinstance(error, _Refused):
        return False
    if reply is None:
        return retry == "idempotent" or not isinstance(error, AnswerLost)
    if retry == "connect":
        return reply.status == TOO_MANY_REQUESTS and retry_after(reply) is not None
    return reply.status in AGAIN


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _redirected(request: _Request, location: str) -> _Request:
    try:
        url = urljoin(request.url, location)
        ours, theirs = urlsplit(request.url).scheme, urlsplit(url).scheme
    except ValueError:
        raise _Refused(f"`{shown(request.url)}` redirects to what is no address") from None
    if url.partition("#")[0] == request.url:
        raise _Refused(f"`{shown(request.url)}` redirects to itself")
    if theirs not in {"http", "https"} or (ours == "https" and theirs == "http"):
        raise _Refused(f"`{shown(request.url)}` redirects to an address that is not https")
    if _origin(url) == _origin(request.url):
        return replace(request, url=url)
    headers = {name: value for name, value in request.headers.items() if name.lower() == "accept"}
    return replace(request, url=url, headers=headers)


def _no_constant(name: str) -> object:
    raise ValueError(f"`{name}` is not JSON")


def _timeout(seconds: float) -> Any:
    import httpx

    return httpx.Timeout(seconds, connect=min(CONNECT_S, seconds))


def _client(user_agent: str, url: str, scheme: str) -> Any:
    """Make the pool: proxies and CA files of the environment, no cookies, own machine direct."""
    import ssl
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx

    from sandboxfile import logs

    logs.silence()  # httpx and httpcore tell whole addresses, signed ones too
    jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=()))
    direct = ("all://127.0.0.1", "all://localhost", "all://[::1]")
    try:
        # Reading all CA certificates takes longer than everything else; without TLS, trust none.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if scheme == "http" else True
        return httpx.Client(
            verify=verify,
            headers={"user-agent": user_agent, "accept-encoding": "identity"},
            cookies=jar,
            follow_redirects=False,
            mounts=dict.fromkeys(direct),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        )
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise _Refused(
            f"cannot prepare a connection to `{shown(url)}`: {type(error).__name__}",
            hint="look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE",
        ) from None


def _failure(host: str, error: Exception | None, *, sent: bool) -> Unreachable:
    """Turn a transport failure into one of ours; library texts may quote whole addresses."""
    import socket
    import ssl

    import httpx

    causes = list(_chain(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return _Refused(
            f"the certificate of `{host}` is not valid here",
            hint="name the right CA bundle in SSL_CERT_FILE",
        )
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return _Refused(f"`{host}` is not an address a request can be sent to")
    if isinstance(error, httpx.RemoteProtocolError) and "location header" in str(error):
        return _Refused(f"`{host}` redirects to what is no address")  # httpx looks, unasked
    if sent:
        what = "in time" if isinstance(error, httpx.TimeoutException) else "before breaking off"
        return AnswerLost(f"`{host}` gave no whole answer {what}")
    hint = proxies.remedy(host)
    if isinstance(error, httpx.ProxyError):
        return Unreachable(f"the proxy does not let us through to `{host}`", hint=hint)
    system = next((c for c in causes if isinstance(c, OSError) and c.strerror), None)
    why = system.strerror if system else "no connection in time"
    if isinstance(system, socket.gaierror) and system.errno == socket.EAI_NONAME:
        # The resolver's last word; what may pass is EAI_AGAIN (RFC 3493, 6.1).
        return _Refused(f"cannot reach `{host}`: {why}", hint=hint)
    return Unreachable(f"cannot reach `{host}`: {why}", hint=hint)


def _chain(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
