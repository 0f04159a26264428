"""Numbers and what has a unit: read exactly, refused with the nearest good value."""

import pytest

from sandboxfile.config import numbers
from sandboxfile.config.problems import Fault


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (-1, "write 1 or 2"), (0, "write 1 or 2"), (3, "write 2 or 4"), (31, "write 30 or 32"),
        (33, "write 32"), (34, "write 32"),
    ],
)  # fmt: skip
def test_a_number_of_cpus_is_one_or_even(number: int, hint: str) -> None:
    fault = numbers.cpu(number)
    assert fault is not None
    assert fault.hint == hint


def test_the_numbers_of_cpus_that_exist() -> None:
    assert [n for n in range(-2, 40) if numbers.cpu(n) is None] == [1, *range(2, 33, 2)]


@pytest.mark.parametrize(
    ("number", "hint"), [(0, "write 128"), (127, "write 128"), (129, "write 128 or 130")]
)
def test_memory_is_even_and_at_least_128(number: int, hint: str) -> None:
    fault = numbers.memory(number)
    assert fault is not None
    assert fault.hint == hint
    assert numbers.memory(128) is None


@pytest.mark.parametrize("number", [2**20 + 2, 999_999_999 * 1024])
def test_memory_has_a_limit_that_only_a_slip_exceeds(number: int) -> None:
    fault = numbers.memory(number)
    assert fault is not None
    assert fault.message == f"`memory` is at most 1048576 MiB (1 TiB), not {number}"
    assert numbers.memory(2**20) is None


@pytest.mark.parametrize(
    ("text", "size"), [("512MiB", 512), ("2GiB", 2048), ("1GiB", 1024), ("0MiB", 0)]
)
def test_a_size_of_memory_is_read_exactly(text: str, size: int) -> None:
    assert numbers.mebibytes(text) == size


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1GB", "write `1GiB`"),
        ("512 mb", "write `512MiB`"),
        ("2g", "write `2GiB`"),
        ("1024", "write 1024 without quotes, or `1024MiB`"),
        ("1TiB", "write a number of MiB, or a size like `512MiB` or `2GiB`"),
        ("1.5GiB", "write a number of MiB, or a size like `512MiB` or `2GiB`"),
        ("", "write a number of MiB, or a size like `512MiB` or `2GiB`"),
    ],
)
def test_another_size_of_memory_is_not_guessed(text: str, hint: str) -> None:
    fault = numbers.mebibytes(text)
    assert isinstance(fault, Fault)
    assert fault.hint == hint


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("20s", 20), ("2m", 120), ("3000ms", 3)])
def test_a_delay_is_read_as_seconds(text: str, seconds: int) -> None:
    assert numbers.seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("20", "write `20s`"),
        ("500ms", "write `1s`"),
        ("1500ms", "write `2s`"),
        ("0s", "write `1s`"),
        ("1h", "write `20s` or `2m`"),
        ("1.5s", "write `20s` or `2m`"),
        ("10m", "the service waits 10 minutes: check for something that happens earlier"),
    ],
)
def test_a_delay_is_whole_seconds_within_what_the_service_waits(text: str, hint: str) -> None:
    fault = numbers.seconds(text)
    assert isinstance(fault, Fault)
    assert fault.hint == hint


def test_the_ports_that_exist() -> None:
    assert [n for n in (-1, 0, 1, 80, 65535, 65536) if numbers.port(n) is None] == [1, 80, 65535]
