"""Which hosts are this machine itself: the only ones that get secrets, or trust, in clear."""

from ipaddress import IPv4Address, IPv6Address, ip_address

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


def leads_inside(host: str) -> bool:
    """Tell whether a host is an address that only means something on this machine or its link.

    That is where a cloud answers its machines (169.254/16, fe80::/10; RFC 3927, RFC 4291), this
    machine in all its spellings, and what is no single host.
    """
    address = _address(host)
    if address is None:
        return host.rstrip(".").lower() == "localhost"
    return (
        address.is_link_local
        or address.is_loopback
        or address.is_unspecified
        or address.is_multicast
    )


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a connection would go to, None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        import socket  # which takes milliseconds that most runs do not need

        try:  # `0xa9fea9fe`, `2852039166`, `169.254.43518`: libraries take them all
            return IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
