"""Numbers of things in sentences."""


def of(count: int, what: str) -> str:
    """Return `3 bases`, or `1 base`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def among(count: int, whole: int, what: str) -> str:
    """Return `2 of 3 bases`, or `0 of 1 base`."""
    return f"{count} of {of(whole, what)}"
