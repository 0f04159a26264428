"""Which hosts are this machine itself: the only ones that get secrets, or trust, in clear."""

from ipaddress import IPv6Address, ip_address

_IPV6 = IPv6Address("::1")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: 127/8, ::1, `localhost` (RFC 1122, RFC 4291).

    Names below `.localhost` are not: RFC 6761 lets resolvers ask the network for them.
    """
    try:
        address = ip_address(host)
    except ValueError:  # a name: `127.0.0.1.example.org` is one, too
        return host.lower() == "localhost"
    return address.is_loopback if address.version == 4 else address == _IPV6  # noqa: PLR2004
