"""Image references (`host/repository:tag@digest`), read by the grammar of the container tools."""

from functools import lru_cache

from sandboxfile.frozen import dataclass, replace
from sandboxfile.model import DIGEST
from sandboxfile.patterns import regex

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255  # characters of registry and repository together

_DOMAIN = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = regex(
    rf"(?:{_DOMAIN}(?:\.{_DOMAIN})*|\[(?P<ipv6>[0-9a-fA-F:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?"
)
_COMPONENT = regex(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IDENTIFIER = regex(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """Where an image is: `tag` and `digest` are None where the text gave none."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    @lru_cache(maxsize=256)  # few images, named by many templates
    def parse(cls, text: str) -> "ImageReference":
        """Read a reference as Docker reads it: `python` is `docker.io/library/python`.

        Grammar and defaults are those of the distribution project's reference package. Raises
        ValueError with the reason, which never repeats a password that the text may contain.
        """
        _refuse_what_only_looks_alike(text)
        rest, digest = _split_digest(text)
        rest, tag = _split_tag(rest)
        registry, repository = _split_registry(rest)
        _check_repository(repository)
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if len(f"{registry}/{repository}") > NAME_LIMIT:
            raise ValueError(f"registry and repository have more than {NAME_LIMIT} characters")
        return cls(registry=registry, repository=repository, tag=tag, digest=digest)

    @property
    def name(self) -> str:
        """The full name without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def normalised(self) -> str:
        """The full text; without tag and digest the tag `latest` is what is meant."""
        tag = self.tag if self.tag or self.digest else DEFAULT_TAG
        return self.name + (f":{tag}" if tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def manifest(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def pin(self, digest: str) -> "ImageReference":
        """Return the reference `name@digest` of the same repository."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        return self.normalised


def is_authority(text: str) -> bool:
    """Tell whether a text is `host` or `host:port`, with a real address in any brackets.

    Nothing in it means one thing to us and another to who connects: no backslash, no `%`, no space,
    no character beyond ASCII (RFC 3986, 3.2.2 without its escapes; RFC 6335 for the port).
    """
    host = _HOST.fullmatch(text)
    if not host or not 0 < int(host["port"] or 1) <= 65535:  # noqa: PLR2004 - a TCP port
        return False
    return host["ipv6"] is None or _is_ipv6(host["ipv6"])


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _refuse_what_only_looks_alike(text: str) -> None:
    if not text:
        raise ValueError("it is empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it contains a space or another character that no reference has")
    if "@" in text and "/" in text.partition("@")[2]:
        raise ValueError("it contains credentials; they belong into Docker's configuration")
    if "://" in text:
        raise ValueError("it is a URL; a reference starts with the host and has no scheme")
    if _IDENTIFIER.fullmatch(text):
        raise ValueError("64 hexadecimal digits are an image's ID, not a repository's name")


def _split_digest(text: str) -> tuple[str, str | None]:
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise ValueError("the digest is not `sha256:` and 64 hexadecimal digits in lower case")
    return rest, digest if at else None


def _split_tag(text: str) -> tuple[str, str | None]:
    head, slash, last = text.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not tag:
        raise ValueError("the tag after `:` is empty")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(
            f"the tag `{tag}` is not 1 to 128 letters, digits, `_`, `.` or `-`, "
            "the first a letter, digit or `_`"
        )
    return head + slash + last, tag if colon else None


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost"
    if not slash or not (looks_like_host or first != first.lower()):
        return DOCKER_HUB, name
    if not is_authority(first):
        raise ValueError(f"`{first}` is not a host, or a host and a port")
    return DOCKER_HUB if first == f"index.{DOCKER_HUB}" else first, rest


def _check_repository(repository: str) -> None:
    if not repository or repository.endswith("/"):
        raise ValueError("the repository's name is missing after `/`")
    if repository != repository.lower():
        raise ValueError(f"repositories are in lower case: `{repository.lower()}`")
    for component in repository.split("/"):
        if not _COMPONENT.fullmatch(component):
            raise ValueError(
                f"`{component}` is not a repository's name: lower-case letters and digits, "
                "with single `.`, `_`, `__` or `-` between them"
            )
