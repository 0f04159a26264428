"""Which build rules a client gets, by the name that it gives itself (docs/protocol.md, 1.5)."""

import re

OLD = (2, 3, 0)  # E2B clients below this version: steps as root
_CLIENT = re.compile(r"(?:^|\s)e2b-(?:js|python)-sdk/(\S*)")
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def runs_as_root(user_agent: str) -> bool:
    """Whether a client is an E2B SDK of old. Raises ValueError for one that has no version."""
    client = _CLIENT.search(user_agent)
    if client is None:
        return False
    version = _VERSION.fullmatch(client[1])
    if version is None:
        raise ValueError(f"'{client[1]}' is not a version")
    numbers = tuple(int(version[place]) for place in (1, 2, 3))
    return numbers < OLD or (numbers == OLD and version[4] is not None)
