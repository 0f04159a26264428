"""Keys come from the environment or the login file, and go only where they may."""

import json
from pathlib import Path

import pytest

from sandboxfile import account
from sandboxfile.errors import ConfigError, NotAllowed
from sandboxfile.places import Position

AT = Position("novita.yaml", 3, 5)


@pytest.mark.parametrize(
    ("environ", "key", "token", "source"),
    [
        ({"NOVITA_API_KEY": "k"}, "k", "k", "NOVITA_API_KEY"),
        ({"NOVITA_API_KEY": "k", "NOVITA_ACCESS_TOKEN": "t"}, "k", "t", "NOVITA_API_KEY"),
        ({"NOVITA_ACCESS_TOKEN": "t"}, "t", "t", "NOVITA_ACCESS_TOKEN"),
        ({"E2B_API_KEY": "e"}, "e", "e", "E2B_API_KEY"),
        ({"E2B_API_KEY": "e", "NOVITA_API_KEY": "k"}, "k", "k", "NOVITA_API_KEY"),
        ({"NOVITA_API_KEY": " k \n"}, "k", "k", "NOVITA_API_KEY"),
    ],
)
def test_the_environment_names_an_account(
    tmp_path: Path, environ: dict[str, str], key: str, token: str, source: str
) -> None:
    found = account.find(environ, tmp_path)

    assert found is not None
    assert (found.key.reveal(), found.token.reveal(), found.source) == (key, token, source)


def test_there_is_no_account_without_environment_or_login(tmp_path: Path) -> None:
    assert account.find({"NOVITA_API_KEY": " "}, tmp_path) is None


@pytest.mark.parametrize(
    ("stored", "key", "token"),
    [
        ({"teamApiKey": "k", "accessToken": "t"}, "k", "t"),
        ({"accessToken": "t"}, "t", "t"),
        ({"projectApiKey": "p"}, "p", "p"),
    ],
)
def test_the_login_of_the_command_line_tool_is_used(
    tmp_path: Path, stored: dict[str, str], key: str, token: str
) -> None:
    login(tmp_path, json.dumps(stored))

    found = account.find({}, tmp_path)

    assert found is not None
    assert (found.key.reveal(), found.token.reveal()) == (key, token)
    assert found.source == "~/.novita/config.json"


@pytest.mark.parametrize("text", ["[]", "{}", '{"teamApiKey": ""}', '{"teamApiKey": 5}'])
def test_a_login_file_without_a_key_is_no_account(tmp_path: Path, text: str) -> None:
    login(tmp_path, text)

    assert account.find({}, tmp_path) is None


def test_a_broken_login_file_is_named(tmp_path: Path) -> None:
    login(tmp_path, "{")

    with pytest.raises(ConfigError, match=r"config\.json:1:1: error: the login file"):
        account.find({}, tmp_path)


def login(home: Path, text: str) -> None:
    (home / ".novita").mkdir()
    (home / ".novita/config.json").write_text(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.us-phx-1.sandbox.novita.ai",
        "https://api.novita.ai",
        "https://api.e2b.dev",
        "https://api.e2b.app",
        "http://127.0.0.1:3000",
        "http://localhost:3000",
        "http://[::1]:3000",
        "https://box.example.com",
    ],
)
def test_a_key_goes_to_the_service_to_loopback_and_to_trusted_hosts(url: str) -> None:
    account.check_trusted(url, frozenset({"box.example.com"}), at=AT)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://evil.example", "`evil.example` is not a host that API keys may be sent to"),
        ("https://notnovita.ai", "`notnovita.ai` is not a host"),
        ("https://novita.ai.evil.example", "`novita.ai.evil.example` is not a host"),
        ("https://127.0.0.1.evil.example", "is not a host"),
        ("http://api.localhost", "`api.localhost` is not a host"),
        ("http://api.novita.ai", "would travel to `api.novita.ai` in clear"),
        ("http://box.example.com", "would travel to `box.example.com` in clear"),
        ("https://evil.example\\.novita.ai", "no API key is sent"),
        ("https://evil.example%2f.novita.ai", "no API key is sent"),
        ("https://evil.example\t.novita.ai", "no API key is sent"),
        ("https://evil.example。novita.ai", "no API key is sent"),
        ("https://me:pw@api.novita.ai", "no API key is sent"),
        ("https://[::", "no API key is sent"),
    ],
)
def test_a_key_goes_nowhere_else(url: str, expected: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        account.check_trusted(url, frozenset({"box.example.com"}), at=AT)

    assert expected in str(caught.value)
    assert str(caught.value).startswith("novita.yaml:3:5: ")


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("https://api.us-phx-1.sandbox.novita.ai", True),
        ("https://api.e2b.app", True),
        ("https://novita.ai.example.com", False),
        ("http://127.0.0.1:3000", False),
        ("", False),
    ],
)
def test_the_services_of_novita_and_e2b_are_known(url: str, *, ours: bool) -> None:
    assert account.is_ours(url) is ours
