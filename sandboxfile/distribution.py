"""Tell what distribution an image is made of, and how sure that is. Pure; knows no network.

The service adds its own packages to an image with apt (docs/protocol.md, 3.10). Whether that can
go well is seldom written anywhere, so each kind of evidence is weighed; no evidence is no answer.
"""

import re
from collections.abc import Mapping

from sandboxfile.frozen import dataclass
from sandboxfile.model import ImageConfig
from sandboxfile.patterns import regex
from sandboxfile.reference import ImageReference

DEBIAN = "Debian"
UBUNTU = "Ubuntu"
FAMILY = frozenset({DEBIAN, UBUNTU})  # what has apt and glibc


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution by name; `why` completes the sentence "it is Alpine: …"."""

    name: str
    why: str
    is_certain: bool = True

    @property
    def is_supported(self) -> bool:
        return self.name in FAMILY


def find(image: str, config: ImageConfig | None, os_release: str = "") -> Distribution | None:
    """Return the distribution of an image, None where nothing tells.

    `image` is its name, "" when it has none; `os_release` the text of its /etc/os-release where
    somebody has read it (os-release(5)).
    """
    told = _of_file(os_release)
    if config is not None:
        told = told or _of_history(config.commands) or _of_labels(config.labels)
    return told or (_of_name(image) if image else None)


# --- evidence --------------------------------------------------------------------------------


def _of_file(text: str) -> Distribution | None:
    pairs = (line.partition("=") for line in text.splitlines())
    fields = {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
    if not fields.get("ID"):
        return None
    like = {fields["ID"], *fields.get("ID_LIKE", "").split()}
    name = fields.get("NAME") or fields["ID"]
    if "ubuntu" in like:
        name = UBUNTU
    elif "debian" in like:
        name = DEBIAN
    return Distribution(name=name, why="its /etc/os-release says so")


# What only the package manager of one family is called with, or its base layer is made by; words
# of which such a command has one: patterns take longer to compile than all else here.
_COMMANDS: Mapping[str, tuple[tuple[str, ...], str]] = {
    DEBIAN: (
        ("apt", "debian.sh"),
        r"\bapt(?:-get)?\s+(?:-\S+\s+)*(?:update|install|upgrade)\b|\bdebian\.sh\b",
    ),
    "Alpine": (
        ("apk", "alpine-"),
        r"\bapk\s+(?:-\S+\s+)*(?:add|update|upgrade|del)\b|\balpine-minirootfs\b",
    ),
    "Red Hat's family": (
        ("dnf", "yum"),
        (
            r"\b(?:micro)?dnf\s+(?:-\S+\s+)*(?:install|update|upgrade|makecache)\b"
            r"|\byum\s+(?:-\S+\s+)*(?:install|update)\b"
        ),
    ),
    "SUSE": (("zypper",), r"\bzypper\s"),
    "Arch": (("pacman",), r"\bpacman\s+-S"),
}


def _of_history(commands: tuple[str, ...]) -> Distribution | None:
    """Tell by the commands that made the layers, unless they tell of several distributions."""
    text = "\n".join(commands)
    matches = {
        name: re.search(pattern, text)
        for name, (words, pattern) in _COMMANDS.items()
        if any(word in text for word in words)
    }
    found = {name: match[0].strip() for name, match in matches.items() if match}
    if len(found) != 1:
        return None
    ((name, said),) = found.items()
    return Distribution(name=name, why=f"its history has `{said}`")


def _of_labels(labels: Mapping[str, str]) -> Distribution | None:
    if "com.redhat.component" in labels:
        return Distribution(name="Red Hat's family", why="it has the label `com.redhat.component`")
    if labels.get("org.opencontainers.image.ref.name") == "ubuntu":
        return Distribution(name=UBUNTU, why="its label says so")
    base = labels.get("org.opencontainers.image.base.name", "")
    told = _of_name(base) if base else None
    return told and Distribution(
        name=told.name, why=f"its label says that it is made from `{base}`", is_certain=False
    )


# Docker's own images by their names, and all that are below an address.
_OFFICIAL = "docker.io/library/"
_IMAGES: Mapping[str, str] = {
    "debian": DEBIAN,
    "buildpack-deps": DEBIAN,
    "ubuntu": UBUNTU,
    "alpine": "Alpine",
    "busybox": "BusyBox",
    "fedora": "Fedora",
    "rockylinux": "Rocky Linux",
    "almalinux": "AlmaLinux",
    "centos": "CentOS",
    "amazonlinux": "Red Hat's family",
    "oraclelinux": "Red Hat's family",
    "archlinux": "Arch",
}
_BELOW: tuple[tuple[str, str], ...] = (
    ("quay.io/fedora/", "Fedora"),
    ("registry.fedoraproject.org/fedora/", "Fedora"),
    ("docker.io/rockylinux/", "Rocky Linux"),
    ("docker.io/almalinux/", "AlmaLinux"),
    ("quay.io/centos/", "CentOS"),
    ("docker.io/redhat/", "Red Hat's family"),
    ("registry.redhat.com/", "Red Hat's family"),
    ("registry.redhat.io/", "Red Hat's family"),
    ("registry.access.redhat.com/", "Red Hat's family"),
    ("registry.access.redhat.io/", "Red Hat's family"),
    ("docker.io/opensuse/", "openSUSE"),
    ("registry.opensuse.org/", "openSUSE"),
    ("docker.io/archlinux/", "Arch"),
    ("gcr.io/distroless/", "distroless"),
    ("cgr.dev/", "Wolfi"),
    ("docker.io/nixos/", "NixOS"),
)
_ALPINE_TAG = regex(r"(?:^|[-_.])alpine(?:$|[-_.\d])")


def _of_name(image: str) -> Distribution | None:
    try:
        reference = ImageReference.parse(image)
    except ValueError:
        return None
    repository = f"{reference.registry}/{reference.repository}"
    is_official = repository.startswith(_OFFICIAL)
    name = _IMAGES.get(repository[len(_OFFICIAL) :]) if is_official else None
    name = name or next((name for top, name in _BELOW if repository.startswith(top)), None)
    if name:
        return Distribution(name=name, why=f"it is `{repository}`")
    if reference.tag and _ALPINE_TAG.search(reference.tag):
        why = f"its tag is `{reference.tag}`"
        return Distribution(name="Alpine", why=why, is_certain=is_official)
    return None
