"""What a failed call means: cause and remedy by what the operating system said."""

import errno
import os

import pytest
import requests
import urllib3

from sandboxfile.engines.transport import Address
from sandboxfile.engines.wire import lost

LOCAL = Address(url="unix:///run/d.sock", source="DOCKER_HOST")
FAR = Address(url="tcp://127.0.0.1:2375")


def wrapped(number: int) -> Exception:
    """Make an error as the HTTP libraries disguise it."""
    cause = OSError(number, os.strerror(number))
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", cause))


@pytest.mark.parametrize(
    ("address", "number", "why", "remedy"),
    [
        (LOCAL, errno.EACCES, "permission denied", "sudo usermod -aG docker $USER"),
        (LOCAL, errno.ENOENT, "no such file or directory", "sudo systemctl start docker"),
        (LOCAL, errno.ECONNREFUSED, "connection refused", "sudo systemctl start docker"),
        (FAR, errno.ECONNREFUSED, "connection refused", "docker context ls"),
        (FAR, errno.EACCES, "permission denied", "docker context ls"),
    ],
)
def test_the_cause_is_found_inside_and_has_its_remedy(
    address: Address, number: int, why: str, remedy: str
) -> None:
    for error in (wrapped(number), OSError(number, os.strerror(number))):
        said = lost(address, error)
        assert said.message.endswith(f"cannot be reached: {why}")
        assert str(address) in said.message
        assert remedy in said.hint
        assert said.exit_code == 6


def test_who_named_the_address_is_said() -> None:
    assert "`unix:///run/d.sock` (named by DOCKER_HOST)" in lost(LOCAL, OSError()).message
    assert "(named by" not in lost(FAR, OSError()).message


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TimeoutError("timed out"), "no answer in time"),
        (requests.exceptions.ChunkedEncodingError("broken"), "the connection broke"),
        (OSError("odd"), "the connection broke"),
    ],
)
def test_without_an_errno_the_kind_of_error_speaks(error: Exception, why: str) -> None:
    assert lost(FAR, error).message.endswith(f"cannot be reached: {why}")


def test_errors_in_a_circle_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert lost(FAR, one).message.endswith("the connection broke")
