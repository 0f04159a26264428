import pytest

from sandboxfile import ready
from sandboxfile.model import Ready, ReadyKind
from sandboxfile.places import Position

AT = Position("novita.yaml", 1, 1)


def text(kind: ReadyKind, value: str, status: int = 200) -> str:
    return ready.command(Ready(kind=kind, value=value, status=status, at=AT))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("command", "pg_isready -U 'me'", "pg_isready -U 'me'"),
        ("delay", "20", "sleep 20"),
        ("delay", "0.5", "sleep 0.5"),
        ("file", "/tmp/ok", "test -e /tmp/ok"),
        ("file", "/tmp/a b'c", """test -e '/tmp/a b'"'"'c'"""),
        ("file", "-n", "test -e ./-n"),
    ],
)
def test_simple_checks_are_one_command(kind: ReadyKind, value: str, expected: str) -> None:
    assert text(kind, value) == expected


@pytest.mark.parametrize(("port", "hexadecimal"), [("80", "0050"), ("8000", "1F40")])
def test_a_port_is_compared_whole(port: str, hexadecimal: str) -> None:
    assert f"*:{hexadecimal}/0A)" in text("port", port)


@pytest.mark.parametrize(
    ("name", "comm"),
    [
        ("nginx", "nginx"),
        ("a name", "'a name'"),
        ("gunicorn-worker-1", "gunicorn-worker"),
        ("aaaaaaaaaaaaaaé", "aaaaaaaaaaaaaa"),
    ],
)
def test_a_process_is_compared_as_the_kernel_keeps_its_name(name: str, comm: str) -> None:
    assert f'[ "$comm" = {comm} ]' in text("process", name)


def test_a_url_is_asked_for_with_whatever_the_image_has() -> None:
    check = text("url", "https://example.com/a?b=c&d", status=204)
    clients = [check.index(f"command -v {client} ") for client in ("curl", "wget", "python3")]
    assert clients == sorted(clients)
    assert check.count("'https://example.com/a?b=c&d'") == 3
    assert check.count("204") == 3
    assert "unset" not in check


@pytest.mark.parametrize(
    ("url", "unset"),
    [
        ("http://localhost:8000/health", True),
        ("http://127.0.0.2/", True),
        ("http://[::1]:80/", True),
        ("http://192.0.2.1/", False),
        ("http://localhost.example.com/", False),
        ("http:///", False),
    ],
)
def test_no_proxy_is_asked_for_the_own_machine(url: str, unset: bool) -> None:  # noqa: FBT001
    assert text("url", url).startswith("unset http_proxy") == unset


@pytest.mark.parametrize(
    ("kind", "value"), [("port", "80"), ("process", "x"), ("url", "http://localhost/")]
)
def test_a_check_is_one_line(kind: ReadyKind, value: str) -> None:
    assert "\n" not in text(kind, value)
