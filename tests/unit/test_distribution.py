"""What an image is made of is told by evidence, and by nothing where there is none."""

import pytest

from sandboxfile import distribution
from sandboxfile.distribution import Distribution
from sandboxfile.model import ImageConfig


def named(image: str) -> tuple[str, bool] | None:
    found = distribution.find(image, None)
    return (found.name, found.is_certain) if found else None


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("debian:12", "Debian"),
        ("buildpack-deps:bookworm", "Debian"),
        ("ubuntu", "Ubuntu"),
        ("alpine:3.20", "Alpine"),
        ("docker.io/library/busybox:1.36", "BusyBox"),
        ("fedora:40", "Fedora"),
        ("rockylinux:9", "Rocky Linux"),
        ("rockylinux/rockylinux:9", "Rocky Linux"),
        ("quay.io/centos/centos:stream9", "CentOS"),
        ("amazonlinux:2023", "Red Hat's family"),
        ("archlinux", "Arch"),
        ("redhat/ubi9", "Red Hat's family"),
        ("registry.access.redhat.com/ubi9/python-311", "Red Hat's family"),
        ("registry.access.redhat.io/ubi9", "Red Hat's family"),
        ("registry.redhat.com/ubi9", "Red Hat's family"),
        ("registry.redhat.io/ubi9/python-311", "Red Hat's family"),
        ("quay.io/fedora/fedora:40", "Fedora"),
        ("registry.fedoraproject.org/fedora/toolbox", "Fedora"),
        ("almalinux/9-base", "AlmaLinux"),
        ("registry.opensuse.org/opensuse/leap", "openSUSE"),
        ("archlinux/archlinux", "Arch"),
        ("nixos/nix", "NixOS"),
        ("opensuse/leap:15", "openSUSE"),
        ("gcr.io/distroless/python3-debian12", "distroless"),
        ("cgr.dev/chainguard/python", "Wolfi"),
        ("nginx:alpine", "Alpine"),
        ("node:20-alpine3.19", "Alpine"),
    ],
)
def test_a_name_may_be_enough(image: str, name: str) -> None:
    assert named(image) == (name, True)


def test_a_tag_of_strangers_is_a_hint() -> None:
    assert named("acme/app:1-alpine") == ("Alpine", False)


@pytest.mark.parametrize(
    "image",
    [
        "python:3.12",
        "acme/app:alpines",
        "alpine.example.com/library/python",
        "acme/alpine",
        "quay.io/0123456789debian",
        "app@sha256:" + "0" * 64,
        "NO IMAGE",
        "",
    ],
)
def test_where_nothing_tells_nothing_is_said(image: str) -> None:
    assert distribution.find(image, ImageConfig()) is None


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("RUN /bin/sh -c apt-get update && apt-get install -y x", "Debian"),
        ("RUN apt-get -y --no-install-recommends install x", "Debian"),
        ("# debian.sh --arch 'amd64' out/ 'bookworm' '@1'", "Debian"),
        ("RUN /bin/sh -c apk add --no-cache x # buildkit", "Alpine"),
        ("RUN apk --no-cache add x", "Alpine"),
        ("ADD alpine-minirootfs-3.20.0-x86_64.tar.gz / # buildkit", "Alpine"),
        ("RUN dnf -y install x", "Red Hat's family"),
        ("RUN microdnf install x", "Red Hat's family"),
        ("RUN yum update", "Red Hat's family"),
        ("RUN zypper in x", "SUSE"),
        ("RUN pacman -Syu", "Arch"),
    ],
)
def test_what_made_its_layers_tells(command: str, name: str) -> None:
    found = distribution.find("acme/app", ImageConfig(commands=("COPY . .", command)))
    assert found is not None
    assert (found.name, found.is_certain) == (name, True)
    assert found.is_supported == (name == "Debian")


def test_layers_that_tell_of_several_distributions_tell_of_none() -> None:
    commands = ("RUN apt-get install -y apk-tools", "RUN apk add --root /srv x")
    assert distribution.find("acme/app", ImageConfig(commands=commands)) is None


def test_layers_tell_more_than_a_name() -> None:
    config = ImageConfig(commands=("RUN apt-get update",))
    found = distribution.find("acme/app:alpine", config)
    assert found == Distribution(name="Debian", why="its history has `apt-get update`")


@pytest.mark.parametrize(
    ("labels", "name", "is_certain"),
    [
        ({"com.redhat.component": "ubi9"}, "Red Hat's family", True),
        ({"org.opencontainers.image.ref.name": "ubuntu"}, "Ubuntu", True),
        ({"org.opencontainers.image.base.name": "docker.io/library/alpine:3"}, "Alpine", False),
    ],
)
def test_labels_tell(labels: dict[str, str], name: str, *, is_certain: bool) -> None:
    found = distribution.find("acme/app", ImageConfig(labels=labels))
    assert found is not None
    assert (found.name, found.is_certain) == (name, is_certain)


def test_a_label_that_names_a_base_nobody_knows_tells_nothing() -> None:
    labels = {"org.opencontainers.image.base.name": "acme/base"}
    assert distribution.find("acme/app", ImageConfig(labels=labels)) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('NAME="Debian GNU/Linux"\nID=debian\n', "Debian"),
        ('NAME="Kali"\nID=kali\nID_LIKE="debian"\n', "Debian"),
        ("ID=ubuntu\nID_LIKE=debian\n", "Ubuntu"),
        ('NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n', "Ubuntu"),
        ("# a comment\nNAME='Alpine Linux'\nID=alpine\n", "Alpine Linux"),
        ("ID=void\n", "void"),
    ],
)
def test_its_own_file_tells_before_all_else(text: str, name: str) -> None:
    found = distribution.find("alpine", None, text)
    assert found == Distribution(name=name, why="its /etc/os-release says so")


def test_a_file_that_does_not_say_is_no_evidence() -> None:
    assert distribution.find("acme/app", None, "hello\n") is None
