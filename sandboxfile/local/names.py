"""Names and tags of templates as the service writes them: `[namespace/]alias[:tag]`."""

import re

from sandboxfile.frozen import dataclass
from sandboxfile.model import UUID

NAMESPACE = "local"  # the slug of the one team that this service has
DEFAULT_TAG = "default"
NAME_LIMIT = 128  # characters of the whole name (docs/protocol.md, 4.1)

_PART = re.compile(r"[a-z0-9_-]+")
_TAG = re.compile(r"[a-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name taken apart; `namespace` and `tag` are None where the text gave none."""

    namespace: str | None
    alias: str
    tag: str | None

    @property
    def wanted_tag(self) -> str:
        return self.tag or DEFAULT_TAG


def parse(text: str) -> Name:
    """Take a name apart, trimmed and lower-cased. Raises ValueError with the reason."""
    whole = text.strip()
    if len(whole) > NAME_LIMIT:
        raise ValueError(f"name is longer than {NAME_LIMIT} characters")
    rest, colon, tag = whole.partition(":")
    namespace, slash, alias = rest.rpartition("/")
    return Name(
        namespace=_part(namespace, "namespace", _PART) if slash else None,
        alias=_part(alias, "template name", _PART),
        tag=_part(tag, "tag", _TAG) if colon else None,
    )


def parse_tag(text: str) -> str:
    """Return a tag of a tag list, normalised. Raises ValueError with the reason."""
    tag = _part(text, "tag", _TAG)
    if UUID.fullmatch(tag):
        raise ValueError("tag cannot be a UUID")
    return tag


def is_build_id(text: str) -> bool:
    return UUID.fullmatch(text) is not None


def _part(text: str, what: str, pattern: re.Pattern[str]) -> str:
    part = text.strip().lower()
    if not pattern.fullmatch(part):
        raise ValueError(f"{what} '{part}' must match ^{pattern.pattern}$")
    return part
