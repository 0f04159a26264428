"""Read what an image says of itself: environment, user, commands. Pure; others fetch it.

The document is the configuration of the OCI image specification; an engine gives its `config`
part alone. It was written by strangers: what has another type than it should counts as absent.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sandboxfile.frozen import dataclass
from sandboxfile.model import ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """A manifest and the configuration it names, byte for byte as the registry has them."""

    manifest: bytes
    config: bytes


def verified(documents: Documents, digest: str) -> ImageConfig | None:
    """Read documents kept from earlier, None unless they are those of the image `digest`."""
    if _sha256(documents.manifest) != digest:
        return None
    named = _map(_object(documents.manifest), "config").get("digest")
    return read(_object(documents.config)) if named == _sha256(documents.config) else None


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _object(content: bytes) -> Mapping[str, Any]:
    """Decode JSON that a registry's client has read before: its digest is right.

    Of what a checkout brings that is only as true as the digest that it brings too.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read(document: Mapping[str, Any]) -> ImageConfig:
    """Read a configuration document as a registry has it, with its history."""
    history = document.get("history")
    layers = history if isinstance(history, list) else []
    commands = (_text(layer, "created_by") for layer in layers if isinstance(layer, dict))
    return _config(_map(document, "config"), commands=tuple(filter(None, commands)))


def of_engine(config: Mapping[str, Any]) -> ImageConfig:
    """Read an image's `Config` as an engine has it."""
    return _config(config, commands=())


def _config(config: Mapping[str, Any], *, commands: tuple[str, ...]) -> ImageConfig:
    variables = (entry.partition("=") for entry in _texts(config, "Env"))
    return ImageConfig(
        env={name: value for name, _, value in variables if name},
        user=_text(config, "User"),
        workdir=_text(config, "WorkingDir"),
        entrypoint=_texts(config, "Entrypoint"),
        cmd=_texts(config, "Cmd"),
        has_healthcheck=_has_healthcheck(config),
        ports=tuple(sorted(_map(config, "ExposedPorts"))),
        volumes=tuple(sorted(_map(config, "Volumes"))),
        stop_signal=_text(config, "StopSignal"),
        labels={k: v for k, v in _map(config, "Labels").items() if isinstance(v, str)},
        commands=commands,
        shell=_texts(config, "Shell"),
        on_build=_texts(config, "OnBuild"),
    )


def _has_healthcheck(config: Mapping[str, Any]) -> bool:
    test = _texts(_map(config, "Healthcheck"), "Test")
    return bool(test) and test[0] != "NONE"


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = record.get(name)
    items = value if isinstance(value, list) else []
    return tuple(item for item in items if isinstance(item, str))


def _map(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}
