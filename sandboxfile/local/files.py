"""The storage for files of build steps: archives by their hash, and links that let them in.

One directory below the service's data, shared by all templates and processes, as the service
shares archives in a team (docs/protocol.md, 3.3). A hash is the client's word: nobody computes it
again.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

HASH = re.compile(r"[0-9a-f]{64}")
ARCHIVE_LIMIT = 20 << 30  # bytes: the disk of a sandbox (docs/protocol.md, 6)
LINK_LIFE_S = 30 * 60  # docs/protocol.md, 3.3
KEEP_S = 30 * 24 * 3600  # since an archive was last asked for
PART_LIFE_S = 24 * 3600  # of what an upload left behind that never came to its end


class Files:
    """Archives on disk; every method may be called from any thread and process.

    One that nobody has asked for in 30 days is dropped: a client that misses it uploads it again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        now: Callable[[], float] = time.time,
        link_life_s: float = LINK_LIFE_S,
        keep_s: float = KEEP_S,
    ) -> None:
        """Use a directory, making it if needed. Raises OSError."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._now = now
        self._link_life_s = link_life_s
        self._keep_s = keep_s
        self._key = _key(directory / ".key")

    def path(self, files_hash: str) -> Path | None:
        """Return the archive of that hash, None if it is not here; asking keeps it for longer."""
        if not HASH.fullmatch(files_hash):  # no path of a stranger's making
            return None
        path = self._place(files_hash)
        now = self._now()
        try:
            os.utime(path, (now, now))
        except FileNotFoundError:
            return None
        return path

    def save(self, files_hash: str, content: Iterable[bytes]) -> None:
        """Keep an archive, whole or not at all, also when the machine stops halfway.

        Raises OSError, and whatever `content` raises.
        """
        part = self._directory / f".{uuid4()}.part"
        try:
            with part.open("xb") as file:
                for piece in content:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            now = self._now()
            os.utime(part, (now, now))
            part.replace(self._place(files_hash))
        finally:
            part.unlink(missing_ok=True)
        _sync(self._directory)

    def sweep(self) -> None:
        """Drop archives that nobody asks for any more, and what killed uploads left behind."""
        now = self._now()
        for pattern, life_s in (("*.tar", self._keep_s), (".*.part", PART_LIFE_S)):
            for path in self._directory.glob(pattern):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < now - life_s:
                        path.unlink()

    def _place(self, files_hash: str) -> Path:
        return self._directory / f"{files_hash}.tar"

    # --- links -------------------------------------------------------------------------------

    def link(self, files_hash: str) -> str:
        """Return path and query that let anybody who has them upload, for half an hour."""
        expires = str(int(self._now() + self._link_life_s))
        return (
            f"/storage/files/{files_hash}.tar"
            f"?expires={expires}&signature={self._sign(files_hash, expires)}"
        )

    def wrong(self, files_hash: str, query: Mapping[str, str]) -> str:
        """Return what is wrong with a link, empty when it is good."""
        expires = query.get("expires", "")
        signed = self._sign(files_hash, expires).encode()
        if not hmac.compare_digest(signed, query.get("signature", "").encode()):
            return "The request signature does not match"
        return "" if self._now() < int(expires) else "Request has expired"

    def _sign(self, files_hash: str, expires: str) -> str:
        signed = f"PUT\n{files_hash}\n{expires}".encode()
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()


def _key(path: Path) -> bytes:
    """Return the secret that signs links, the same in all processes and after a restart."""
    while True:
        with suppress(FileNotFoundError):
            return path.read_bytes()
        new = path.with_name(f".{uuid4()}.part")
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was faster: its key holds
            os.link(new, path)
        new.unlink()


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
