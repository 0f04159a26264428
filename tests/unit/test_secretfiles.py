from pathlib import Path

import pytest

from sandboxfile import secretfiles
from sandboxfile.contents import Selection
from sandboxfile.context import select
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy
from sandboxfile.places import Position

AT = Position("novita.yaml", 4, 9)
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"


def selected(root: Path, *sources: str, allow: tuple[str, ...] = ()) -> Selection:
    return select(Copy(sources=sources, to="/x/", root=root, allow=allow, at=AT), Ground(root))


def told(root: Path, name: str, content: str | bytes = "A=1\n") -> str:
    """Return what is told of one file, copied with the directory that it is in."""
    path = root / "app" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return "; ".join(each.message for each in secretfiles.found(selected(root, "app")))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (".env", "an environment file"),
        (".env.local", "an environment file"),
        ("sub/prod.env.production", "an environment file"),
        (".envrc", "an environment file"),
        ("id_ed25519", "a private key"),
        ("sub/.env.production", "an environment file"),
        ("keys/cert.P12".lower(), "a store of keys"),
        (".azure/msal_token_cache.bin", "Azure credentials"),
        (".aws/credentials", "AWS credentials"),
        (".config/gcloud/legacy/adc.json", "Google credentials"),
        ("application_default_credentials.json", "Google credentials"),
        (".azure/accessTokens.json", "Azure credentials"),
        (".docker/config.json", "registry logins"),
        (".kube/config", "cluster credentials"),
        (".netrc", "logins"),
        (".git-credentials", "logins"),
        (".novita/config.json", "a login of the sandbox service"),
    ],
)
def test_names_under_which_tools_keep_credentials_are_told(
    tmp_path: Path, name: str, kind: str
) -> None:
    assert told(tmp_path, name) == f"`app/{name}` looks like {kind}"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("server.pem", "cert\n" + KEY, "a private key"),
        ("deploy", KEY, "a private key"),
        ("k", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "a private key"),
        ("k", "-----BEGIN RSA PRIVATE KEY-----\n", "a private key"),
        ("k", "PuTTY-User-Key-File-3: ssh-ed25519\n", "a private key"),
        ("sa.json", '{"type": "service_account"}', "a key of a service account"),
        (".npmrc", "//registry.example.com/:_authToken=abc", "an npm login"),
        (".yarnrc.yml", "npmAuthToken: abc", "an npm login"),
        (".yarnrc", "_authToken=abc", "an npm login"),
        ("pip.conf", "index-url = https://me:abc@example.com/", "a login in an address"),
        (".pypirc", "[pypi]\npassword = abc\n", "a Python package index login"),
        (".git/config", "url = https://me:abc@example.com/x", "a login in an address"),
    ],
)
def test_credentials_are_told_by_how_they_begin(
    tmp_path: Path, name: str, content: str, kind: str
) -> None:
    assert told(tmp_path, name, content) == f"`app/{name}` looks like {kind}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".env.example", "A=1"),
        (".env.sample", "A=1"),
        (".env.template", "A=1"),
        ("environment.py", "A=1"),
        (".env.", "A=1"),
        (".env.default", "A=1"),
        (".azure/msal_token_cache.", "A=1"),
        ("notes.txt", "x\nPuTTY-User-Key-File-2"),
        ("xjson", '"type": "service_account"'),
        (".env.local.tpl", "A=1"),
        ("a.env", "A=1"),
        (".p12", "A=1"),
        ("aws/credentials", "A=1"),
        ("x.aws/credentials", "A=1"),
        ("credentials", "A=1"),
        ("gcloud/adc.json", "A=1"),
        ("id_rsa.pub", "ssh-rsa AAAA"),
        (".npmrc", "registry=https://example.com"),
        (".pypirc", "[pypi]\nusername = me\n"),
        (".git/config", "url = https://example.com/x"),
        ("package.json", '{"type": "module"}'),
        ("readme.md", "It begins with `-----BEGIN PRIVATE KEY-----`."),
        ("empty", ""),
        ("large", KEY.encode() + bytes(300_000)),
    ],
)
def test_everything_else_is_not(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert told(tmp_path, name, content) == ""


def test_a_form_with_a_key_in_it_is_told(tmp_path: Path) -> None:
    assert told(tmp_path, ".env.example", KEY) == "`app/.env.example` looks like a private key"


def test_what_is_named_is_allowed(tmp_path: Path) -> None:
    told(tmp_path, ".env")
    told(tmp_path, "sub/.env")
    (problem,) = secretfiles.found(selected(tmp_path, "app", allow=(".env",)))
    assert problem.message == "`app/sub/.env` looks like an environment file"
    expected = (
        'leave it out in `.dockerignore`, or copy it under `files` with `allow: ["sub/.env"]`'
    )
    assert (problem.at, problem.hint) == (AT, expected)
    assert secretfiles.found(selected(tmp_path, "app", allow=(".env", "sub/.env"))) == ()
    assert secretfiles.found(selected(tmp_path, "app", allow=("**/.env",))) == ()


def test_links_and_files_that_cannot_be_read_are_not_looked_into(tmp_path: Path) -> None:
    told(tmp_path, "key", KEY)
    (tmp_path / "app/.env").symlink_to("key")
    selection = selected(tmp_path, "app")
    (tmp_path / "app/key").unlink()
    assert secretfiles.found(selection) == ()
    (tmp_path / "app/key").mkdir()
    assert secretfiles.found(selection) == ()


def test_all_copies_are_told_of_and_not_without_end(tmp_path: Path) -> None:
    for number in range(30):
        told(tmp_path, f"{number}/.env")
    found = secretfiles.each(iter([selected(tmp_path, "app"), selected(tmp_path, "app/1/.env")]))
    assert len(found) == 21
    assert found[-1].message == "`app/1/.env` looks like an environment file"


def test_a_place_may_be_the_first_of_a_path(tmp_path: Path) -> None:
    path = tmp_path / ".config/gcloud/adc"
    path.parent.mkdir(parents=True)
    path.write_text("A=1\n")
    (problem,) = secretfiles.found(selected(tmp_path, "."))
    assert problem.message == "`.config/gcloud/adc` looks like Google credentials"
