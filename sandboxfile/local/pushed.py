"""An image that was pushed here, as the archive that engines load: `docker load` reads the same."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass
from sandboxfile.local.records import Failed
from sandboxfile.local.repositories import INDEX_TYPES, REPOSITORY, Manifest, Repositories

ARCHITECTURE = "amd64"  # docs/protocol.md, 5.7
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedImage:
    """The blobs of one image: its configuration and its layers, lowest first."""

    config: Path
    layers: tuple[Path, ...]

    def archive(self, tag: str) -> Iterator[bytes]:
        """Yield an archive that gives the image this tag when it is loaded."""
        names = {path: f"blobs/sha256/{path.name}" for path in (self.config, *self.layers)}
        index = [
            {
                "Config": names[self.config],
                "RepoTags": [tag],
                "Layers": [names[layer] for layer in self.layers],
            }
        ]
        yield from _member("manifest.json", json.dumps(index).encode())
        for path, name in names.items():
            yield from _file(name, path)
        yield b"\0" * 2 * tarfile.BLOCKSIZE


class Pushes:
    """What was pushed to this service, for as long as a build may want it."""

    def __init__(self, repositories: Repositories, *, is_open: Callable[[str], bool]) -> None:
        """Keep the pushes for templates with a build that waits or runs: `is_open`."""
        self._repositories = repositories
        self._is_open = is_open

    def find(self, template: str, tag: str) -> PushedImage | None:
        """Return an image, None when nothing was pushed under that tag. Raises Failed."""
        return find(self._repositories, template, tag)

    def sweep(self, *, untag: Callable[[str], None]) -> None:
        """Drop what no build will want any more, here and, by its tag, in the engine."""
        for template in self._repositories.templates():
            if self._is_open(template):
                continue
            for tag in self._repositories.tags(template):
                with suppress(SandboxfileError):
                    untag(f"{REPOSITORY}/{template}:{tag}")
            self._repositories.drop(template)


def find(repositories: Repositories, template: str, tag: str) -> PushedImage | None:
    """Return the image of a tag, for our platform; None when nothing was pushed under it.

    Raises Failed, in the service's words, when there is only one for another platform.
    """
    manifest = repositories.manifest(template, tag)
    if manifest is None:
        return None
    if manifest.media_type in INDEX_TYPES:
        manifest = _ours(repositories, template, manifest)
    document = manifest.document
    paths = [
        repositories.blob(template, each["digest"])
        for each in (document["config"], *document["layers"])
    ]
    config, *layers = [path for path in paths if path is not None]
    if len(layers) < len(document["layers"]):
        raise Failed("failed to pull build image from registry: a blob of it is gone")
    _check(config)
    return PushedImage(config=config, layers=tuple(layers))


def _ours(repositories: Repositories, template: str, index: Manifest) -> Manifest:
    platforms = []
    for each in index.document["manifests"]:
        platform = each.get("platform") or {}
        platforms.append(f"{platform.get('os')}/{platform.get('architecture')}")
        if platforms[-1] == f"linux/{ARCHITECTURE}":
            found = repositories.manifest(template, each["digest"])
            if found is not None:
                return found
    raise Failed(
        f"image architecture {', '.join(platforms) or 'of nothing'} does not match expected"
        f' "{ARCHITECTURE}"'
    )


def _check(config: Path) -> None:
    try:
        architecture = json.loads(config.read_bytes())["architecture"]
    except (ValueError, KeyError, TypeError):
        raise Failed("failed to pull build image from registry: it has no configuration") from None
    if architecture != ARCHITECTURE:
        raise Failed(
            f'image architecture "{architecture}" does not match expected "{ARCHITECTURE}"'
        )


def _member(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content))
    yield content
    yield _padding(len(content))


def _file(name: str, path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        yield _header(name, size)
        while chunk := file.read(_CHUNK):
            yield chunk
    yield _padding(size)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf()


def _padding(size: int) -> bytes:
    return b"\0" * (-size % tarfile.BLOCKSIZE)
