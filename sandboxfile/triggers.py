"""What a trigger is told (docs/protocol.md, 3.6): steps, base, commands, what to pull with."""

from collections.abc import Mapping
from typing import assert_never

from sandboxfile.frozen import dataclass
from sandboxfile.model import (
    AwsCredentials,
    GcpCredentials,
    HuaweiCredentials,
    Login,
    OciCredentials,
    RegistryCredentials,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStep:
    """An instruction that the service carries out: USER, WORKDIR, RUN, ENV, COPY."""

    type: str
    args: tuple[str, ...]
    force: bool = False
    files_hash: str = ""

    @property
    def body(self) -> Mapping[str, object]:
        """The step as it is sent."""
        step = {"type": self.type, "args": list(self.args), "force": self.force}
        return {**step, "filesHash": self.files_hash} if self.files_hash else step


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The body of a v2 trigger; exactly one of `image` and `template` is given."""

    image: str | None = None
    template: str | None = None
    login: RegistryCredentials | None = None
    steps: tuple[BuildStep, ...] = ()
    start: str | None = None
    ready: str | None = None
    pre_boot: str | None = None
    force: bool = False

    def body(self) -> Mapping[str, object]:
        return given(
            fromImage=self.image,
            fromTemplate=self.template,
            fromImageRegistry=_credentials(self.login) if self.login else None,
            steps=[step.body for step in self.steps],
            force=self.force,
            startCmd=self.start,
            readyCmd=self.ready,
            preBootScript=self.pre_boot,
        )


def _credentials(given: RegistryCredentials) -> Mapping[str, str]:
    """Write registry credentials as section 3.6 has them."""
    match given:
        case Login():
            fields = {"username": given.username, "password": given.password.reveal()}
            return {"type": "registry", **fields}
        case AwsCredentials():
            return {
                "type": "aws",
                "awsAccessKeyId": given.access_key_id,
                "awsSecretAccessKey": given.secret_access_key.reveal(),
                "awsRegion": given.region,
            }
        case GcpCredentials():
            return {"type": "gcp", "serviceAccountJson": given.service_account.reveal()}
        case OciCredentials():
            return {
                "type": "oci",
                "tenancyOcid": given.tenancy,
                "userOcid": given.user,
                "fingerprint": given.fingerprint,
                "privateKey": given.private_key.reveal(),
                "region": given.region,
            }
        case HuaweiCredentials():
            return {
                "type": "huawei",
                "accessKeyId": given.access_key_id,
                "secretAccessKey": given.secret_access_key.reveal(),
                "region": given.region,
            }
        case _:
            assert_never(given)


def given(**fields: object) -> Mapping[str, object]:
    """Return the fields of a body that are given: the service takes null for a value."""
    return {name: value for name, value in fields.items() if value is not None}
