"""The cyclic garbage collector, out of the way while a workspace is read.

It walks a growing heap again and again and finds nothing: what is read is a tree. Half the time of
reading a thousand templates went there.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OFTEN = 50_000  # objects made, until it looks: a run makes few that it cannot free by counting


@contextmanager
def paused() -> Iterator[None]:
    """Keep the collector from working inside the block, unless `resume` is called there."""
    was_enabled, usual = gc.isenabled(), gc.get_threshold()
    gc.disable()
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        if was_enabled:
            gc.enable()


def resume() -> None:
    """Let the collector work for the rest of a run that may take long, on what is new from here.

    Seldom, as what is to come first is modules: at Python's own threshold it walks them a hundred
    times while they are imported.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(_OFTEN)
        gc.enable()


_left: tuple[object, ...] = ()


def leave(*read: object) -> None:
    """Leave what was read to the system, at the end of a run that closes all that it opened.

    It takes all memory back at once; to free a thousand templates, or all the modules that a
    build takes, is a tenth of a run.
    """
    global _left  # noqa: PLW0603 - it lives as long as the process
    _left = read
    gc.freeze()


def is_left() -> bool:
    """Say whether the process may end without freeing anything."""
    return bool(_left)
