"""What an image says of itself, whoever wrote it."""

import hashlib
import json
from typing import Any

import pytest

from sandboxfile import imageconfig
from sandboxfile.imageconfig import Documents
from sandboxfile.model import ImageConfig

CONFIG: dict[str, Any] = {
    "Env": ["PATH=/opt/bin:/usr/bin", "EMPTY=", "A=b=c", "=nameless"],
    "User": "node:node",
    "WorkingDir": "/app",
    "Entrypoint": ["tini", "--"],
    "Cmd": ["node", "server.js"],
    "Healthcheck": {"Test": ["CMD", "curl", "localhost"]},
    "ExposedPorts": {"8080/tcp": {}, "443/tcp": {}},
    "Volumes": {"/data": {}},
    "StopSignal": "SIGQUIT",
    "Labels": {"a": "b", "wrong": 1},
}
READ = ImageConfig(
    env={"PATH": "/opt/bin:/usr/bin", "EMPTY": "", "A": "b=c"},
    user="node:node",
    workdir="/app",
    entrypoint=("tini", "--"),
    cmd=("node", "server.js"),
    has_healthcheck=True,
    ports=("443/tcp", "8080/tcp"),
    volumes=("/data",),
    stop_signal="SIGQUIT",
    labels={"a": "b"},
)


def test_an_engines_config_is_read() -> None:
    assert imageconfig.of_engine(CONFIG) == READ


def test_a_registrys_document_has_the_history_too() -> None:
    history = [{"created_by": "ADD rootfs"}, {"comment": "nothing"}, "junk", {"created_by": 3}]
    read = imageconfig.read({"architecture": "amd64", "config": CONFIG, "history": history})
    assert read.commands == ("ADD rootfs",)
    assert read.env == READ.env


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"config": None, "history": None},
        {"config": [], "history": {}},
        {"config": dict.fromkeys(CONFIG)},
        {"config": dict.fromkeys(CONFIG, 7)},
        {"config": {**dict.fromkeys(CONFIG), "Healthcheck": {"Test": ["NONE"]}, "Env": [1, ""]}},
    ],
)
def test_what_is_absent_or_of_another_type_is_not_there(document: dict[str, Any]) -> None:
    assert imageconfig.read(document) == ImageConfig()


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_documents_that_were_kept_are_read_if_they_are_the_images_own() -> None:
    config = json.dumps({"config": CONFIG}).encode()
    manifest = json.dumps({"config": {"digest": _sha256(config)}}).encode()
    documents = Documents(manifest=manifest, config=config)
    assert imageconfig.verified(documents, _sha256(manifest)) == READ
    assert imageconfig.verified(documents, _sha256(config)) is None
    forged = Documents(manifest=manifest, config=b"{}")
    assert imageconfig.verified(forged, _sha256(manifest)) is None
    junk = Documents(manifest=b"[]", config=b"")
    assert imageconfig.verified(junk, _sha256(b"[]")) is None


@pytest.mark.parametrize("manifest", [b"no JSON", b"[" * 100_000, b"[]"])
def test_what_is_no_document_is_of_no_image(manifest: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    assert imageconfig.verified(Documents(manifest=manifest, config=b"{}"), digest) is None
