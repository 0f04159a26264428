"""Who we are at the service, and which hosts may learn it."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sandboxfile.errors import ConfigError, NotAllowed
from sandboxfile.frozen import dataclass
from sandboxfile.loopback import is_loopback
from sandboxfile.model import Secret
from sandboxfile.places import Position, Problem

DEFAULT_DOMAIN = "us-phx-1.sandbox.novita.ai"
TRUSTED_DOMAINS = ("novita.ai", "e2b.app", "e2b.dev")
_LOGIN_FILE = ".novita/config.json"  # docs/protocol.md, 1.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The API key (and the access token of the legacy line); `source` says where it came from."""

    key: Secret
    token: Secret
    source: str


def find(environ: Mapping[str, str], home: Path) -> Account | None:
    """Return the account at hand: environment first, then the login file of Novita's CLI.

    On Novita key and token are the same string (docs/protocol.md, 1.5). Raises ConfigError
    when the login file cannot be read.
    """
    for prefix in ("NOVITA", "E2B"):
        key = environ.get(f"{prefix}_API_KEY", "").strip()
        token = environ.get(f"{prefix}_ACCESS_TOKEN", "").strip()
        if key or token:
            name = f"{prefix}_API_KEY" if key else f"{prefix}_ACCESS_TOKEN"
            return Account(key=Secret(key or token), token=Secret(token or key), source=name)
    return _logged_in(login_file(home))


def login_file(home: Path) -> Path:
    """Return where Novita's CLI keeps its login."""
    return home / _LOGIN_FILE


def _logged_in(file: Path) -> Account | None:
    try:
        stored = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        at = Position(str(file), 1, 1)
        hint = "log in again with Novita's CLI, or set `NOVITA_API_KEY`"
        reason = f"the login file of Novita's CLI cannot be read: {error}"
        raise ConfigError([Problem(at, reason, hint)]) from None
    if not isinstance(stored, dict):
        return None
    key = _text(stored, "teamApiKey", "projectApiKey", "apiKey", "defaultTeamApiKey")
    token = _text(stored, "accessToken", "access_token")
    if not key and not token:
        return None
    return Account(key=Secret(key or token), token=Secret(token or key), source=f"~/{_LOGIN_FILE}")


def _text(stored: Mapping[str, object], *names: str) -> str:
    values = (stored.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")


def is_ours(url: str) -> bool:
    """Tell whether a URL is of Novita's or E2B's own service."""
    host = (urlsplit(url).hostname or "").lower()
    return any(host == domain or host.endswith(f".{domain}") for domain in TRUSTED_DOMAINS)


def check_trusted(url: str, trusted_hosts: frozenset[str], *, at: Position | None) -> None:
    """Raise NotAllowed unless a key may be sent to this URL.

    A `novita.yaml` from a pull request must not be able to send a key elsewhere: only Novita's
    and E2B's domains over TLS, loopback, and the hosts that the operator trusts. An address that
    two readers could read in two ways is none of them, wherever it was written.
    """
    from sandboxfile.config import addresses

    if fault := addresses.service_url(url):
        raise NotAllowed(f"no API key is sent: {fault.message}", hint=fault.hint, at=at)
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if is_loopback(host):
        return
    if not is_ours(url) and host not in trusted_hosts:
        raise NotAllowed(
            f"`{host}` is not a host that API keys may be sent to",
            hint=f"if you trust it, set `SANDBOXFILE_TRUSTED_HOSTS={host}`",
            at=at,
        )
    if parts.scheme != "https":
        raise NotAllowed(
            f"an API key would travel to `{host}` in clear",
            hint=f"use `https://{host}`",
            at=at,
        )
