from collections.abc import Iterator

import pytest

from sandboxfile.errors import NotAllowed, SandboxfileError, Unreachable
from sandboxfile.model import Login, Secret
from sandboxfile.registry import Registry
from sandboxfile.web import Web
from tests.fakes import push
from tests.fakes.registry import LOGIN, PASSWORD, USER

pytestmark = pytest.mark.engine

ALICE = Login(username=USER, password=Secret(PASSWORD))
ABOUT = {"Env": ["PATH=/usr/bin"], "User": "node", "OnBuild": ["RUN make"]}
TYPES = {
    "oci": (push.OCI_MANIFEST, push.OCI_INDEX),
    "docker": (push.DOCKER_MANIFEST, push.DOCKER_LIST),
}


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(user_agent="test/1", sleep=lambda _: None)
    yield made
    made.close()


@pytest.fixture
def client(web: Web) -> Registry:
    return Registry(web, lambda _: None)


@pytest.mark.parametrize(("manifest", "index"), TYPES.values(), ids=TYPES)
def test_an_image_is_found_resolved_read_and_confirmed(
    registry: str, client: Registry, manifest: str, index: str
) -> None:
    image = push.image(config=ABOUT, media_type=manifest)
    other = push.image(architecture="arm64", media_type=manifest)
    both = push.index({"linux/arm64/v8": other, "linux/amd64": image}, media_type=index)
    name = f"{registry}/registry/found"
    push.push(f"http://{registry}", "registry/found", "one", image)
    push.push(f"http://{registry}", "registry/found", "both", both)

    assert client.head(f"{name}:one") == image.digest
    assert client.head(f"{name}:both") == both.digest
    for tag in ("one", "both"):
        resolved = client.resolve(f"{name}:{tag}")
        assert resolved.reference == f"{name}@{image.digest}"
    client.confirm(name, image.digest)


def test_what_is_not_there_is_absent(registry: str, client: Registry) -> None:
    push.push(f"http://{registry}", "registry/absent", "1", push.image())
    assert client.head(f"{registry}/registry/absent:2") is None
    assert client.head(f"{registry}/registry/nobody:1") is None
    with pytest.raises(SandboxfileError, match="not found at"):
        client.resolve(f"{registry}/registry/absent:2")
    with pytest.raises(Unreachable, match="although it was pushed"):
        client.confirm(f"{registry}/registry/absent", "sha256:" + "0" * 64)


def test_a_password_opens_a_secured_registry(secured_registry: str, web: Web) -> None:
    root, headers = f"http://{secured_registry}", {"Authorization": LOGIN}
    digest = push.push(root, "registry/secured", "1", push.image(config=ABOUT), headers=headers)
    name = f"{secured_registry}/registry/secured"
    client = Registry(web, {secured_registry: ALICE}.get)
    assert client.head(f"{name}:1") == digest
    assert client.head(f"{name}:2") is None
    assert client.resolve(f"{name}:1").digest == digest
    client.confirm(name, digest)


@pytest.mark.parametrize("login", [None, Login(username="alice", password=Secret("guessed"))])
def test_a_secured_registry_is_not_open(
    secured_registry: str, web: Web, login: Login | None
) -> None:
    client = Registry(web, lambda _: login)
    with pytest.raises(NotAllowed, match=rf"registry `{secured_registry}` refuses access"):
        client.head(f"{secured_registry}/registry/secured:1")
