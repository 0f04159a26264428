import io
from email.message import Message
from http import HTTPStatus

import pytest

from sandboxfile.local.body import PIECE, Body, Unacceptable


def body(file: io.BufferedIOBase, **headers: str) -> Body:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return Body(file, message, go_ahead=lambda: None)


class Broken(io.BufferedReader):
    """A connection that fails at its first read."""

    def __init__(self, error: OSError) -> None:
        super().__init__(io.BytesIO())
        self._error = error

    def read(self, _size: int | None = -1, /) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimeoutError("timed out"), HTTPStatus.REQUEST_TIMEOUT),
        (ConnectionResetError("reset"), HTTPStatus.BAD_REQUEST),
    ],
)
def test_a_connection_that_fails_is_the_senders_fault(error: OSError, status: HTTPStatus) -> None:
    """It must not be taken for a disk that fails, which is an OSError too."""
    with pytest.raises(Unacceptable) as caught:
        list(body(Broken(error), Content_Length="1"))
    assert caught.value.status == status


def test_it_is_read_when_nothing_is_left() -> None:
    made = body(io.BytesIO(b"x" * (PIECE + 1)), Content_Length=str(PIECE + 1))
    assert [len(piece) for piece in made] == [PIECE, 1]
    assert made.is_read
    assert list(made) == []
    assert body(io.BytesIO()).is_read
    assert not body(io.BytesIO(), Transfer_Encoding="Chunked").is_read


def test_trailers_are_passed_over() -> None:
    made = body(
        io.BytesIO(b"1;a=b\r\nx\r\n0\r\nDigest: x\r\n\r\nnext"), Transfer_Encoding="chunked"
    )
    assert made.whole() == b"x"


def test_trailers_have_an_end() -> None:
    head, trailer = b"1\r\nx\r\n0\r\n", b"Digest: x\r\n"
    most = body(io.BytesIO(head + trailer * 99 + b"\r\n"), Transfer_Encoding="chunked")
    assert most.whole() == b"x"
    more = body(io.BytesIO(head + trailer * 100_000), Transfer_Encoding="chunked")
    with pytest.raises(Unacceptable, match="too many trailers"):
        more.whole()
    assert not more.is_read
