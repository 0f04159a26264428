import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile.reference import ImageReference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/library/python:3", "docker.io/library/python:3"),
        ("novitalabs/code-interpreter", "docker.io/novitalabs/code-interpreter:latest"),
        ("ghcr.io/acme/sandboxes/web", "ghcr.io/acme/sandboxes/web:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:v1", "localhost:5000/x:v1"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("[2001:db8::1]/x:y", "[2001:db8::1]/x:y"),
        ("Registry/x", "Registry/x:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        (f"python:3.12@{DIGEST}", f"docker.io/library/python:3.12@{DIGEST}"),
        ("a--b/c__d/e.f_g-h", "docker.io/a--b/c__d/e.f_g-h:latest"),
        ("ghcr.io/" + "ab" * 32, "ghcr.io/" + "ab" * 32 + ":latest"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128),
        ("a" * 237, "docker.io/library/" + "a" * 237 + ":latest"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, expected: str) -> None:
    reference = ImageReference.parse(text)
    assert reference.normalised == str(reference) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("py thon", "a space"),
        ("python\n", "a space or another character"),
        ("pythön", "another character"),
        ("http://ghcr.io/x", "is a URL"),
        ("https://user:hunter2@ghcr.io/x", "credentials"),
        ("user:hunter2@ghcr.io/x", "credentials"),
        (f"user:hunter2@ghcr.io/x@{DIGEST}", "credentials"),
        ("python:", "tag after `:` is empty"),
        ("python:-x", "the tag `-x`"),
        ("x:" + "t" * 129, "1 to 128"),
        ("python@", "the digest"),
        ("python@sha256:short", "the digest"),
        (f"python@{DIGEST.upper()}", "the digest"),
        ("python@sha512:" + "a" * 128, "the digest"),
        (f"@{DIGEST}", "name is missing"),
        (":5000/x", "`:5000` is not a host"),
        ("localhost:0/x", "is not a host"),
        ("localhost:65536/x", "is not a host"),
        ("-bad.io/x", "is not a host"),
        ("[::1/x", "is not a host"),
        ("[:::::]:5000/x", "`[:::::]:5000` is not a host"),
        ("[::1%25eth0]/x", "is not a host"),
        ("x.io:" + "9" * 5000 + "/x", "is not a host"),
        ("ghcr.io/", "name is missing"),
        ("ghcr.io/x/", "name is missing"),
        ("/x", "`` is not a repository's name"),
        ("ghcr.io//x", "`` is not a repository's name"),
        ("Python", "lower case: `python`"),
        ("ghcr.io/Acme/x", "lower case: `acme/x`"),
        ("a___b", "`a___b` is not a repository's name"),
        ("-a", "`-a` is not a repository's name"),
        ("a..b", "`a..b` is not a repository's name"),
        ("ab" * 32, "an image's ID"),
        ("a" * 238, "more than 255 characters"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as raised:
        ImageReference.parse(text)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "manifest"),
    [("python", "latest"), ("python:3", "3"), (f"python:3@{DIGEST}", DIGEST)],
)
def test_a_registry_is_asked_for_the_digest_before_the_tag(text: str, manifest: str) -> None:
    assert ImageReference.parse(text).manifest == manifest


def test_pinning_leaves_the_tag_out() -> None:
    pinned = ImageReference.parse("python:3.12").pin(DIGEST)
    assert str(pinned) == f"docker.io/library/python@{DIGEST}"
    assert pinned.name == "docker.io/library/python"


@given(st.text(alphabet="aB0.:/@-_[]", max_size=40))
def test_what_is_accepted_is_read_back_the_same(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except ValueError:
        return
    assert ImageReference.parse(reference.normalised).normalised == reference.normalised
