import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxfile import flock


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """One directory, opened twice."""
    files = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    yield files
    for file in files:
        os.close(file)


def answering(code: int) -> Callable[[int, int], None]:
    def refuse(_file: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_one_holds_the_lock_and_another_does_not_wait_for_it(two: tuple[int, int]) -> None:
    first, second = two
    assert flock.attempt(first)
    assert not flock.attempt(second)
    assert flock.attempt(first)  # who has it keeps it


def test_a_lock_given_back_is_free(two: tuple[int, int]) -> None:
    first, second = two
    assert flock.attempt(first)
    flock.release(first)
    assert flock.attempt(second)


def test_a_closed_file_has_no_lock(tmp_path: Path) -> None:
    first, second = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    assert flock.attempt(first)
    os.close(first)
    assert flock.attempt(second)
    os.close(second)


@pytest.mark.parametrize(
    "code", [errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EBADF]
)
def test_where_there_are_no_locks_one_process_alone_goes_on(
    two: tuple[int, int], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", answering(code))
    assert flock.attempt(two[0])
    flock.release(two[0])


def test_a_file_system_that_fails_is_an_error(
    two: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", answering(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        flock.attempt(two[0])
    flock.release(two[0])  # closing it gives the lock back all the same
