"""Which way requests take to a host, and what to look at when it leads nowhere."""

from urllib.parse import urlsplit

from sandboxfile.loopback import is_loopback


def remedy(address: str) -> str:
    """Return what to do when nothing could be sent to a host (and port, and path)."""
    host = urlsplit(f"//{address}").hostname or ""
    if is_loopback(host):
        return "start it on this machine, or name the port that it has"
    if is_proxied(host):
        return (
            "look at the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names; "
            "hosts in NO_PROXY are reached directly"
        )
    return "check the name, and the network; where a proxy is the way out, HTTPS_PROXY names it"


def is_proxied(host: str) -> bool:
    """Tell whether the environment names a proxy for a host that is not this machine."""
    from urllib.request import getproxies, proxy_bypass

    return bool({"http", "https", "all"}.intersection(getproxies())) and not proxy_bypass(host)
