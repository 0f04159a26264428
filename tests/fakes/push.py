"""Images written by hand, and how they get into a registry without an engine."""

import hashlib
import json
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Document:
    """A manifest or an index, as a registry keeps it."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        return digest(self.body)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A document with all it points to: blobs, and for an index the manifests of its images."""

    document: Document
    blobs: tuple[bytes, ...] = ()
    children: tuple["Image", ...] = ()

    @property
    def digest(self) -> str:
        return self.document.digest


def image(
    *,
    architecture: str = "amd64",
    os: str = "linux",
    config: Mapping[str, Any] | None = None,
    media_type: str = OCI_MANIFEST,
    layer: bytes = b"\0" * 1024,  # the end of an archive, and nothing before it
    diff: bytes | None = None,
    history: tuple[str, ...] = (),
) -> Image:
    """Make an image of one layer, an empty one; `diff` is what its configuration says of it.

    `history` tells by which commands it was made.
    """
    about = {
        "architecture": architecture,
        "os": os,
        "config": dict(config or {}),
        "history": [{"created_by": command} for command in history],
        "rootfs": {"type": "layers", "diff_ids": [digest(layer if diff is None else diff)]},
    }
    blob = json.dumps(about).encode()
    docker = media_type == DOCKER_MANIFEST
    content = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _descriptor(
            "application/vnd.docker.container.image.v1+json"
            if docker
            else "application/vnd.oci.image.config.v1+json",
            blob,
        ),
        "layers": [
            _descriptor(
                "application/vnd.docker.image.rootfs.diff.tar"
                if docker
                else "application/vnd.oci.image.layer.v1.tar",
                layer,
            )
        ],
    }
    document = Document(media_type=media_type, body=json.dumps(content).encode())
    return Image(document=document, blobs=(blob, layer))


def index(
    images: Mapping[str, Image], *, media_type: str = OCI_INDEX, attested: bool = False
) -> Image:
    """Make an index of images by platform (`linux/arm64/v8`); `attested` as BuildKit does it."""
    entries = [
        {
            "mediaType": each.document.media_type,
            "digest": each.digest,
            "size": len(each.document.body),
            "platform": _platform(platform),
        }
        for platform, each in images.items()
    ]
    children = list(images.values())
    if attested:
        statement = image(architecture="unknown", os="unknown")
        children.append(statement)
        for each in tuple(images.values()):
            entries.insert(
                0,
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": statement.digest,
                    "size": len(statement.document.body),
                    "platform": _platform("unknown/unknown"),
                    "annotations": {
                        "vnd.docker.reference.type": "attestation-manifest",
                        "vnd.docker.reference.digest": each.digest,
                    },
                },
            )
    content = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    document = Document(media_type=media_type, body=json.dumps(content).encode())
    return Image(document=document, children=tuple(children))


def push(
    root: str, repository: str, tag: str, what: Image, *, headers: Mapping[str, str] | None = None
) -> str:
    """Bring an image or an index to the registry at `root` (`http://host:port`); its digest."""
    given = dict(headers or {})
    for child in what.children:
        push(root, repository, child.digest, child, headers=given)
    for blob in what.blobs:
        _push_blob(f"{root}/v2/{repository}/blobs/uploads/", blob, given)
    _request(
        "PUT",
        f"{root}/v2/{repository}/manifests/{tag}",
        what.document.body,
        given | {"Content-Type": what.document.media_type},
    )
    return what.digest


def _push_blob(start: str, blob: bytes, headers: Mapping[str, str]) -> None:
    place = urljoin(start, _request("POST", start, b"", headers)["Location"])
    target = f"{place}{'&' if '?' in place else '?'}digest={digest(blob)}"
    octets = {"Content-Type": "application/octet-stream"}
    _request("PUT", target, blob, {**headers, **octets})


def _request(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: Iterable[tuple[str, str]] = response.headers.items()
        return dict(answer)


def _descriptor(media_type: str, blob: bytes) -> Mapping[str, Any]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def _platform(text: str) -> Mapping[str, str]:
    names = ("os", "architecture", "variant")
    return dict(zip(names, text.split("/"), strict=False))
