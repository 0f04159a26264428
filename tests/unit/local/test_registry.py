"""The built-in registry through a real socket, and what is left of a push on disk."""

import hashlib
import http.client
import io
import json
import tarfile
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandboxfile.errors import SandboxfileError
from sandboxfile.local import repositories as limits
from sandboxfile.local.pushed import Pushes
from sandboxfile.local.records import Failed
from sandboxfile.local.registry import Registry
from sandboxfile.local.repositories import Invalid, Repositories
from sandboxfile.local.server import Server
from sandboxfile.local.tokens import Tokens
from tests.fakes import push

TEMPLATE = "abcdefghij0123456789"
REPOSITORY = f"e2b/custom-envs/{TEMPLATE}"
ROOT = f"/v2/{REPOSITORY}"
SCOPE = f"repository:{REPOSITORY}:pull,push"


@dataclass(kw_only=True)
class World:
    """A registry that listens, a client of it with a token, and its disk."""

    url: str
    directory: Path
    repositories: Repositories
    waiting: set[str]
    token: str = ""

    def ask(
        self, line: str, body: bytes | Iterator[bytes] | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        method, target = line.split(" ")
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            given.setdefault("Authorization", f"Bearer {self.token}")
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        connection.request(method, target, body=body, headers=given)
        response = connection.getresponse()
        content, found = response.read(), {k.lower(): v for k, v in response.getheaders()}
        connection.close()
        return response.status, content, found

    def error(self, line: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        status, content, _ = self.ask(line, body, **headers)
        return status, json.loads(content)["errors"][0]["code"]

    def log_in(self, *, scope: str = SCOPE) -> str:
        basic = b64encode(b"_e2b_access_token:good").decode()
        query = f"?service=x&scope={scope}" if scope else ""
        status, content, _ = self.ask(
            f"GET /v2/token{query}", Authorization=f"Basic {basic}", Host="localhost:1"
        )
        assert status == 200
        answer = json.loads(content)
        assert answer["expires_in"] == 3600
        return str(answer["token"])

    def push(self, tag: str, what: push.Image) -> str:
        headers = {"Authorization": f"Bearer {self.token}"}
        return push.push(self.url, REPOSITORY, tag, what, headers=headers)

    def begin(self) -> str:
        status, _, headers = self.ask(f"POST {ROOT}/blobs/uploads/", b"")
        assert (status, headers["range"]) == (202, "0-0")
        assert headers["docker-upload-uuid"] in headers["location"]
        return headers["location"]


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[World]:
    """A world whose client has no token yet."""
    waiting = {TEMPLATE}
    repositories = Repositories(tmp_path / "registry")
    registry = Registry(
        repositories,
        Tokens(is_valid="good".__eq__, is_waiting=waiting.__contains__),
        is_waiting=waiting.__contains__,
    )
    server = Server(registry.handle, streams=registry.streams)
    yield World(
        url=server.url,
        directory=tmp_path / "registry",
        repositories=repositories,
        waiting=waiting,
    )
    server.stop()


@pytest.fixture
def world(stranger: World) -> World:
    stranger.token = stranger.log_in()
    return stranger


# --- who may what ----------------------------------------------------------------------------


def test_without_credentials_the_way_to_a_token_is_told(stranger: World) -> None:
    for line in ("GET /v2/", "GET /v2/token", f"HEAD {ROOT}/blobs/sha256:{'a' * 64}"):
        status, _, headers = stranger.ask(line, Host="localhost:3000")
        assert status == 401
        assert headers["www-authenticate"] == 'Bearer realm="http://localhost:3000/v2/token"'
        assert headers["docker-distribution-api-version"] == "registry/2.0"
    _, _, headers = stranger.ask("GET /v2/", Host="localhost", X_Forwarded_Proto="https")
    assert headers["www-authenticate"] == 'Bearer realm="https://localhost/v2/token"'


def test_tokens_are_given_by_get_alone(stranger: World) -> None:
    assert stranger.error("POST /v2/token", b"grant_type=password")[0] == 404
    assert stranger.log_in(scope="")
    bad = b64encode(b"_e2b_access_token:bad").decode()
    status, content, _ = stranger.ask("GET /v2/token", Authorization=f"Basic {bad}")
    assert (status, content) == (403, b"invalid access token")


def test_only_known_tokens_open_only_their_own_repository(stranger: World) -> None:
    assert stranger.ask("GET /v2/", Authorization="Bearer unknown")[0] == 401
    blob = f"blobs/sha256:{'a' * 64}"
    stranger.token = stranger.log_in(scope="")
    assert stranger.ask("GET /v2/")[0] == 200
    assert stranger.error(f"GET {ROOT}/{blob}") == (403, "DENIED")
    stranger.token = stranger.log_in()
    assert stranger.error(f"GET {ROOT}/{blob}") == (404, "BLOB_UNKNOWN")
    for other in (f"{ROOT}x", "/v2/e2b/custom-envs", "/v2/library/debian"):
        assert stranger.error(f"GET {other}/{blob}") == (403, "DENIED")
    assert stranger.error(f"GET {ROOT}/../other/{blob}")[0] == 404


def test_nothing_can_be_pushed_once_the_build_waits_no_longer(world: World) -> None:
    place = world.begin()
    world.waiting.clear()
    assert world.error(f"POST {ROOT}/blobs/uploads/", b"") == (403, "DENIED")
    assert world.error(f"PATCH {place}", b"x") == (403, "DENIED")
    assert world.error(f"PUT {ROOT}/manifests/v1", b"{}") == (403, "DENIED")
    assert world.error(f"GET {ROOT}/manifests/v1") == (404, "MANIFEST_UNKNOWN")


def test_its_paths_are_told_from_those_of_the_template_api(world: World) -> None:
    registry = Registry(
        world.repositories,
        Tokens(is_valid=bool, is_waiting=bool),
        is_waiting=bool,
    )
    for own in ("/v2/", "/v2", "/v2/token", f"{ROOT}/blobs/uploads/", f"{ROOT}/tags/list"):
        assert registry.owns(own)
    for theirs in ("/v2/templates", "/v2/templates/x/builds/y", "/templates/x/tags", "/health"):
        assert not registry.owns(theirs)


# --- blobs -----------------------------------------------------------------------------------


def test_a_blob_is_pushed_in_pieces_of_both_kinds_and_read_back(world: World) -> None:
    place = world.begin()
    first = world.ask(f"PATCH {place}", iter([b"ab", b"c"]), Authorization="")  # nobody is asked
    assert (first[0], first[2]["range"], first[2]["location"]) == (202, "0-2", place)
    second = world.ask(f"PATCH {place}", b"de", Content_Range="3-4")
    assert (second[0], second[2]["range"]) == (202, "0-4")
    assert world.ask(f"GET {place}")[2]["range"] == "0-4"
    digest = push.digest(b"abcdef")
    status, _, headers = world.ask(f"PUT {place}?digest={digest.replace(':', '%3A')}", b"f")
    assert status == 201
    assert headers["docker-content-digest"] == digest
    status, content, read = world.ask(f"GET {headers['location']}")
    assert (status, content, read["docker-content-digest"]) == (200, b"abcdef", digest)
    status, content, read = world.ask(f"HEAD {headers['location']}")
    assert (status, content, read["content-length"]) == (200, b"", "6")
    assert world.error(f"PUT {place}?digest={digest}", b"") == (404, "BLOB_UPLOAD_UNKNOWN")


def test_a_blob_is_pushed_at_once_and_a_mount_becomes_an_upload(world: World) -> None:
    digest = push.digest(b"whole")
    assert world.ask(f"POST {ROOT}/blobs/uploads/?digest={digest}", b"whole")[0] == 201
    assert world.ask(f"GET {ROOT}/blobs/{digest}")[1] == b"whole"
    mount = f"POST {ROOT}/blobs/uploads/?mount={digest}&from=e2b/custom-envs/other"
    assert world.ask(mount, b"")[0] == 202


def test_a_blob_with_another_digest_is_not_kept(world: World) -> None:
    wrong = push.digest(b"wrong")
    for digest, code in (
        (wrong, "DIGEST_INVALID"),
        ("md5:x", "DIGEST_INVALID"),
        ("", "DIGEST_INVALID"),
    ):
        assert world.error(f"PUT {world.begin()}?digest={digest}", b"right") == (400, code)
    assert world.error(f"GET {ROOT}/blobs/{wrong}")[0] == 404


def test_a_piece_that_does_not_follow_is_416_and_an_upload_can_be_given_up(world: World) -> None:
    place = world.begin()
    world.ask(f"PATCH {place}", b"abc")
    for wrong in ("0-2", "4-5", "x"):
        status, _, headers = world.ask(f"PATCH {place}", b"de", Content_Range=wrong)
        assert (status, headers["range"]) == (416, "0-2")
    assert world.ask(f"DELETE {place}")[0] == 204
    assert world.error(f"PATCH {place}", b"x") == (404, "BLOB_UPLOAD_UNKNOWN")


def test_nobody_writes_to_an_upload_that_another_request_has_or_has_finished(world: World) -> None:
    """Else what was checked against its digest would change afterwards."""
    place, digest = world.begin(), push.digest(b"whole")
    upload = place.rpartition("/")[2]
    said = []

    def pieces() -> Iterator[bytes]:
        yield b"who"
        for line, content in ((f"PATCH {place}", b"bad"), (f"PUT {place}?digest={digest}", b"")):
            said.append(world.error(line, content))
        yield b"le"

    assert world.repositories.append(TEMPLATE, upload, pieces()) == 5
    assert said == [(400, "BLOB_UPLOAD_INVALID")] * 2

    def late() -> Iterator[bytes]:
        world.repositories.finish(TEMPLATE, upload, digest)
        yield b"bad"

    with pytest.raises(Invalid, match="another request"):
        world.repositories.append(TEMPLATE, upload, late())
    assert world.ask(f"PUT {place}?digest={digest}")[0] == 201
    assert world.error(f"PATCH {place}", b"bad") == (404, "BLOB_UPLOAD_UNKNOWN")
    with pytest.raises(Invalid, match="any more"):
        world.repositories.append(TEMPLATE, upload, [b"bad"])
    blob = world.repositories.blob(TEMPLATE, digest)
    assert blob is not None
    assert blob.read_bytes() == b"whole"


def test_a_push_that_breaks_off_leaves_no_blob(world: World) -> None:
    place, digest = world.begin(), push.digest(b"whole")
    host = world.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest("PUT", f"{place}?digest={digest}")
    connection.putheader("Authorization", f"Bearer {world.token}")
    connection.putheader("Content-Length", "5")
    connection.endheaders(b"who")
    connection.close()
    assert world.error(f"GET {ROOT}/blobs/{digest}")[0] == 404
    assert world.repositories.blob(TEMPLATE, digest) is None


def test_a_disk_that_takes_no_more_is_said(world: World) -> None:
    place = world.begin()
    upload = next((world.directory / TEMPLATE / "uploads").iterdir())
    upload.unlink()
    upload.mkdir()
    assert world.error(f"PATCH {place}", b"x") == (500, "UNKNOWN")


def test_a_blob_larger_than_a_template_may_be_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOB_LIMIT", 3)
    assert world.error(f"PATCH {world.begin()}", b"abcd") == (400, "SIZE_INVALID")


# --- manifests -------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [push.OCI_MANIFEST, push.DOCKER_MANIFEST])
def test_an_image_is_pushed_and_read_by_tag_and_digest(world: World, media_type: str) -> None:
    image = push.image(media_type=media_type)
    world.push("v1", image)
    for reference in ("v1", image.digest):
        status, content, headers = world.ask(f"GET {ROOT}/manifests/{reference}")
        assert (status, content) == (200, image.document.body)
        assert headers["content-type"] == media_type
        assert headers["docker-content-digest"] == image.digest
    status, content, headers = world.ask(f"HEAD {ROOT}/manifests/v1")
    assert (status, content) == (200, b"")
    assert headers["content-length"] == str(len(image.document.body))
    _, tags, _ = world.ask(f"GET {ROOT}/tags/list")
    assert json.loads(tags) == {"name": REPOSITORY, "tags": ["v1"]}
    assert world.error(f"DELETE {ROOT}/manifests/v1")[0] == 404


def test_an_index_needs_its_manifests(world: World) -> None:
    index = push.index({"linux/amd64": push.image()}, attested=True)
    body, kind = index.document.body, index.document.media_type
    assert world.error(f"PUT {ROOT}/manifests/v1", body, Content_Type=kind) == (
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )
    assert world.push("v1", index) == index.digest
    assert world.ask(f"GET {ROOT}/manifests/v1")[1] == body


def manifest(**changes: object) -> bytes:
    document: dict[str, Any] = json.loads(push.image().document.body)
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no json", "MANIFEST_INVALID"),
        (b"[]", "MANIFEST_INVALID"),
        (manifest(schemaVersion=1), "MANIFEST_INVALID"),
        (manifest(mediaType=push.DOCKER_MANIFEST), "MANIFEST_INVALID"),
        (manifest(layers=None), "MANIFEST_INVALID"),
        (manifest(config=None), "MANIFEST_INVALID"),
        (manifest(layers=[{"digest": "sha256:x", "size": 1}]), "MANIFEST_INVALID"),
        (manifest(layers=[{"digest": push.digest(b""), "size": True}]), "MANIFEST_INVALID"),
        (manifest(layers=[{"digest": push.digest(b""), "size": 0}]), "MANIFEST_BLOB_UNKNOWN"),
        (manifest(config={"digest": push.digest(b"\0" * 1024), "size": 1}), "MANIFEST_INVALID"),
    ],
)
def test_a_manifest_that_is_wrong_is_not_kept(world: World, body: bytes, code: str) -> None:
    world.push("v1", push.image())
    found = world.error(f"PUT {ROOT}/manifests/v2", body, Content_Type=push.OCI_MANIFEST)
    assert found == (400, code)
    assert world.repositories.tags(TEMPLATE) == ["v1"]


def test_manifests_of_other_kinds_digests_and_sizes_are_refused(world: World) -> None:
    image = push.image()
    world.push("v1", image)
    line, body = f"PUT {ROOT}/manifests", image.document.body
    for kind in ("", "application/vnd.docker.distribution.manifest.v1+json"):
        assert world.error(f"{line}/v2", body, Content_Type=kind) == (400, "MANIFEST_INVALID")
    wrong = push.digest(b"another")
    assert world.error(f"{line}/{wrong}", body, Content_Type=push.OCI_MANIFEST) == (
        400,
        "DIGEST_INVALID",
    )
    large = b" " * (4 << 20) + b"x"
    assert world.error(f"{line}/v2", large, Content_Type=push.OCI_MANIFEST)[0] == 413


# --- what the engine gets --------------------------------------------------------------------


def pushes(world: World) -> Pushes:
    return Pushes(world.repositories, is_open=world.waiting.__contains__)


@pytest.mark.parametrize("indexed", [False, True])
def test_the_image_is_handed_over_as_an_archive(world: World, indexed: bool) -> None:  # noqa: FBT001
    image = push.image(config={"Env": ["A=1"]})
    arm = push.image(architecture="arm64")
    index = push.index({"linux/arm64": arm, "linux/amd64": image}, attested=True)
    world.push("b1", index if indexed else image)
    found = pushes(world).find(TEMPLATE, "b1")
    assert found is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(found.archive("x/y:b1")))) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        contents = {name: file.read() for name, file in members.items() if file}
    [entry] = json.loads(contents.pop("manifest.json"))
    assert entry["RepoTags"] == ["x/y:b1"]
    config, layer = image.blobs
    assert [contents[entry["Config"]], *(contents[name] for name in entry["Layers"])] == [
        config,
        layer,
    ]
    for name, content in contents.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def test_what_cannot_be_handed_over_fails_in_the_services_words(world: World) -> None:
    assert pushes(world).find(TEMPLATE, "b1") is None
    assert pushes(world).find("nothing", "b1") is None
    arm = push.image(architecture="arm64")
    for image in (arm, push.index({"linux/arm64": arm})):
        world.push("b1", image)
        with pytest.raises(Failed, match=r'arm64.* does not match expected "amd64"'):
            pushes(world).find(TEMPLATE, "b1")
    image = push.image()
    world.push("b1", image)
    blobs = world.directory / TEMPLATE / "blobs"
    (blobs / push.digest(image.blobs[1])[7:]).unlink()
    with pytest.raises(Failed, match="a blob of it is gone"):
        pushes(world).find(TEMPLATE, "b1")
    (blobs / push.digest(image.blobs[0])[7:]).write_bytes(b"[]")
    (blobs / push.digest(image.blobs[1])[7:]).write_bytes(image.blobs[1])
    with pytest.raises(Failed, match="it has no configuration"):
        pushes(world).find(TEMPLATE, "b1")


def test_what_no_build_wants_any_more_is_dropped_here_and_in_the_engine(world: World) -> None:
    world.push("b1", push.image())
    untagged: list[str] = []

    def untag(tag: str) -> None:
        untagged.append(tag)
        raise SandboxfileError("no engine")

    pushes(world).sweep(untag=untag)
    assert (untagged, world.repositories.templates()) == ([], [TEMPLATE])
    world.waiting.clear()
    pushes(world).sweep(untag=untag)
    assert untagged == [f"{REPOSITORY}:b1"]
    assert list(world.directory.iterdir()) == []
    pushes(world).sweep(untag=untag)
