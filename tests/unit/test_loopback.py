import pytest

from sandboxfile.loopback import is_loopback, leads_inside


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


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "2852039166", "0xa9fea9fe", "169.254.43518", "::ffff:169.254.169.254",
        "fe80::1", "fe80::1%eth0", "127.0.0.1", "127.1", "::1", "localhost", "LOCALHOST.",
        "0.0.0.0",
        "::", "224.0.0.1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_of_this_machine_and_its_link_lead_inside(host: str) -> None:
    assert leads_inside(host)


@pytest.mark.parametrize("host", ["10.0.0.5", "192.0.2.1", "storage.test", "2001:db8::1", "169"])
def test_other_hosts_do_not(host: str) -> None:
    assert not leads_inside(host)
