"""What images say of themselves, asked once: a digest never comes to mean something else.

What registries told is kept in the state directory, byte for byte, and checked against its digest
whenever it is read: files that a checkout brought along are worth nothing, and losing them costs
a request.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandboxfile import imageconfig, reading
from sandboxfile.engines import Engine
from sandboxfile.errors import Unreachable
from sandboxfile.imageconfig import Documents
from sandboxfile.model import DIGEST, ImageConfig
from sandboxfile.reference import ImageReference
from sandboxfile.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    """Reads configurations of images; `engine` and `registry` are opened when needed."""

    directory: Path
    engine: Callable[[], Engine]
    registry: Callable[[], Registry]
    offline: bool = False

    def at_registry(self, reference: str, *, keep: bool = True) -> ImageConfig:
        """Return what `repo@sha256:…` says of itself; `keep` for what will be asked again.

        Raises Unreachable, NotAllowed, or SandboxfileError for an image of another platform.
        """
        image = ImageReference.parse(reference)
        if (kept := self.known(reference)) is not None:
            return kept
        if self.offline:
            what = f"what `{reference}` says of itself is not known here"
            raise Unreachable(f"{what}, and `--offline` is given")
        digest, documents = self.registry().config(image)
        found = imageconfig.verified(documents, digest)
        assert found is not None  # the registry's client has compared the digests
        if keep:
            self._keep(digest, documents)
        return found

    def known(self, reference: str) -> ImageConfig | None:
        """Return what was kept of an image, None if nothing was; asks nobody."""
        return self._kept(ImageReference.parse(reference).digest or "")

    def in_engine(self, image: str) -> ImageConfig:
        """Return what an image of the engine says of itself. Raises SandboxfileError."""
        return imageconfig.of_engine(self.engine().image_config(image))

    # --- kept --------------------------------------------------------------------------------

    def _path(self, digest: str) -> Path:
        return self.directory / f"{digest.removeprefix('sha256:')}.json"

    def _kept(self, digest: str) -> ImageConfig | None:
        if not DIGEST.fullmatch(digest):
            return None
        try:
            record = json.loads(reading.regular(self._path(digest)))
            documents = Documents(
                manifest=record["manifest"].encode(errors="surrogateescape"),
                config=record["config"].encode(errors="surrogateescape"),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return imageconfig.verified(documents, digest)

    def _keep(self, digest: str, documents: Documents) -> None:
        record = {
            "manifest": documents.manifest.decode(errors="surrogateescape"),
            "config": documents.config.decode(errors="surrogateescape"),
        }
        path = self._path(digest)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        with suppress(OSError):  # it only saves a request
            path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(record), encoding="utf-8")
            new.replace(path)
