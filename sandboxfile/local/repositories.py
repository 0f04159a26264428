"""What was pushed for v1 builds: one repository for each template, on disk, for a short time.

Everything is kept by its digest and written whole or not at all, so that a digest that is there is
right. `<directory>/<template>/` holds `blobs`, `manifests`, `tags` and `uploads`.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any

from sandboxfile import flock
from sandboxfile.frozen import dataclass

REPOSITORY = "e2b/custom-envs"  # the one above all of them (docs/protocol.md, 2.3)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
BLOB_LIMIT = 20 << 30  # bytes: more than a template's disk has (docs/protocol.md, 6)
MANIFEST_LIMIT = 4 << 20  # bytes (OCI distribution specification, Pushing Manifests)
IMAGE_TYPES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)


class Invalid(Exception):  # noqa: N818 - a client's fault, answered as such
    """A push that is wrong in itself; `code` is the OCI distribution specification's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or index as it was pushed."""

    digest: str
    media_type: str
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class Repositories:
    """Repositories by template; every method may be called from any thread and process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    # --- blobs -------------------------------------------------------------------------------

    def begin(self, template: str) -> str:
        """Begin an upload; its id cannot be guessed."""
        upload = secrets.token_hex(32)
        path = self._upload(template, upload)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        return upload

    def size(self, template: str, upload: str) -> int | None:
        """Return how much of an upload has come, None when there is no such upload."""
        with suppress(FileNotFoundError):
            return self._upload(template, upload).stat().st_size
        return None

    def append(self, template: str, upload: str, content: Iterable[bytes]) -> int:
        """Add to an upload, return its size. Raises Invalid, OSError, and what `content` raises."""
        with self._alone(template, upload) as file:
            size = file.seek(0, os.SEEK_END)
            for piece in content:
                size += len(piece)
                if size > BLOB_LIMIT:
                    raise Invalid("SIZE_INVALID", f"a blob is larger than {BLOB_LIMIT >> 30} GiB")
                file.write(piece)
        return size

    def finish(self, template: str, upload: str, digest: str) -> None:
        """Make a blob of an upload. Raises Invalid when it has another digest, OSError."""
        path = self._upload(template, upload)
        with self._alone(template, upload) as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            os.fsync(file.fileno())
            if found != digest:
                path.unlink()
                raise Invalid("DIGEST_INVALID", f"what came has the digest {found}, not {digest}")
            _into(path, self._blob(template, digest))

    @contextmanager
    def _alone(self, template: str, upload: str) -> Iterator[BufferedRandom]:
        """Open an upload, for one request at a time: what was checked must not change any more.

        Raises Invalid when another one has it, or has made a blob of it.
        """
        path = self._upload(template, upload)
        try:
            with path.open("r+b") as file:
                if not flock.attempt(file.fileno()):
                    raise Invalid("BLOB_UPLOAD_INVALID", "another request writes to this upload")
                if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    raise Invalid("BLOB_UPLOAD_UNKNOWN", "there is no such upload any more")
                yield file
        except FileNotFoundError:
            raise Invalid("BLOB_UPLOAD_UNKNOWN", "there is no such upload any more") from None

    def abandon(self, template: str, upload: str) -> None:
        self._upload(template, upload).unlink(missing_ok=True)

    def blob(self, template: str, digest: str) -> Path | None:
        path = self._blob(template, digest)
        return path if path.is_file() else None

    # --- manifests ---------------------------------------------------------------------------

    def put(self, template: str, reference: str, media_type: str, body: bytes) -> Manifest:
        """Keep a manifest under its digest and, unless that is what `reference` is, a tag.

        Raises Invalid for one that is malformed, has another digest or names what is not here,
        OSError.
        """
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if ":" in reference and reference != digest:
            raise Invalid("DIGEST_INVALID", f"the manifest has the digest {digest}")
        manifest = Manifest(digest=digest, media_type=media_type, body=body)
        for kind, child, size in _named(manifest):
            self._check(template, kind, child, size)
        self._write(self._manifest(template, digest), media_type.encode() + b"\n" + body)
        if ":" not in reference:
            self._write(self._place(template, "tags", reference), digest.encode())
        return manifest

    def _check(self, template: str, kind: str, digest: str, size: int) -> None:
        if kind == "manifest":
            found = self.manifest(template, digest)
            actual = len(found.body) if found else None
        else:
            path = self.blob(template, digest)
            actual = path.stat().st_size if path else None
        if actual is None:
            raise Invalid("MANIFEST_BLOB_UNKNOWN", f"{kind} {digest} was not pushed")
        if actual != size:
            raise Invalid("MANIFEST_INVALID", f"{kind} {digest} has {actual} bytes, not {size}")

    def manifest(self, template: str, reference: str) -> Manifest | None:
        """Return a manifest by tag or digest."""
        with suppress(FileNotFoundError):
            if ":" not in reference:
                reference = self._place(template, "tags", reference).read_text()
            media_type, _, body = self._manifest(template, reference).read_bytes().partition(b"\n")
            return Manifest(digest=reference, media_type=media_type.decode(), body=body)
        return None

    def tags(self, template: str) -> list[str]:
        """Return the tags of a repository, sorted."""
        with suppress(FileNotFoundError):
            found = (self._directory / template / "tags").iterdir()
            return sorted(path.name for path in found if TAG.fullmatch(path.name))
        return []

    # --- keeping it small --------------------------------------------------------------------

    def templates(self) -> list[str]:
        """Return which templates have something here."""
        with suppress(FileNotFoundError):
            return [path.name for path in self._directory.iterdir()]
        return []

    def drop(self, template: str) -> None:
        """Forget all that was pushed for a template; a push that begins meanwhile is spared."""
        doomed = self._directory / f".{secrets.token_hex(8)}"
        with suppress(FileNotFoundError):
            (self._directory / template).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    # --- places ------------------------------------------------------------------------------

    def _place(self, template: str, kind: str, name: str) -> Path:
        return self._directory / template / kind / name

    def _upload(self, template: str, upload: str) -> Path:
        return self._place(template, "uploads", upload)

    def _blob(self, template: str, digest: str) -> Path:
        return self._place(template, "blobs", digest.partition(":")[2])

    def _manifest(self, template: str, digest: str) -> Path:
        return self._place(template, "manifests", digest.partition(":")[2])

    def _write(self, path: Path, content: bytes) -> None:
        new = path.parents[1] / "uploads" / secrets.token_hex(32)
        new.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with new.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _into(new, path)


def _into(new: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _named(manifest: Manifest) -> Iterator[tuple[str, str, int]]:
    """Yield kind, digest and size of all that a manifest names. Raises Invalid."""
    document = _document(manifest)
    if manifest.media_type in INDEX_TYPES:
        kind, descriptors = "manifest", document.get("manifests")
    else:
        kind, descriptors = "blob", [document.get("config"), *_listed(document.get("layers"))]
    for each in _listed(descriptors):
        yield (kind, *_descriptor(each))


def _document(manifest: Manifest) -> dict[str, Any]:
    if manifest.media_type not in IMAGE_TYPES | INDEX_TYPES:
        raise Invalid("MANIFEST_INVALID", f"media type '{manifest.media_type}' is not supported")
    try:
        document = json.loads(manifest.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:  # noqa: PLR2004
        raise Invalid("MANIFEST_INVALID", "this is no manifest of schema version 2")
    if document.get("mediaType", manifest.media_type) != manifest.media_type:
        raise Invalid("MANIFEST_INVALID", "the manifest has another media type than its header")
    return document


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Invalid("MANIFEST_INVALID", "a list of descriptors is missing")
    return value


def _descriptor(value: object) -> tuple[str, int]:
    if isinstance(value, dict):
        digest, size = value.get("digest"), value.get("size")
        if isinstance(digest, str) and DIGEST.fullmatch(digest) and type(size) is int:
            return digest, size
    raise Invalid("MANIFEST_INVALID", "a descriptor has no digest of SHA-256 or no size")
