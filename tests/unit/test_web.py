import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from sandboxfile import several, web
from sandboxfile.cancel import Cancel
from sandboxfile.errors import Cancelled, SandboxfileError, Unreachable
from sandboxfile.events import Event, Notice
from sandboxfile.web import AnswerLost, Reply, Retries, Retry, Web
from tests.fakes.service import Answer, FakeService, Sent, error, serving

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Echo(FakeService):
    """Answers every request that no fault is planned for."""

    def _route(self, request: Sent) -> Answer:
        return Answer(body={"path": request.path}, headers={"X-Kind": "Echo"})


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def service() -> Iterator[Echo]:
    echo = Echo()
    with serving(echo):
        yield echo


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def client(slept: list[float]) -> Iterator[Web]:
    made = Web(user_agent="test/1", sleep=slept.append)
    yield made
    made.close()


@contextmanager
def speaking(*pieces: bytes, forever: bytes = b"") -> Iterator[str]:
    """Serve one connection with raw bytes, then dribble `forever` until the client leaves."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def speak() -> None:
        with suppress(OSError), listener.accept()[0] as peer:
            peer.recv(65536)
            for piece in pieces:
                peer.sendall(piece)
            while forever and not stop.wait(0.01):
                peer.sendall(forever)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.close()
        thread.join()


def dead_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


# --- one request -----------------------------------------------------------------------------


def test_a_reply_has_everything_and_names_headers_in_lower_case(service: Echo, client: Web) -> None:
    reply = client.send("GET", f"{service.url}/a?b=1")
    assert reply.status == 200
    assert reply.headers["x-kind"] == "Echo"
    assert reply.json() == {"path": "/a"}
    assert reply.url == f"{service.url}/a?b=1"


def test_nothing_tells_where_requests_go(
    service: Echo, client: Web, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.send("GET", f"{service.url}/?X-Amz-Signature=abc")
    for name in ("httpx", "httpcore.connection"):
        logging.getLogger(name).error("https://storage/?X-Amz-Signature=abc")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_request_says_who_we_are_and_asks_for_plain_bytes(service: Echo, client: Web) -> None:
    client.send("POST", service.url, json={"a": "é"}, headers={"x-api-key": "k"})
    sent = service.requests[0]
    assert sent.body == {"a": "é"}
    assert sent.headers["user-agent"] == "test/1"
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["x-api-key"] == "k"


def test_no_login_comes_from_netrc(
    service: Echo, client: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client.send("GET", service.url)
    assert "authorization" not in service.requests[0].headers


def test_no_cookie_is_kept(service: Echo, client: Web) -> None:
    service.fail("GET", "/", Answer(headers={"set-cookie": "a=b"}))
    client.send("GET", f"{service.url}/")
    client.send("GET", f"{service.url}/")
    assert "cookie" not in service.requests[1].headers


@pytest.mark.parametrize("status", [204, 304, 400, 401, 404, 409, 500, 501])
def test_any_status_is_a_reply(service: Echo, client: Web, status: int) -> None:
    service.fail("GET", "/", Answer(status=status))
    assert client.send("GET", f"{service.url}/").status == status
    assert len(service.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b"[NaN]", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_nonsense(body: bytes) -> None:
    reply = Reply(status=200, headers={}, body=body, url="http://h/p?key=secret")
    with pytest.raises(Unreachable, match="`h/p` answered 200 with something that is not JSON"):
        reply.json()


def test_a_closed_pool_opens_again(service: Echo, client: Web) -> None:
    client.close()
    client.send("GET", service.url)
    client.close()
    assert client.send("GET", service.url).status == 200


# --- repeating -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_idempotent_requests_are_repeated_while_the_service_is_busy(
    service: Echo, client: Web, slept: list[float], status: int
) -> None:
    service.fail("GET", "/", *[error(status, "busy")] * 3)
    assert client.send("GET", f"{service.url}/").status == 200
    assert len(slept) == 3


def test_the_last_answer_is_the_reply_when_repeating_does_not_help(
    service: Echo, client: Web, slept: list[float]
) -> None:
    service.fail("GET", "/", *[error(503, "busy")] * 9)
    assert client.send("GET", f"{service.url}/").status == 503
    assert (len(service.requests), len(slept)) == (6, 5)


REPEATS: list[tuple[Retry, Answer, int]] = [
    ("never", error(429, "busy", retry_after="0"), 1),
    ("never", error(503, "busy"), 1),
    ("connect", error(503, "busy"), 1),
    ("connect", error(429, "too many builds"), 1),
    ("connect", error(429, "slow down", retry_after="0"), 2),
    ("idempotent", error(429, "busy"), 2),
]


@pytest.mark.parametrize(("retry", "answer", "requests"), REPEATS)
def test_only_what_was_not_carried_out_is_repeated(
    service: Echo, client: Web, retry: Retry, answer: Answer, requests: int
) -> None:
    service.fail("POST", "/", answer)
    client.send("POST", f"{service.url}/", retry=retry)
    assert len(service.requests) == requests


@pytest.mark.parametrize("retry", ["never", "connect"])
def test_a_lost_answer_ends_a_request_that_must_not_be_repeated(
    service: Echo, client: Web, retry: Retry
) -> None:
    service.lose("POST", "/", carried_out=True)
    with pytest.raises(AnswerLost, match="gave no whole answer before breaking off"):
        client.send("POST", f"{service.url}/", retry=retry)
    assert len(service.requests) == 1


def test_a_lost_answer_is_asked_for_again_when_that_is_harmless(service: Echo, client: Web) -> None:
    service.lose("GET", "/", carried_out=False)
    assert client.send("GET", f"{service.url}/").status == 200


@pytest.mark.parametrize(("retry", "waits"), [("never", 0), ("connect", 5), ("idempotent", 5)])
def test_what_was_never_sent_is_not_a_lost_answer(
    client: Web, slept: list[float], retry: Retry, waits: int
) -> None:
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        client.send("POST", f"{dead_url()}/p", retry=retry)
    assert not isinstance(caught.value, AnswerLost)
    assert len(slept) == waits


def test_all_retries_of_a_process_have_one_budget(slept: list[float]) -> None:
    client = Web(user_agent="t", sleep=slept.append, retries=Retries(budget=30))
    for _ in range(4):
        with pytest.raises(Unreachable):
            client.send("GET", dead_url())
    assert len(slept) == 6


def test_success_pays_back_into_the_budget(service: Echo, slept: list[float]) -> None:
    client = Web(user_agent="t", sleep=slept.append, retries=Retries(budget=5))
    for _ in range(2):
        service.fail("GET", "/busy", error(503, "busy"))
        client.send("GET", f"{service.url}/busy")
        for _ in range(4):
            client.send("GET", f"{service.url}/")
    assert len(slept) == 2
    client.close()


def test_a_long_wait_is_told(service: Echo) -> None:
    events: list[Event] = []
    client = Web(user_agent="t", emit=events.append, sleep=lambda _: None)
    service.fail("GET", "/p", error(503, "busy", retry_after="7"))
    client.send("GET", f"{service.url}/p?key=secret")
    host = service.url.removeprefix("http://")
    text = f"`{host}/p` answers 503; trying again in 7 s"
    assert events == [Notice(job="", text=text, level="warning")]
    client.close()


def test_a_wait_that_was_cut_to_a_bearable_one_is_told(service: Echo) -> None:
    events: list[Event] = []
    client = Web(user_agent="t", emit=events.append, sleep=lambda _: None)
    service.fail("GET", "/p", error(503, "busy", retry_after="9" * 23))
    client.send("GET", f"{service.url}/p")
    assert "answers 503; trying again in 120 s" in str(events)
    client.close()


def test_even_a_short_wait_is_told_after_a_long_attempt() -> None:
    events: list[Event] = []
    retries = Retries(attempts=2, random=lambda: 0.0, slow_s=0.2)
    client = Web(user_agent="t", emit=events.append, sleep=lambda _: None, retries=retries)
    dribble = b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n"
    with speaking(dribble, forever=b"x") as url, pytest.raises(Unreachable):
        client.send("GET", url, timeout_s=0.2)
    assert "gave no whole answer within 0.2 s; trying again in 1 s" in str(events)
    client.close()


def test_the_silence_of_a_host_is_told_once() -> None:
    events: list[Event] = []
    retries = Retries(silent_s=0.05)
    client = Web(user_agent="t", emit=events.append, retries=retries)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name = f"127.0.0.1:{listener.getsockname()[1]}"

        def ask(timeout_s: float) -> None:
            with pytest.raises(AnswerLost):
                client.send("GET", f"http://{name}/x", timeout_s=timeout_s, retry="never")

        several.each(ask, (0.05, 0.4, 0.4, 0.4), 4)
    [event] = events
    assert f"`{name}` has not answered for 0 s; still waiting" in str(event)
    client.close()


def test_a_wait_for_a_dead_host_is_told() -> None:
    events: list[Event] = []
    retries = Retries(attempts=2, first_s=1, random=lambda: 1.0)
    client = Web(user_agent="t", emit=events.append, sleep=lambda _: None, retries=retries)
    with pytest.raises(Unreachable):
        client.send("GET", dead_url())
    assert "Connection refused; trying again in 2 s" in str(events)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("17", 17),
        ("9999", 120),
        ("99999999999999999999999", 120),
        ("9" * 5000, 120),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_a_service_may_say_how_long_to_wait(header: str, seconds: float | None) -> None:
    reply = Reply(status=429, headers={"retry-after": header}, body=b"", url="http://h")
    none = Retries(random=lambda: 0.0)
    assert none.wait_s(1, reply) == (seconds or 0)
    assert (web.retry_after(reply) is None) == (seconds is None)


@pytest.mark.parametrize(("ahead", "least", "most"), [(60, 50, 60), (-60, 0, 0)])
def test_a_service_may_say_until_when_to_wait(ahead: int, least: float, most: float) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    reply = Reply(status=503, headers={"retry-after": then}, body=b"", url="http://h")
    assert least <= (web.retry_after(reply) or 0.0) <= most


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"ratelimit-reset": "7"}, 7.0),
        ({"ratelimit-reset": "7", "retry-after": "3"}, 3.0),
        ({"ratelimit-reset": "soon"}, None),
    ],
)
def test_a_rate_limit_may_say_when_it_is_counted_anew(
    headers: dict[str, str], seconds: float | None
) -> None:
    reply = Reply(status=429, headers=headers, body=b"", url="http://x/")
    assert web.retry_after(reply) == seconds
    other = Reply(status=503, headers={"ratelimit-reset": "7"}, body=b"", url="http://x/")
    assert web.retry_after(other) is None


def test_a_rate_limit_may_be_counted_anew_at_a_time() -> None:
    then = int(datetime.now(UTC).timestamp()) + 60
    headers = {"ratelimit-reset": str(then)}
    found = web.retry_after(Reply(status=429, headers=headers, body=b"", url="http://x/"))
    assert found is not None
    assert 50 < found <= 60


def test_a_rate_limit_that_one_worker_met_holds_up_the_others(
    service: Echo, slept: list[float]
) -> None:
    said: list[Event] = []
    limited = Web(user_agent="test", sleep=slept.append, emit=said.append)
    service.fail("GET", "/a", error(429, "slow down", Retry_After="30"))
    limited.send("GET", service.url + "/a")
    before = len(slept)

    limited.send("GET", service.url + "/b")  # no time has passed: sleeping is pretended

    assert len(slept) == before + 1
    assert 25 < slept[-1] <= 30
    assert len(said) == 1
    limited.close()


def test_what_several_workers_wait_for_is_told_once(service: Echo) -> None:
    said: list[Event] = []
    limited = Web(user_agent="test", sleep=lambda _: None, emit=said.append)
    service.fail("GET", "/", *[error(503, "no", Retry_After="30")] * 4)
    for path in ("/a", "/b"):
        limited.send("GET", service.url + path)
    assert len(said) == 1
    limited.close()


@pytest.mark.parametrize(
    ("attempt", "most"), [(1, 1.0), (2, 2.0), (5, 16.0), (6, 20.0), (60, 20.0)]
)
def test_waits_double_up_to_a_limit(attempt: int, most: float) -> None:
    assert Retries(random=lambda: 1.0).wait_s(attempt, None) == most
    assert Retries(random=lambda: 0.5).wait_s(attempt, None) == most / 2


# --- deadlines and limits --------------------------------------------------------------------


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nx", b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n"]
)
def test_a_peer_that_dribbles_for_ever_is_left(client: Web, start: bytes) -> None:
    with speaking(start, forever=b"x") as url, pytest.raises(AnswerLost, match=r"within 0\.2 s"):
        client.send("GET", url, timeout_s=0.2, retry="never")


def test_a_peer_that_says_nothing_is_left(client: Web) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(AnswerLost):
            client.send("GET", url, timeout_s=0.2, retry="never")


def test_a_body_over_the_limit_is_refused_at_once(
    service: Echo, client: Web, slept: list[float]
) -> None:
    service.fail("GET", "/p", Answer(body=b"x" * 11))
    with pytest.raises(Unreachable, match="/p` answered with more than 10 bytes"):
        client.send("GET", f"{service.url}/p", limit=10)
    assert not slept


def test_an_encoded_body_is_refused(service: Echo, client: Web) -> None:
    service.fail("GET", "/p", Answer(body=b"x", headers={"content-encoding": "gzip"}))
    with pytest.raises(Unreachable, match="an encoding that was not asked for"):
        client.send("GET", f"{service.url}/p")


def test_a_body_that_ends_early_is_a_lost_answer(client: Web) -> None:
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort"
    with speaking(cut) as url, pytest.raises(AnswerLost):
        client.send("GET", url, retry="never")


# --- redirects -------------------------------------------------------------------------------


def moved(url: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"location": url})


def test_a_redirect_is_the_reply_unless_it_may_be_followed(service: Echo, client: Web) -> None:
    service.fail("GET", "/a", moved("/b"))
    assert client.send("GET", f"{service.url}/a").status == 302


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_one_origin_keeps_the_headers(
    service: Echo, client: Web, status: int
) -> None:
    service.fail("GET", "/a", moved("/b", status))
    reply = client.send("GET", f"{service.url}/a", redirects=1, headers={"authorization": "x"})
    assert reply.url == f"{service.url}/b"
    assert service.requests[1].headers["authorization"] == "x"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://[::", "redirects to what is no address"),
        ("", "redirects to itself"),
        ("/a", "redirects to itself"),
        ("#there", "redirects to itself"),
    ],
)
def test_a_redirect_to_nowhere_is_an_error_at_once(
    service: Echo, client: Web, slept: list[float], location: str, message: str
) -> None:
    service.fail("GET", "/a", moved(location))
    with pytest.raises(Unreachable, match=message):
        client.send("GET", f"{service.url}/a", redirects=5)
    assert (len(service.requests), slept) == (1, [])


def test_a_redirect_elsewhere_takes_no_credential_along(service: Echo, client: Web) -> None:
    headers = {"Authorization": "x", "X-API-Key": "k", "Accept": "text/plain"}
    with serving(Echo()) as other:
        service.fail("GET", "/a", moved(f"{other.url}/b"))
        client.send("GET", f"{service.url}/a", redirects=1, headers=headers)
    received = other.requests[0].headers
    assert received["accept"] == "text/plain"
    assert not {"authorization", "x-api-key"} & set(received)


def test_redirects_end_at_the_limit(service: Echo, client: Web) -> None:
    service.fail("GET", "/", *[moved("/again"), moved("/")] * 3)
    assert client.send("GET", f"{service.url}/", redirects=2).status == 302
    assert len(service.requests) == 3


def test_a_redirect_to_nowhere_is_the_reply(service: Echo, client: Web) -> None:
    service.fail("GET", "/a", Answer(status=302))
    assert client.send("GET", f"{service.url}/a", redirects=3).status == 302


@pytest.mark.parametrize(
    ("origin", "location"),
    [("https://h/a", "http://h/b"), ("https://h/a", "ftp://h/b"), ("http://h/a", "file:///etc")],
)
def test_a_redirect_to_a_weaker_scheme_is_refused(origin: str, location: str) -> None:
    request = web._Request(
        method="GET", url=origin, headers={}, content=None, timeout_s=1, limit=1, grace_s=0
    )
    with pytest.raises(Unreachable, match="`h/a` redirects to an address that is not https"):
        web._redirected(request, location)


# --- stopping --------------------------------------------------------------------------------


class Holding(Echo):
    """Holds every request until told to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()
        self.go = threading.Event()

    def answer(self, request: Sent) -> Answer | None:
        self.arrived.set()
        self.go.wait(30)
        return super().answer(request)


def pressed_when(event: threading.Event, act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        event.wait(30)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_waiting_call_ends_when_the_run_is_stopped() -> None:
    cancel, holding = Cancel(), Holding()
    client = Web(user_agent="t", cancel=cancel)
    with serving(holding):
        thread = pressed_when(holding.arrived, cancel.set)
        with pytest.raises(Cancelled):
            client.send("GET", holding.url)
        thread.join()
        holding.go.set()


def test_an_answer_that_may_hold_ids_is_waited_for_a_little() -> None:
    cancel, holding = Cancel(), Holding()
    client = Web(user_agent="t", cancel=cancel)

    def press() -> None:
        cancel.set()
        holding.go.set()

    with serving(holding):
        thread = pressed_when(holding.arrived, press)
        assert client.send("GET", holding.url, grace_s=30).status == 200
        thread.join()
    client.close()


def test_nothing_is_sent_after_the_run_was_stopped(service: Echo) -> None:
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        Web(user_agent="t", cancel=cancel).send("GET", service.url)
    assert not service.requests


def test_a_wait_between_attempts_ends_when_the_run_is_stopped(service: Echo) -> None:
    cancel = Cancel()
    client = Web(user_agent="t", cancel=cancel, emit=lambda _: cancel.set())
    service.fail("GET", "/", error(503, "busy", retry_after="60"))
    with pytest.raises(Cancelled):
        client.send("GET", f"{service.url}/")
    client.close()


# --- proxies, certificates, addresses --------------------------------------------------------


def test_a_proxy_of_the_environment_is_used(
    service: Echo, client: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", service.url)
    assert client.send("GET", "http://service.invalid/p").json() == {"path": "/p"}


def test_no_proxy_stands_before_our_own_machine(
    service: Echo, client: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", dead_url())
    assert client.send("GET", service.url).status == 200


def test_a_proxy_that_refuses_is_named_as_the_cause(
    service: Echo, client: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", service.url)
    service.fail("CONNECT", "", Answer(status=407))
    with pytest.raises(Unreachable, match="the proxy does not let us through") as caught:
        client.send("GET", "https://service.invalid/p", retry="never")
    assert not isinstance(caught.value, AnswerLost)


def test_a_proxy_that_cannot_be_one_is_told(
    client: Web, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://user:secret@h")
    with pytest.raises(Unreachable, match="cannot prepare a connection to `h/p`") as caught:
        client.send("GET", "https://h/p")
    assert "HTTPS_PROXY" in caught.value.hint
    assert "secret" not in str(caught.value)
    assert not slept


def test_a_bad_certificate_is_not_tried_again() -> None:
    cause = ssl.SSLCertVerificationError("self-signed")
    error = httpx.ConnectError("tls")
    error.__cause__ = cause
    failure = web._failure("h/p", error, sent=False)
    assert failure.message == "the certificate of `h/p` is not valid here"
    assert not web._worthwhile("idempotent", None, failure)


@pytest.mark.parametrize(
    ("code", "is_final"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)]
)
def test_a_host_name_that_does_not_exist_is_not_asked_for_again(
    code: int,
    is_final: bool,  # noqa: FBT001 - from the table
) -> None:
    error = httpx.ConnectError("dns")
    error.__cause__ = socket.gaierror(code, "Name or service not known")
    failure = web._failure("h/p", error, sent=False)
    assert failure.message == "cannot reach `h/p`: Name or service not known"
    assert web._worthwhile("idempotent", None, failure) is not is_final


@pytest.mark.parametrize("url", ["ftp://h/p", "http://h:port/p", "http://h\x00/p"])
def test_what_is_no_address_is_told_without_trying_again(
    client: Web, slept: list[float], url: str
) -> None:
    with pytest.raises(Unreachable, match="not an address"):
        client.send("GET", url)
    assert not slept


@pytest.mark.parametrize(
    ("error", "sent", "message"),
    [
        (httpx.ReadTimeout(""), True, "`h` gave no whole answer in time"),
        (httpx.ReadError(""), True, "`h` gave no whole answer before breaking off"),
        (httpx.ConnectTimeout(""), False, "cannot reach `h`: no connection in time"),
    ],
)
def test_transport_failures_say_what_happened(
    error: Exception,
    sent: bool,  # noqa: FBT001 - from the table
    message: str,
) -> None:
    failure = web._failure("h", error, sent=sent)
    assert failure.message == message
    assert isinstance(failure, AnswerLost) == sent


def test_no_failure_shows_a_secret_of_the_address(caplog: pytest.LogCaptureFixture) -> None:
    url = dead_url().replace("//", "//user:hunter2@") + "/p?sig=hunter2#hunter2"
    client = Web(user_agent="t", sleep=lambda _: None)
    with caplog.at_level(logging.DEBUG), pytest.raises(Unreachable) as caught:
        client.send("GET", url)
    assert "/p`" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caplog.text


def test_no_log_shows_a_secret_of_the_address(
    service: Echo, client: Web, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.send("GET", f"{service.url}/p?sig=hunter2", headers={"x-api-key": "hunter2"})
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://u:p@h:1/a/b?c=d#e", "h:1/a/b"),
        ("http://h", "h"),
        ("http://[::1]:5/a", "[::1]:5/a"),
        ("http://[/a?secret", "(an address that cannot be read)"),
    ],
)
def test_an_address_is_shown_as_host_and_path(url: str, text: str) -> None:
    assert web.shown(url) == text


# --- uploads ---------------------------------------------------------------------------------


def body(*pieces: bytes) -> web.Body:
    return web.Body(size=sum(map(len, pieces)), open=lambda: iter(pieces))


def test_an_upload_has_a_length_and_nothing_of_ours(service: Echo, client: Web) -> None:
    reply = client.upload(f"{service.url}/f?signature=s", body(b"ab", b"cd"), timeout_s=5)
    (sent,) = service.requests
    assert (reply.status, sent.method, sent.body) == (200, "PUT", b"abcd")
    assert sent.headers["content-length"] == "4"
    assert "transfer-encoding" not in sent.headers
    assert set(sent.headers) == {
        "host", "accept", "accept-encoding", "connection", "content-length", "user-agent",
    }  # fmt: skip


def test_a_lost_upload_is_sent_again_from_its_beginning(
    service: Echo, client: Web, slept: list[float]
) -> None:
    service.fail("PUT", "/f", error(503, "not now"))
    service.lose("PUT", "/f", carried_out=False)
    assert client.upload(f"{service.url}/f", body(b"ab"), timeout_s=5).status == 200
    assert [sent.body for sent in service.requests] == [b"ab"] * 3
    assert len(slept) == 2


def test_no_redirect_is_followed_with_an_upload(service: Echo, client: Web) -> None:
    service.fail("PUT", "/f", Answer(status=307, headers={"location": f"{service.url}/g"}))
    assert client.upload(f"{service.url}/f", body(b"ab"), timeout_s=5).status == 307
    assert len(service.requests) == 1


def test_a_signed_address_is_never_shown(slept: list[float]) -> None:
    told: list[Event] = []
    client = Web(user_agent="t", sleep=slept.append, emit=told.append)
    url = dead_url()
    with pytest.raises(Unreachable) as caught:
        client.upload(f"{url}/team-path?signature=s3cret", body(b"ab"), timeout_s=5)
    texts = [caught.value.message, *(each.text for each in told if isinstance(each, Notice))]
    assert url.removeprefix("http://") in texts[0]
    assert not [text for text in texts if "team-path" in text or "s3cret" in text]
    client.close()


def test_an_upload_ends_when_the_run_is_stopped() -> None:
    cancel = Cancel()
    client = Web(user_agent="t", cancel=cancel)
    begun = threading.Event()

    def endless() -> Iterator[bytes]:
        while True:
            begun.set()
            yield b"x" * 65536

    def stop() -> None:
        begun.wait()
        cancel.set()

    threading.Thread(target=stop).start()
    with speaking() as url, pytest.raises(Cancelled):
        client.upload(f"{url}/f", web.Body(size=1 << 40, open=endless), timeout_s=60)
    client.close()


def test_what_goes_wrong_with_the_content_is_told_as_it_is(service: Echo, client: Web) -> None:
    def broken() -> Iterator[bytes]:
        yield b"a"
        raise SandboxfileError("`f` changed while being read")

    with pytest.raises(SandboxfileError, match="changed while being read"):
        client.upload(f"{service.url}/f", web.Body(size=2, open=broken), timeout_s=5)
