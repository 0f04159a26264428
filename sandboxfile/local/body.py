"""The body of a request, taken from the connection piece by piece (RFC 9112, 6 and 7)."""

import re
from collections.abc import Callable, Iterator
from email.message import Message
from http import HTTPStatus
from io import BufferedIOBase

WHOLE_LIMIT = 16 * 1024 * 1024  # of a body that is held in memory (docs/protocol.md, 6)
PIECE = 256 * 1024
TRAILERS = 100  # as many as the base class takes headers
_LINE_LIMIT = 4096
_NUMBER = re.compile(r"[0-9]{1,18}")
_SINGLE = ("Host", "Origin", "Content-Length", "Transfer-Encoding")
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Unacceptable(Exception):  # noqa: N818
    """A request that cannot be read to its end; the connection is closed after the answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Body:
    """A body that is still to come; iterating takes it, once, a piece in memory at a time.

    `length` is None for a chunked body; `is_read` tells that nothing is left of it. `go_ahead` is
    called before the first byte is taken: clients that sent `Expect: 100-continue` wait for it.
    Everything raises Unacceptable for what is no body.
    """

    def __init__(
        self, file: BufferedIOBase, headers: Message, *, go_ahead: Callable[[], None]
    ) -> None:
        self._file = file
        self._go_ahead = go_ahead
        self.length = _length(headers)
        self.is_read = self.length == 0

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces(None)

    def whole(self) -> bytes:
        """Return a body of at most 16 MiB."""
        return b"".join(self._pieces(WHOLE_LIMIT))

    def _pieces(self, room: int | None) -> Iterator[bytes]:
        if self.is_read:
            return
        for size in self._sizes(room):
            yield from self._exactly(size)
        self.is_read = True

    def _sizes(self, room: int | None) -> Iterator[int]:
        """Yield how much comes next, each time that what came before it has been taken."""
        if self.length is not None:
            yield _within(self.length, room)
            return
        taken = 0
        while size := self._chunk_size():
            taken += size
            _within(taken, room)
            yield size
            if self._line().strip():
                raise Unacceptable(HTTPStatus.BAD_REQUEST, "a chunk is longer than its size")
        for _ in range(TRAILERS):
            if not self._line().strip():
                return
        raise Unacceptable(HTTPStatus.BAD_REQUEST, "a body has too many trailers")

    def _chunk_size(self) -> int:
        text = self._line().partition(b";")[0].strip()
        if not _HEXADECIMAL.fullmatch(text):
            raise Unacceptable(HTTPStatus.BAD_REQUEST, "a chunk has no size")
        return int(text, 16)

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._take(self._file.read, min(size, PIECE))
            if not piece:
                raise Unacceptable(HTTPStatus.BAD_REQUEST, "the request body ended too early")
            size -= len(piece)
            yield piece

    def _line(self) -> bytes:
        line = self._take(self._file.readline, _LINE_LIMIT)
        if not line.endswith(b"\n"):
            raise Unacceptable(HTTPStatus.BAD_REQUEST, "the request body ended too early")
        return line

    def _take(self, read: Callable[[int], bytes], size: int) -> bytes:
        self._go_ahead()
        try:
            return read(size)
        except TimeoutError:
            raise Unacceptable(
                HTTPStatus.REQUEST_TIMEOUT, "the request body does not come"
            ) from None
        except OSError as error:
            raise Unacceptable(HTTPStatus.BAD_REQUEST, f"the connection broke: {error}") from None


def check(headers: Message) -> None:
    """Refuse headers that a proxy in front of us may read otherwise (RFC 9112, 3.2, 5.1 and 6.3).

    What it takes for a body would be a request to us. Raises Unacceptable.
    """
    names = [name.lower() for name in headers]
    if headers.defects or any(name != name.strip() for name in names):
        raise Unacceptable(HTTPStatus.BAD_REQUEST, "a header is malformed")
    for name in _SINGLE:
        if names.count(name.lower()) > 1:
            raise Unacceptable(HTTPStatus.BAD_REQUEST, f"there is more than one {name}")
    if "content-length" in names and "transfer-encoding" in names:
        message = "a body has either Content-Length or Transfer-Encoding"
        raise Unacceptable(HTTPStatus.BAD_REQUEST, message)


def _length(headers: Message) -> int | None:
    coding = headers.get("Transfer-Encoding")
    if coding is not None:
        if coding.strip().lower() != "chunked":
            raise Unacceptable(
                HTTPStatus.NOT_IMPLEMENTED, "no transfer coding but chunked is implemented"
            )
        return None
    length = headers.get("Content-Length", "0")
    if not _NUMBER.fullmatch(length):
        raise Unacceptable(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    return int(length)


def _within(size: int, room: int | None) -> int:
    if room is not None and size > room:
        raise Unacceptable(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request body is larger than 16 MiB"
        )
    return size
