"""Locks on files that end with the process, however it ends; tried for, never waited for."""

import errno
import fcntl
from contextlib import suppress

# What file systems answer that have no such locks, NFS for directories among them.
_NONE = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EBADF})


def attempt(file: int) -> bool:
    """Lock an open file or directory for its holder alone; False while somebody else has it.

    Where the file system has no locks this is True: one process alone is safe without. Closing
    the file gives the lock back. Raises OSError when the file system fails.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NONE:
            raise
    return True


def release(file: int) -> None:
    """Give a lock back while the file stays open; where that fails, closing the file does it."""
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
