"""Secrets are found where they are known or random, and nothing else is taken for one."""

import pytest

from sandboxfile.config import leaks

RANDOM = "aB3dE5gH7jK9mN1pQ3sT5vW7"

KNOWN = {
    "AKIAIOSFODNN7EXAMPLE": "an AWS access key",
    "ghp_" + "a1" * 18: "a GitHub token",
    "github_pat_" + "a1" * 18: "a GitHub token",
    "glpat-" + "a1" * 10: "a GitLab token",
    "nvta_" + "a1" * 10: "a key of the sandbox service",
    "sk_e2b_" + "0a" * 20: "a key of the sandbox service",
    "sk-" + "a1" * 12: "an API key",
    "xoxb-1234567890-abc": "a Slack token",
    "AIza" + "a" * 35: "a Google API key",
    "npm_" + "a" * 36: "an npm token",
    "pypi-" + "a" * 60: "a Python package index token",
    "-----BEGIN RSA PRIVATE KEY-----": "a private key",
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl": "a JSON web token",
}


@pytest.mark.parametrize(("secret", "kind"), KNOWN.items(), ids=KNOWN.values())
def test_a_published_format_is_known_anywhere(secret: str, kind: str) -> None:
    assert leaks.find(f"run --with {secret}\nnow") == leaks.Leak(secret, kind)
    assert leaks.find_value(secret) == leaks.Leak(secret, kind)
    assert secret not in leaks.mask(f"a: {secret} # note")


@pytest.mark.parametrize(
    "command",
    [
        f"TOKEN={RANDOM} make",
        f"app --key={RANDOM}",
        f"curl -H 'Authorization: Bearer {RANDOM}'",
        f"run 'X-Key: {RANDOM}'",
    ],
)
def test_a_random_word_that_is_assigned_is_a_secret(command: str) -> None:
    assert leaks.find(command) == leaks.Leak(RANDOM, "a secret")


def test_a_password_in_a_url_is_a_secret() -> None:
    assert leaks.find("git clone https://me:pw1@host/x") == leaks.Leak(
        "me:pw1", "a password in a URL"
    )


@pytest.mark.parametrize(
    "value",
    [
        "me:pw1@tcp(db:3306)/app?parseTime=true",
        ":pw1@unix(/run/db.sock)/app",
        "host=db user=me password=pw1 dbname=app",
        "Server=db;Database=app;User Id=me;Password=pw1;",
        "pwd=pw1;server=db",
    ],
)
def test_a_password_in_what_a_database_driver_takes_is_a_secret(value: str) -> None:
    assert leaks.find_value(value) == leaks.Leak("pw1", "a password of a database")


@pytest.mark.parametrize(
    "value",
    [
        "me@tcp(db:3306)/app",
        "me:$PASSWORD@tcp(db)/app",
        "host=db user=me dbname=app",
        "host=db password=$PGPASSWORD",
        "Server=db;Password=;",
        "password=optional",
        "https://host/?reset_password=yes&user=me",
        "redis://host:6379/0",
        "host=db " + "a=b " * 5000,
    ],
)
def test_what_has_no_password_in_it_is_no_secret(value: str) -> None:
    assert leaks.find_value(value) is None


def test_a_random_value_is_a_secret_even_with_slashes() -> None:
    value = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"
    assert leaks.find_value(value) == leaks.Leak(value, "a secret")
    assert leaks.find(value) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "python -m app.server --port 8000",
        "sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "https://${USER}:${TOKEN}@host/x",
        "NODE_OPTIONS=--max-old-space-size=4096",
        "PATH=/opt/Python312/bin:/usr/local/bin:/usr/bin",
        "IMAGE=ghcr.io/Acme2024/sandbox-runtime-for-agents:stable",
        "curl -O https://host/Miniconda3-py311_23.5.2-0-Linux-x86_64.sh",
        "/opt/Jdk21/lib/Security/cacerts",
        "./Build7/Release/AppBundleForTheWeb",
        "true",
    ],
)
def test_ordinary_text_is_no_secret(text: str) -> None:
    assert leaks.find(text) is None
    assert leaks.find_value(text) is None


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("a: b", "a: b"),
        ("password: hunter2", "password: *******"),
        ('  "api_key": "x y",', '  "api_key": ** y",'),
        ("{token: abc, other: d}", "{token: ***, other: d}"),
        ("secrets: [npm]", "secrets: [npm]"),
        ("url: postgres://me:pw@db/x", "url: postgres://*****@db/x"),
        ("registry: me:pw@ghcr.io/acme", "registry: me:**@ghcr.io/acme"),
        ("base: python:3.12@sha256:abc", "base: python:3.12@sha256:abc"),
        (f"A: {RANDOM}", f"A: {'*' * 24}"),
        ("A: wJalrXUtnFEMI/K7MDENG/bPxRfiCYz", f"A: {'*' * 31}"),
        ("A: some/Long/Path/without7randomness", "A: some/Long/Path/without7randomness"),
    ],
)
def test_masking_keeps_the_columns(line: str, masked: str) -> None:
    assert leaks.mask(line) == masked
    assert len(masked) == len(line)
