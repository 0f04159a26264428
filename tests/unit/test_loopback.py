import pytest

from sandboxfile.loopback import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"])
def test_this_machine_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "10.0.0.1",
        "128.0.0.1",
        "::",
        "::2",
        "::1%eth0",
        "::ffff:127.0.0.1",
        "127.1",
        "api.localhost",
        "localhost.",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
    ],
)
def test_no_other_host_is(host: str) -> None:
    assert not is_loopback(host)
