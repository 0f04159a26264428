"""A command in a container joined to our own terminal."""

from sandboxfile.engines.wire import Wire


def interact(wire: Wire, exec_id: str, *, tty: bool) -> None:
    """Pump our streams."""
    raise NotImplementedError
