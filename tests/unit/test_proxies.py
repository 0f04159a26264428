import pytest

from sandboxfile import proxies


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("address", ["127.0.0.1:5000/v2/", "localhost", "[::1]:5000/v2/x"])
def test_of_this_machine_only_the_port_is_doubted(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")

    assert "start it on this machine" in proxies.remedy(address)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy"])
def test_a_proxy_that_is_used_is_doubted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert "check the name, and the network" in proxies.remedy("ghcr.io/v2/")

    monkeypatch.setenv(name, "http://proxy:3128")

    assert "look at the proxy" in proxies.remedy("ghcr.io/v2/")
    monkeypatch.setenv("NO_PROXY", "ghcr.io")
    assert "check the name, and the network" in proxies.remedy("ghcr.io/v2/")
    assert "look at the proxy" in proxies.remedy("quay.io")
