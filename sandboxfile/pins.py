"""Bases by their names in the lock, and their part of a template's key."""

from collections.abc import Mapping
from functools import lru_cache

from sandboxfile import keys
from sandboxfile.keys import Keys
from sandboxfile.lockfile import ENGINE_PREFIX
from sandboxfile.model import (
    PLATFORM,
    BootstrapBase,
    DockerfileBase,
    ImageBase,
    RemoteBase,
    Template,
    TemplateBase,
)
from sandboxfile.reference import ImageReference
from sandboxfile.taking import Taken

Identity = tuple[Keys | None, tuple[str, ...]]  # or what is not resolved
Based = tuple[keys.Record | None, tuple[str, ...]]  # the same of a base


def pin_name(base: ImageBase | BootstrapBase | str) -> str:
    """Return the name under which a base is kept in `resolved` of the lock."""
    if isinstance(base, BootstrapBase):
        return f"{base.distribution}:{base.suite} {keys.short(_bootstrap(base))} {PLATFORM}"
    return _of_image(base if isinstance(base, str) else base.image)


@lru_cache(maxsize=1024)  # many templates have the same
def _of_image(text: str) -> str:
    return f"{ImageReference.parse(text).normalised} {PLATFORM}"


def pinned(name: str, resolved: Mapping[str, str]) -> str | None:
    """Return the digest that `resolved` has for a base, from a registry or from this engine."""
    if "@sha256:" in name:
        return "sha256:" + name.partition("@sha256:")[2].partition(" ")[0]
    return resolved.get(name) or resolved.get(ENGINE_PREFIX + name)


def record(
    template: Template,
    taken: Taken,
    resolved: Mapping[str, str],
    parent: Identity,
) -> Based:
    """Return the base's part of the image key, or what has to be resolved before there is one.

    `parent` says the same of the template that is the base.
    """
    match template.base:
        case ImageBase() | BootstrapBase() as base:
            name = pin_name(base)
            digest = pinned(name, resolved)
            if digest is None:
                return None, (name,)
            if isinstance(base, BootstrapBase):
                return keys.bootstrap_record(base, digest), ()
            return keys.image_record(digest), ()
        case TemplateBase():
            found, missing = parent
            return (keys.template_record(found.image_key) if found else None), missing
        case RemoteBase() as base:
            return keys.remote_record(base.remote), ()
        case DockerfileBase() as base:
            assert taken.dockerfile is not None
            assert taken.whole is not None
            names = {image: pin_name(image) for image in taken.dockerfile.images}
            images = {image: pinned(name, resolved) for image, name in names.items()}
            missing = tuple(names[image] for image, digest in images.items() if digest is None)
            if missing:
                return None, missing
            own = keys.dockerfile_record(
                taken.dockerfile.sha256,
                taken.whole,
                stage=base.stage,
                args=base.args,
                images={image: digest for image, digest in images.items() if digest},
            )
            return own, ()


def _bootstrap(base: BootstrapBase) -> Mapping[str, object]:
    return keys.bootstrap_record(base, "")
