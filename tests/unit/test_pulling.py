"""What the service is given to pull with: a cloud's credentials for that cloud's registry alone."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandboxfile import pulling
from sandboxfile.model import (
    AwsCredentials,
    GcpCredentials,
    HuaweiCredentials,
    Login,
    OciCredentials,
    RegistryCredentials,
    Secret,
)
from sandboxfile.pulling import Found

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
SWR = "swr.cn-north-4.myhuaweicloud.com"
DOCKER = Login(username="alice", password=Secret("docker-secret"))
AWS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "aws-secret"}
HUAWEI = {"HUAWEICLOUD_SDK_AK": "HW1", "HUAWEICLOUD_SDK_SK": "huawei-secret"}
ACCOUNT = json.dumps({"type": "service_account", "private_key": "google-secret"})
PEM = "-----BEGIN PRIVATE KEY-----\noracle-secret\n-----END PRIVATE KEY-----\n"
OCI = {
    "OCI_CLI_USER": "ocid1.user.oc1..a",
    "OCI_CLI_TENANCY": "ocid1.tenancy.oc1..b",
    "OCI_CLI_FINGERPRINT": "aa:bb",
    "OCI_CLI_KEY_CONTENT": PEM,
}


def found(
    host: str,
    environ: Mapping[str, str],
    home: Path = Path("/nowhere"),
    *,
    login: Login | None = DOCKER,
    is_novita: bool = True,
) -> Found | None:
    return pulling.find(host, environ=environ, home=home, login=lambda: login, is_novita=is_novita)


def given(host: str, environ: Mapping[str, str], home: Path = Path("/nowhere")) -> object:
    one = found(host, environ, home)
    return one and one.credentials


def test_without_a_clouds_credentials_dockers_login_is_taken() -> None:
    assert found(ECR, {}) == Found(credentials=DOCKER, source="Docker's login")
    assert found("ghcr.io", {**AWS, **HUAWEI, **OCI}) == found(ECR, {})
    assert found("ghcr.io", AWS, login=None) is None


@pytest.mark.parametrize(
    "host",
    [
        f"{ECR}.evil.example",
        f"evil.example/{ECR}",
        f"{ECR}:5000",
        "1.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.evil.amazonaws.com",
        "gcr.io.evil.example",
        "evilgcr.io",
        "evil.pkg.dev",
        "a.b.ocir.io",
        "evilocir.io",
        "swr.evil.com.myhuaweicloud.com",
        f"{SWR}.evil.example",
        "swr..myhuaweicloud.com",
    ],
)
def test_a_host_that_only_looks_like_a_clouds_gets_none_of_its_keys(
    host: str, tmp_path: Path
) -> None:
    file = tmp_path / "key.json"
    file.write_text(ACCOUNT)
    environ = {**AWS, **HUAWEI, **OCI, "GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    assert given(host, environ) == DOCKER


# --- Amazon ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (ECR, "us-east-1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ],
)
def test_amazons_registries_take_the_access_key(host: str, region: str) -> None:
    one = found(host, AWS)
    assert one is not None
    assert (one.kind, one.source) == ("aws", "AWS_ACCESS_KEY_ID")
    expected = AwsCredentials(
        access_key_id="AKIA1", secret_access_key=Secret("aws-secret"), region=region
    )
    assert one.credentials == expected


@pytest.mark.parametrize("change", [{"AWS_SECRET_ACCESS_KEY": ""}, {"AWS_SESSION_TOKEN": "t"}])
def test_half_a_key_and_a_temporary_one_are_of_no_use(change: dict[str, str]) -> None:
    assert given(ECR, {**AWS, **change}) == DOCKER


# --- Google ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["gcr.io", "eu.gcr.io", "us-central1-docker.pkg.dev"])
def test_googles_registries_take_the_service_account(host: str, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(ACCOUNT)
    one = found(host, {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    expected = GcpCredentials(service_account=Secret(ACCOUNT))
    assert one == Found(credentials=expected, source="GOOGLE_APPLICATION_CREDENTIALS")
    assert one is not None
    assert one.kind == "gcp"


@pytest.mark.parametrize(
    "content", [b'{"type": "authorized_user"}', b"[]", b"not json", b"\xff", b"[" * 100_000]
)
def test_what_is_no_service_account_is_not_sent(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_bytes(content)
    assert given("gcr.io", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}) == DOCKER
    assert given("gcr.io", {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path)}) == DOCKER


def test_a_service_account_may_be_dockers_login() -> None:
    encoded = base64.b64encode(ACCOUNT.encode()).decode()
    for username, password in (("_json_key", ACCOUNT), ("_json_key_base64", encoded)):
        login = Login(username=username, password=Secret(password))
        one = found("gcr.io", {}, login=login)
        assert one is not None
        assert (one.kind, one.source) == ("gcp", "Docker's login")
        assert one.credentials == GcpCredentials(service_account=Secret(ACCOUNT))
        elsewhere = found("registry.example", {}, login=login)
        assert elsewhere is not None
        assert elsewhere.kind == "registry"
    junk = Login(username="_json_key_base64", password=Secret("%"))
    one = found("gcr.io", {}, login=junk)
    assert one is not None
    assert one.credentials == junk


# --- Oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "more", "region"),
    [
        ("fra.ocir.io", {}, "fra"),
        ("ocir.eu-frankfurt-1.oci.oraclecloud.com", {}, "eu-frankfurt-1"),
        ("fra.ocir.io", {"OCI_CLI_REGION": "eu-frankfurt-1"}, "eu-frankfurt-1"),
    ],
)
def test_oracles_registry_takes_the_variables(host: str, more: dict[str, str], region: str) -> None:
    one = found(host, {**OCI, **more})
    assert one is not None
    assert (one.kind, one.source) == ("oci", "OCI_CLI_USER")
    assert one.credentials == OciCredentials(
        tenancy="ocid1.tenancy.oc1..b",
        user="ocid1.user.oc1..a",
        fingerprint="aa:bb",
        private_key=Secret(PEM),
        region=region,
    )


@pytest.mark.parametrize("section", ["DEFAULT", "work"])
@pytest.mark.parametrize("key", ["~/.oci/key.pem", None])
def test_oracles_registry_takes_the_file(tmp_path: Path, section: str, key: str | None) -> None:
    directory = tmp_path / ".oci"
    directory.mkdir()
    (directory / "key.pem").write_text(PEM)
    (directory / "config").write_text(
        f"[{section}]\nuser=u\ntenancy=t\nfingerprint=f\nregion=r-1\n"
        f"key_file={key or directory / 'key.pem'}\n"
    )
    one = found("fra.ocir.io", {"OCI_CLI_PROFILE": section}, tmp_path)
    assert one is not None
    assert (one.kind, one.source) == ("oci", "~/.oci/config")
    assert isinstance(one.credentials, OciCredentials)
    assert (one.credentials.user, one.credentials.region) == ("u", "r-1")
    assert given("fra.ocir.io", {"OCI_CLI_PROFILE": "other"}, tmp_path) == DOCKER


@pytest.mark.parametrize(
    "change",
    [
        {"OCI_CLI_USER": ""},
        {"OCI_CLI_KEY_CONTENT": ""},
        {"OCI_CLI_KEY_CONTENT": "", "OCI_CLI_KEY_FILE": "/nowhere/key.pem"},
        {"OCI_CLI_KEY_CONTENT": PEM.replace("PRIVATE", "ENCRYPTED PRIVATE")},
        {"OCI_CLI_KEY_CONTENT": "no key"},
    ],
)
def test_an_oracle_key_that_is_not_whole_or_is_locked_is_of_no_use(
    change: dict[str, str],
) -> None:
    assert given("fra.ocir.io", {**OCI, **change}) == DOCKER


def test_a_broken_file_of_oracles_is_none(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("user without a section\n")
    assert given("fra.ocir.io", {"OCI_CLI_CONFIG_FILE": str(file)}) == DOCKER


# --- Huawei ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "source"),
    [
        (HUAWEI, "HUAWEICLOUD_SDK_AK"),
        ({"HW_ACCESS_KEY": "HW1", "HW_SECRET_KEY": "huawei-secret"}, "HW_ACCESS_KEY"),
    ],
)
def test_huaweis_registry_takes_the_access_key(environ: dict[str, str], source: str) -> None:
    one = found(SWR, environ)
    expected = HuaweiCredentials(
        access_key_id="HW1", secret_access_key=Secret("huawei-secret"), region="cn-north-4"
    )
    assert one == Found(credentials=expected, source=source)
    assert one is not None
    assert one.kind == "huawei"
    assert given(SWR, {"HW_ACCESS_KEY": "HW1"}) == DOCKER


def test_oracles_and_huaweis_are_told_to_novita_alone() -> None:
    for host in (SWR, "fra.ocir.io"):
        one = found(host, {**HUAWEI, **OCI}, is_novita=False)
        assert one is not None
        assert one.credentials == DOCKER


# --- secrets ---------------------------------------------------------------------------------

ALL: tuple[tuple[RegistryCredentials, str], ...] = (
    (DOCKER, "docker-secret"),
    (
        AwsCredentials(access_key_id="A", secret_access_key=Secret("aws-secret"), region="r"),
        "aws-secret",
    ),
    (GcpCredentials(service_account=Secret(ACCOUNT)), "google-secret"),
    (GcpCredentials(service_account=Secret('{"type": "x"}')), '{"type": "x"}'),
    (
        OciCredentials(tenancy="t", user="u", fingerprint="f", private_key=Secret(PEM), region="r"),
        PEM,
    ),
    (
        HuaweiCredentials(access_key_id="A", secret_access_key=Secret("hw-secret"), region="r"),
        "hw-secret",
    ),
)


@pytest.mark.parametrize(("credentials", "secret"), ALL)
def test_secrets_are_known_and_never_shown(credentials: RegistryCredentials, secret: str) -> None:
    assert secret in [each.reveal() for each in pulling.secrets(credentials)]
    assert secret not in repr(credentials)
