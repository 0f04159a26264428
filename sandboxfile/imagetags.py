"""What images of templates are called, in the engine and in caches."""

from sandboxfile import keys
from sandboxfile.surveyed import Surveyed

PREFIX = "sandboxfile/"  # of repositories in the engine
_TAG_LIMIT = 128  # characters (OCI distribution spec)


def tag_of(surveyed: Surveyed) -> str:
    """Return the tag in the engine of a template's image as it is now."""
    assert surveyed.keys is not None
    return image_tag(surveyed.template.name, surveyed.keys.image_key)


def image_tag(template: str, key: str, *, prefix: str = "sf") -> str:
    """Return the tag in the engine of a template's image: `sandboxfile/<name>:sf-<16 hex>`."""
    return f"{PREFIX}{repository(template)}:{prefix}-{key.partition(':')[2][:16]}"


def repository(template: str) -> str:
    """Return a template's name in the form that repositories allow (OCI distribution spec).

    Template names may end in `-` or `_` or repeat them, repository names may not.
    """
    parts = [part for part in template.replace("_", "-").split("-") if part]
    plain = "-".join(parts)
    return plain if plain == template else f"{plain}.{keys.short(template)}"


def below(template: str) -> str:
    """Return the name of the cache of a template's own Dockerfile; no template has it."""
    is_short = len(template) <= _TAG_LIMIT - len(".base")
    return f"{template if is_short else keys.short(template)}.base"
