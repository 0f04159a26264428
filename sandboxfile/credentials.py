"""Logins for registries, read from Docker's configuration file and its credential helpers.

The file is Docker's `config.json`: `auths` holds logins, `credHelpers` names a program for one
host, `credsStore` one for all. Nothing here ever shows what it read, only where.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sandboxfile import process
from sandboxfile.errors import ConfigError, NotAllowed, SandboxfileError
from sandboxfile.model import TOKEN_USER, Login, Secret
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"  # under which Docker keeps the login of docker.io
HELPER_S = 10.0

_ALIASES = {"index.docker.io": HUB, "registry-1.docker.io": HUB}
_HELPER = regex(r"[A-Za-z0-9._-]+")
_NOT_FOUND = "credentials not found"  # docker-credential-helpers: errCredentialsNotFoundMessage


def config_file(environ: Mapping[str, str], home: Path) -> Path:
    """Return where Docker's configuration is, whether it exists or not."""
    directory = environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else home / ".docker") / "config.json"


def login_for(host: str, *, environ: Mapping[str, str], home: Path) -> Login | None:
    """Return the login Docker has for the registry `host` (`host[:port]`), None when it has none.

    An identity token comes as the password of the user `<token>`, as credential helpers give it:
    it is an OAuth2 refresh token that the registry's token server exchanges for access.

    A helper named for exactly this host has to answer; a store for all hosts (`credsStore`) that
    is missing or broken counts as empty, so that open registries go on working.

    Raises ConfigError for a file that is wrong, NotAllowed for a helper that does not work.
    """
    path = config_file(environ, home)
    config = _read(path)
    written = _written(config, host, path)
    helper, exact = _helper(config, host, path)
    if helper is None:
        return written
    try:
        return _ask(helper, host, environ) or written
    except _HelperError as error:
        if written is not None or not exact:
            return written
        raise NotAllowed(
            f"no login for `{host}`: {error}",
            hint=f"install or repair it, or change `credHelpers` in `{path}`",
        ) from None


class _HelperError(Exception):
    """A credential helper gave no answer that can be used; the text says why, without it."""


# --- the file --------------------------------------------------------------------------------


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _wrong(path, "is not UTF-8 text") from None
    try:
        config = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        place = Position(str(path), error.lineno, error.colno)
        raise _wrong(path, f"is not JSON: {error.msg.lower()}", at=place) from None
    except RecursionError:
        raise _wrong(path, "is nested too deeply") from None
    if not isinstance(config, dict):
        raise _wrong(path, "is not a JSON object")
    return config


def _wrong(path: Path, what: str, *, at: Position | None = None) -> ConfigError:
    # No excerpt: the lines of this file are secrets.
    place = at or Position(str(path), 1, 1)
    hint = "this is Docker's configuration; `docker login` writes it"
    return ConfigError([Problem(place, f"Docker's configuration {what}", hint=hint)])


def _section(config: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    section = config.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise _wrong(path, f"is wrong: `{name}` is not an object")
    return section


def _matching(section: Mapping[str, Any], host: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries for a host: the one spelled like it first, then the other spellings."""
    keys = [key for key in section if _host(key) == _host(host)]
    for key in sorted(keys, key=lambda each: each != host):
        yield key, section[key]


def _host(key: str) -> str:
    """Return the host of any spelling: with scheme, with path, by Docker Hub's older names."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    return _ALIASES.get(host, host)


def _written(config: Mapping[str, Any], host: str, path: Path) -> Login | None:
    for key, entry in _matching(_section(config, "auths", path), host):
        if not isinstance(entry, dict):
            raise _wrong(path, f"is wrong: `auths` has no object for `{key}`")
        if login := _login(entry, key, path):
            return login
    return None


def _login(entry: Mapping[str, Any], key: str, path: Path) -> Login | None:
    if token := _text(entry, "identitytoken"):
        return Login(username=TOKEN_USER, password=Secret(token))
    if auth := _text(entry, "auth"):
        return _decoded(auth, key, path)
    username, password = _text(entry, "username"), _text(entry, "password")
    return Login(username=username, password=Secret(password)) if username and password else None


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _decoded(auth: str, key: str, path: Path) -> Login:
    try:
        text = base64.b64decode(auth, validate=True).decode("utf-8")
    except ValueError:
        text = ""
    username, colon, password = text.partition(":")
    if not username or not colon:
        raise _wrong(path, f"is wrong: `auth` for `{key}` is not base64 of `user:password`")
    return Login(username=username, password=Secret(password.rstrip("\0")))


# --- helpers ---------------------------------------------------------------------------------


def _helper(config: Mapping[str, Any], host: str, path: Path) -> tuple[str | None, bool]:
    """Return the helper to ask, and whether it was named for exactly this host."""
    for key, name in _matching(_section(config, "credHelpers", path), host):
        return _name(name, f"credHelpers` for `{key}", path), True
    store = config.get("credsStore")
    return (_name(store, "credsStore", path), False) if store else (None, False)


def _name(value: Any, where: str, path: Path) -> str:
    if isinstance(value, str) and _HELPER.fullmatch(value):
        return value
    raise _wrong(path, f"is wrong: `{where}` is not the name of a helper")


def _ask(helper: str, host: str, environ: Mapping[str, str]) -> Login | None:
    """Ask a helper by its protocol (docker-credential-helpers): host in, one JSON object out."""
    program = f"docker-credential-{helper}"
    server = HUB_KEY if host == HUB else host
    command = process.Command(argv=(program, "get"), env=environ, stdin=server.encode() + b"\n")
    try:
        outcome = process.run(command, timeout_s=HELPER_S)
    except SandboxfileError as error:
        raise _HelperError(error.message) from None
    if outcome.status:
        if _NOT_FOUND in outcome.stdout:
            return None
        raise _HelperError(f"`{program}` failed with status {outcome.status}")
    return _answer(outcome.stdout, program)


def _answer(text: str, program: str) -> Login | None:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    username = answer.get("Username") if isinstance(answer, dict) else None
    password = answer.get("Secret") if isinstance(answer, dict) else None
    if not isinstance(username, str) or not isinstance(password, str):
        raise _HelperError(f"`{program}` answered something else than a login")
    return Login(username=username, password=Secret(password)) if username and password else None
