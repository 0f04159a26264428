"""What the service is given to pull an image with: a cloud's own credentials, else Docker's login.

A cloud's credentials are taken from where its own tools look for them, and only for a registry of
that cloud; whose host says so by a name that only the cloud can give out. Nothing here ever shows
what it read, only of which kind it is and where it was found.
"""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, assert_never

from sandboxfile import reading
from sandboxfile.frozen import dataclass
from sandboxfile.model import (
    AwsCredentials,
    GcpCredentials,
    HuaweiCredentials,
    Login,
    OciCredentials,
    RegistryCredentials,
    Secret,
)
from sandboxfile.patterns import regex

Kind = Literal["registry", "aws", "gcp", "oci", "huawei"]

_AWS = regex(
    r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.amazonaws\.com(?:\.cn)?"
)
_GCP = regex(r"(?:[a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev")
_OCI = regex(r"([a-z0-9-]+)\.ocir\.io|ocir\.([a-z0-9-]+)\.oci\.oraclecloud\.com")
_HUAWEI = regex(r"swr\.([a-z]{2}(?:-[a-z0-9]+)+)\.myhuaweicloud\.com")
_OCI_FIELDS = {
    "user": "OCI_CLI_USER",
    "tenancy": "OCI_CLI_TENANCY",
    "fingerprint": "OCI_CLI_FINGERPRINT",
    "region": "OCI_CLI_REGION",
}
_HUAWEI_KEYS = (
    ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),  # of its SDKs
    ("HW_ACCESS_KEY", "HW_SECRET_KEY"),  # of its Terraform provider
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Credentials for a registry, and in words where they come from."""

    credentials: RegistryCredentials
    source: str

    @property
    def kind(self) -> Kind:
        return kind(self.credentials)


def kind(credentials: RegistryCredentials) -> Kind:
    """Return what the protocol calls these credentials (docs/protocol.md, 3.6)."""
    match credentials:
        case Login():
            return "registry"
        case AwsCredentials():
            return "aws"
        case GcpCredentials():
            return "gcp"
        case OciCredentials():
            return "oci"
        case HuaweiCredentials():
            return "huawei"
        case _:
            assert_never(credentials)


def find(
    host: str,
    *,
    environ: Mapping[str, str],
    home: Path,
    login: Callable[[], Login | None],
    is_novita: bool,
) -> Found | None:
    """Return what opens the registry `host` for the service, None when nothing is at hand.

    `login` asks for Docker's login, when no cloud's credentials fit. Oracle's and Huawei's are
    known to Novita's own service alone.
    """
    found = _aws(host, environ) or _google(host, environ)
    if is_novita:
        found = found or _oracle(host, environ, home) or _huawei(host, environ)
    if found is not None:
        return found
    docker = login()
    if docker is None:
        return None
    return _service_account(host, docker) or Found(credentials=docker, source="Docker's login")


def secrets(credentials: RegistryCredentials) -> tuple[Secret, ...]:
    """Return what of these credentials no output may contain."""
    match credentials:
        case Login():
            return (credentials.password,)
        case AwsCredentials() | HuaweiCredentials():
            return (credentials.secret_access_key,)
        case GcpCredentials():
            key = json.loads(credentials.service_account.reveal()).get("private_key")
            return (credentials.service_account, Secret(key if isinstance(key, str) else ""))
        case OciCredentials():
            return (credentials.private_key,)
        case _:
            assert_never(credentials)


# --- each cloud ------------------------------------------------------------------------------


def _aws(host: str, environ: Mapping[str, str]) -> Found | None:
    match = _AWS.fullmatch(host)
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    # Temporary keys are worth nothing without their token, which cannot be told to the service.
    if not match or not key or not secret or environ.get("AWS_SESSION_TOKEN"):
        return None
    credentials = AwsCredentials(
        access_key_id=key, secret_access_key=Secret(secret), region=match[1]
    )
    return Found(credentials=credentials, source="AWS_ACCESS_KEY_ID")


def _google(host: str, environ: Mapping[str, str]) -> Found | None:
    file = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not file or not _GCP.fullmatch(host):
        return None
    text = _text(Path(file))
    if not _is_service_account(text):  # a person's login is of no use to a service
        return None
    credentials = GcpCredentials(service_account=Secret(text))
    return Found(credentials=credentials, source="GOOGLE_APPLICATION_CREDENTIALS")


def _service_account(host: str, login: Login) -> Found | None:
    """Return the service account that `docker login` was given as the password (Google's way)."""
    text = login.password.reveal()
    if login.username == "_json_key_base64":
        text = _decoded(text)
    elif login.username != "_json_key":
        return None
    if not _GCP.fullmatch(host) or not _is_service_account(text):
        return None
    credentials = GcpCredentials(service_account=Secret(text))
    return Found(credentials=credentials, source="Docker's login")


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return ""


def _is_service_account(text: str) -> bool:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("type") == "service_account"


def _oracle(host: str, environ: Mapping[str, str], home: Path) -> Found | None:
    """Read Oracle's API key: the variables of its CLI, and over those missing its file."""
    match = _OCI.fullmatch(host)
    if not match:
        return None
    file = Path(environ.get("OCI_CLI_CONFIG_FILE") or home / ".oci/config")
    profile = _profile(_text(file), environ.get("OCI_CLI_PROFILE") or "DEFAULT")
    values = {key: environ.get(name) or profile.get(key, "") for key, name in _OCI_FIELDS.items()}
    key = environ.get("OCI_CLI_KEY_CONTENT") or _oracle_key(environ, profile, home)
    region = values["region"] or match[1] or match[2]
    is_whole = all((values["user"], values["tenancy"], values["fingerprint"]))
    # A key with a pass phrase would have to be told together with it, which is not possible.
    if not is_whole or "PRIVATE KEY" not in key or "ENCRYPTED" in key:
        return None
    credentials = OciCredentials(
        tenancy=values["tenancy"],
        user=values["user"],
        fingerprint=values["fingerprint"],
        private_key=Secret(key),
        region=region,
    )
    source = "OCI_CLI_USER" if environ.get("OCI_CLI_USER") else "~/.oci/config"
    return Found(credentials=credentials, source=source)


def _oracle_key(environ: Mapping[str, str], profile: Mapping[str, str], home: Path) -> str:
    name = environ.get("OCI_CLI_KEY_FILE") or profile.get("key_file", "")
    if not name:
        return ""
    return _text(home / name[2:] if name.startswith("~/") else Path(name))


def _profile(text: str, name: str) -> Mapping[str, str]:
    import configparser

    reader = configparser.RawConfigParser()
    try:
        reader.read_string(text)
    except configparser.Error:
        return {}
    if reader.has_section(name):
        return dict(reader.items(name))
    return reader.defaults() if name == "DEFAULT" else {}


def _huawei(host: str, environ: Mapping[str, str]) -> Found | None:
    match = _HUAWEI.fullmatch(host)
    if not match:
        return None
    for key, secret in _HUAWEI_KEYS:
        if environ.get(key) and environ.get(secret):
            credentials = HuaweiCredentials(
                access_key_id=environ[key],
                secret_access_key=Secret(environ[secret]),
                region=match[1],
            )
            return Found(credentials=credentials, source=key)
    return None


def _text(file: Path) -> str:
    """Return what a file of the operator has, "" when it cannot be read."""
    try:
        return reading.regular(file).decode()
    except (OSError, UnicodeDecodeError):
        return ""
