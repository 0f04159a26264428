"""Caches of builds outside the engine (`cache`), in the terms of `docker buildx build`. Pure.

Each template has a cache of its own below what is written: a build overwrites what another build
has exported to the same place (Docker's documentation, "Cache storage backends").
"""

import io
from collections.abc import Mapping
from pathlib import Path

from sandboxfile.reference import ImageReference

TYPES = ("registry", "inline", "local", "gha", "s3", "azblob")
# What tells caches of one place apart, by type.
_NAMED = {"gha": "scope", "s3": "name", "azblob": "name"}


def fields(option: str) -> Mapping[str, str]:
    """Take `type=registry,ref=...` apart; a reference alone is one of a registry.

    Raises ValueError for a field without `=`, and for text with quotes that do not match.
    """
    if "=" not in option:
        return {"type": "registry", "ref": option}
    import csv

    try:
        (row,) = csv.reader([option], strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    pairs = [field.strip().partition("=") for field in row]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise ValueError(f"`{name}` is no `name=value`")
    return {name: value for name, _, value in pairs}


def exported(option: str, template: str, root: Path) -> str:
    """Return where the layers of a template's build go, for `--cache-to`."""
    found = _of(fields(option), template, root, "dest")
    return _written(found if "=" in option else {**found, "mode": "max"})


def imported(option: str, template: str, root: Path) -> str:
    """Return where layers of a template's build come from, for `--cache-from`."""
    return _written(_of(fields(option), template, root, "src"))


def is_inline(option: str) -> bool:
    return fields(option).get("type") == "inline"


def _of(found: Mapping[str, str], template: str, root: Path, directory: str) -> Mapping[str, str]:
    kind = found["type"]
    if kind == "registry" and _is_untagged(found["ref"]):
        return {**found, "ref": f"{found['ref']}:{template}"}
    if kind == "local":
        return {**found, directory: str(root / found[directory] / template)}
    name = _NAMED.get(kind)
    return {**found, name: template} if name and name not in found else found


def _is_untagged(reference: str) -> bool:
    parsed = ImageReference.parse(reference)
    return parsed.tag is None and parsed.digest is None


def _written(found: Mapping[str, str]) -> str:
    import csv

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(f"{name}={each}" for name, each in found.items())
    return line.getvalue()
