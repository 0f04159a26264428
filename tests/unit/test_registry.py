import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from sandboxfile import imageconfig
from sandboxfile import registry as registries
from sandboxfile.errors import NotAllowed, SandboxfileError, Unreachable
from sandboxfile.model import Login, ResolvedBase, Secret
from sandboxfile.reference import ImageReference
from sandboxfile.registry import ACCEPT, Registry, WrongPlatform
from sandboxfile.registryaccess import TOKEN_MOST_S, TOKEN_S, _is_safe
from sandboxfile.web import Web
from tests.fakes import push
from tests.fakes.registry import LOGIN, PASSWORD, USER, FakeRegistry, running

ALICE = Login(username=USER, password=Secret(PASSWORD))
MALLORY = Login(username="mallory", password=Secret("guessed"))
REFRESH = Login(username="<token>", password=Secret("refresh-me"))
GONE = "sha256:" + "0" * 64
TYPES = {"oci": push.OCI_MANIFEST, "docker": push.DOCKER_MANIFEST}

Open = Callable[..., Registry]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with running() as registry:
        yield registry


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(user_agent="test/1", sleep=lambda _: None)
    yield made
    made.close()


@pytest.fixture
def connect(web: Web) -> Open:
    """Make a client that knows one login, for every registry."""

    def make(login: Login | None = None, **others: Any) -> Registry:
        return Registry(web, lambda _: login, **others)

    return make


# --- what an image says of itself ------------------------------------------------------------

ABOUT = {"User": "node", "WorkingDir": "/app"}


@pytest.mark.parametrize("media_type", TYPES.values(), ids=TYPES)
def test_an_image_says_what_it_is(server: FakeRegistry, connect: Open, media_type: str) -> None:
    image = push.image(config=ABOUT, media_type=media_type)
    server.add("team/app", "1", image)
    digest, documents = connect().config(f"{server.host}/team/app:1")
    found = imageconfig.verified(documents, digest)
    assert digest == image.digest
    assert found is not None
    assert (found.user, found.workdir) == ("node", "/app")


def test_of_an_index_the_image_for_our_platform_is_asked(
    server: FakeRegistry, connect: Open
) -> None:
    ours, other = push.image(config=ABOUT), push.image(architecture="arm64")
    both = push.index({"linux/arm64": other, "linux/amd64": ours})
    server.add("team/app", "both", both)
    name = f"{server.host}/team/app"
    for reference in (f"{name}:both", f"{name}@{both.digest}"):
        assert connect().config(reference)[0] == ours.digest
    with pytest.raises(SandboxfileError, match="is not made for linux/amd64"):
        connect().config(f"{name}@{other.digest}")


def test_a_configuration_that_is_not_what_the_manifest_names_is_refused(
    server: FakeRegistry, connect: Open
) -> None:
    image = push.image(config=ABOUT)
    server.add("team/app", "1", image)
    server.blobs = dict.fromkeys(server.blobs, b"{}")
    with pytest.raises(Unreachable, match="other bytes"):
        connect().config(f"{server.host}/team/app@{image.digest}")


# --- what is there ---------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", TYPES.values(), ids=TYPES)
def test_the_head_of_a_tag_is_its_digest(
    server: FakeRegistry, connect: Open, media_type: str
) -> None:
    digest = server.add("acme/app", "1", push.image(media_type=media_type))
    assert connect().head(f"{server.host}/acme/app:1") == digest
    assert server.lines == ["HEAD /v2/acme/app/manifests/1"]


@pytest.mark.parametrize("media_type", [push.OCI_INDEX, push.DOCKER_LIST])
def test_the_head_of_an_index_is_the_digest_of_the_index(
    server: FakeRegistry, connect: Open, media_type: str
) -> None:
    index = push.index({"linux/amd64": push.image()}, media_type=media_type)
    digest = server.add("acme/app", "1", index)
    assert connect().head(f"{server.host}/acme/app:1") == digest


def test_every_manifest_request_accepts_all_four_types(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    registry = connect()
    registry.head(f"{server.host}/acme/app:1")
    registry.resolve(f"{server.host}/acme/app:1")
    accepts = [each.headers["accept"] for each in server.seen if "/manifests/" in each.path]
    assert accepts == [ACCEPT, ACCEPT]
    assert len(ACCEPT.split(", ")) == 4


def test_an_absent_tag_has_no_head(server: FakeRegistry, connect: Open) -> None:
    assert connect().head(f"{server.host}/acme/app:1") is None


@pytest.mark.parametrize("header", [None, "junk", "sha512:00"])
def test_without_a_digest_in_the_header_the_content_tells_it(
    server: FakeRegistry, connect: Open, header: str | None
) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.digest_header = header
    assert connect().head(f"{server.host}/acme/app:1") == digest
    assert [each.method for each in server.seen] == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [405, 501])
def test_a_registry_without_head_is_asked_for_the_content(
    server: FakeRegistry, connect: Open, status: int
) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.head_status = status
    registry = connect()
    assert registry.head(f"{server.host}/acme/app:1") == digest
    assert registry.head(f"{server.host}/acme/app:2") is None


def test_a_reference_may_be_text_or_parsed(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    text = f"{server.host}/acme/app:1"
    registry = connect()
    assert registry.head(text) == registry.head(ImageReference.parse(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("alice:s3cret@ghcr.io/acme/app", "ghcr.io/acme/app"), ("ghcr.io/Acme", "ghcr.io/Acme")],
)
def test_text_that_is_no_reference_is_an_error_without_what_may_be_a_password(
    connect: Open, text: str, shown: str
) -> None:
    with pytest.raises(SandboxfileError) as caught:
        connect().head(text)
    assert caught.value.message.startswith(f"`{shown}` is not an image reference: ")
    assert "s3cret" not in str(caught.value)


# --- resolving -------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", TYPES.values(), ids=TYPES)
def test_an_image_resolves_to_its_own_digest(
    server: FakeRegistry, connect: Open, media_type: str
) -> None:
    digest = server.add("acme/app", "1", push.image(media_type=media_type))
    assert connect().resolve(f"{server.host}/acme/app:1") == ResolvedBase(
        reference=f"{server.host}/acme/app@{digest}", digest=digest
    )


@pytest.mark.parametrize("media_type", [push.OCI_INDEX, push.DOCKER_LIST])
@pytest.mark.parametrize("attested", [False, True])
def test_an_index_resolves_to_the_manifest_of_the_platform(
    server: FakeRegistry, connect: Open, media_type: str, *, attested: bool
) -> None:
    images = {
        "linux/arm64/v8": push.image(architecture="arm64"),
        "linux/amd64": push.image(),
        "windows/amd64": push.image(os="windows"),
    }
    server.add("acme/app", "1", push.index(images, media_type=media_type, attested=attested))
    registry = connect()
    for platform, image in (("linux/amd64", "linux/amd64"), ("linux/arm64", "linux/arm64/v8")):
        resolved = registry.resolve(f"{server.host}/acme/app:1", platform)
        assert resolved.digest == images[image].digest
    assert registry.resolve(f"{server.host}/acme/app:1").digest == images["linux/amd64"].digest


def test_the_variant_for_every_cpu_is_chosen(server: FakeRegistry, connect: Open) -> None:
    images = {
        "linux/amd64/v3": push.image(config={"Labels": {"for": "v3"}}),
        "linux/amd64": push.image(config={"Labels": {"for": "all"}}),
        "linux/amd64/v2": push.image(config={"Labels": {"for": "v2"}}),
    }
    server.add("acme/app", "1", push.index(images))
    assert connect().resolve(f"{server.host}/acme/app:1").digest == images["linux/amd64"].digest


def test_a_digest_goes_before_a_tag(server: FakeRegistry, connect: Open) -> None:
    old = server.add("acme/app", "1", push.image(config={"User": "old"}))
    server.add("acme/app", "1", push.image(config={"User": "new"}))
    assert connect().resolve(f"{server.host}/acme/app:1@{old}").digest == old


@pytest.mark.parametrize(
    ("image", "offer"),
    [
        (push.image(architecture="arm64"), "linux/arm64"),
        (push.image(architecture="", os=""), "unknown/unknown"),
        (
            push.index(
                {
                    "linux/s390x": push.image(architecture="s390x"),
                    "linux/arm64/v8": push.image(architecture="arm64"),
                },
                attested=True,
            ),
            "linux/arm64, linux/s390x",
        ),
        (push.index({}), "no platform at all"),
    ],
)
def test_an_image_for_other_platforms_is_refused_with_what_it_has(
    server: FakeRegistry, connect: Open, image: push.Image, offer: str
) -> None:
    server.add("acme/app", "1", image)
    with pytest.raises(SandboxfileError) as caught:
        connect().resolve(f"{server.host}/acme/app:1")
    assert type(caught.value) is WrongPlatform
    assert str(caught.value) == (
        f"error: image `{server.host}/acme/app:1` is not made for linux/amd64\n"
        f"hint: it is made for {offer}; choose another tag or another image"
    )


def test_an_image_that_is_not_there_is_an_error(server: FakeRegistry, connect: Open) -> None:
    with pytest.raises(SandboxfileError) as caught:
        connect().resolve(f"{server.host}/acme/app")
    assert type(caught.value) is SandboxfileError
    assert str(caught.value) == (
        f"error: image `{server.host}/acme/app:latest` not found at `{server.host}`\n"
        "hint: look at the spelling of its name and tag"
    )


OLD = {"schemaVersion": 1, "name": "acme/app", "fsLayers": []}


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (OLD, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (OLD, "application/json"),
        ({}, "application/vnd.docker.distribution.manifest.v1+json; charset=utf-8"),
    ],
)
def test_the_oldest_format_is_refused(
    server: FakeRegistry, connect: Open, document: Any, content_type: str
) -> None:
    keep(server, document)
    server.content_type = content_type
    with pytest.raises(SandboxfileError, match=r"has the old manifest format \(schema 1\)"):
        connect().resolve(f"{server.host}/acme/app:1")


def keep(server: FakeRegistry, content: Any) -> None:
    """Keep a document of our own under `acme/app:1`."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    document = push.Document(media_type=push.OCI_MANIFEST, body=body)
    server.add("acme/app", "1", push.Image(document=document))


CONFIG = {"config": {"digest": GONE}}
ENTRY = {"digest": GONE, "platform": {"os": "linux", "architecture": "amd64"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "answered with something that is not a JSON object"),
        (b"[]", "answered with something that is not a JSON object"),
        (b"\xff", "answered with something that is not a JSON object"),
        (b"[" * 100_000, "answered with something that is not a JSON object"),
        ({}, "has a manifest without a configuration"),
        ({"config": []}, "has a manifest without a configuration"),
        ({"config": {"digest": "../../x"}}, "has a manifest without a configuration"),
        ({"manifests": [ENTRY]} | CONFIG, "has a manifest whose type is not clear"),
        ({"manifests": [], "layers": []}, "has a manifest whose type is not clear"),
        ({"mediaType": push.DOCKER_LIST} | CONFIG, "has a manifest whose type is not clear"),
        ({"manifests": [ENTRY]}, "has a manifest whose type is not clear"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    server: FakeRegistry, connect: Open, content: Any, message: str
) -> None:
    keep(server, content)
    with pytest.raises(Unreachable) as caught:
        connect().resolve(f"{server.host}/acme/app:1")
    assert (
        caught.value.message == f"registry `{server.host}` {message} for `{server.host}/acme/app:1`"
    )


def test_an_index_with_a_wrong_digest_is_refused(server: FakeRegistry, connect: Open) -> None:
    keep(server, {"manifests": [None, ENTRY | {"digest": "../../x"}]})
    server.content_type = "application/json"
    with pytest.raises(Unreachable, match="has an index with a wrong digest"):
        connect().resolve(f"{server.host}/acme/app:1")


def test_an_index_that_is_no_list_has_no_images(server: FakeRegistry, connect: Open) -> None:
    keep(server, {"manifests": "x", "mediaType": ["y"]})
    server.content_type = "application/json"
    with pytest.raises(SandboxfileError, match=r"made for linux/amd64"):
        connect().resolve(f"{server.host}/acme/app:1")


# --- configurations --------------------------------------------------------------------------


def test_a_blob_elsewhere_is_fetched_without_the_login(server: FakeRegistry, connect: Open) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.wants = "basic"
    with running() as elsewhere:
        elsewhere.blobs = server.blobs
        server.blobs_at = elsewhere.root
        assert connect(ALICE).resolve(f"{server.host}/acme/app:1").digest == digest
        assert server.seen[-1].headers["authorization"] == LOGIN
        assert [("authorization" in each.headers) for each in elsewhere.seen] == [False]


def test_redirects_end(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    server.blobs_at = f"{server.root}/v2"  # redirects to itself for ever
    with pytest.raises(Unreachable, match="redirects to itself"):
        connect().resolve(f"{server.host}/acme/app:1")


def test_an_absent_configuration_is_an_error(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    server.blobs.clear()
    with pytest.raises(Unreachable, match="answered 404"):
        connect().resolve(f"{server.host}/acme/app:1")


# --- bytes are checked -----------------------------------------------------------------------

CALLS: Mapping[str, Callable[[Registry, str, str], object]] = {
    "resolve": lambda registry, name, _: registry.resolve(f"{name}:1"),
    "resolve by digest": lambda registry, name, digest: registry.resolve(f"{name}@{digest}"),
    "confirm": lambda registry, name, digest: registry.confirm(name, digest),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_damaged_bytes_are_never_taken(
    server: FakeRegistry, connect: Open, call: Callable[[Registry, str, str], object]
) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.damage = b" "
    with pytest.raises(Unreachable, match=r"sent other bytes for .* than their digest says"):
        call(connect(), f"{server.host}/acme/app", digest)


def test_a_damaged_configuration_is_not_taken(server: FakeRegistry, connect: Open) -> None:
    image = push.image()
    server.add("acme/app", "1", image)
    server.blobs[push.digest(image.blobs[0])] += b" "
    with pytest.raises(Unreachable, match="sent other bytes"):
        connect().resolve(f"{server.host}/acme/app:1")


def test_content_without_a_promise_is_named_by_what_it_is(
    server: FakeRegistry, connect: Open
) -> None:
    server.add("acme/app", "1", push.image())
    document = server.documents["acme/app", "1"]
    server.digest_header, server.damage = None, b" "
    assert connect().head(f"{server.host}/acme/app:1") == push.digest(document.body + b" ")


def test_a_manifest_without_end_is_not_read_to_its_end(server: FakeRegistry, connect: Open) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.damage = b" " * (5 << 20)
    with pytest.raises(Unreachable, match="answered with more than 4194304 bytes"):
        connect().confirm(f"{server.host}/acme/app", digest)


def test_a_push_is_confirmed_by_reading_it_back(server: FakeRegistry, connect: Open) -> None:
    digest = server.add("acme/app", "1", push.image())
    connect().confirm(f"{server.host}/acme/app", digest)
    assert server.lines == [f"GET /v2/acme/app/manifests/{digest}"]


def test_a_push_that_is_not_there_is_not_confirmed(server: FakeRegistry, connect: Open) -> None:
    with pytest.raises(Unreachable) as caught:
        connect().confirm(f"{server.host}/acme/app", GONE)
    name = f"{server.host}/acme/app@{GONE}"
    assert caught.value.message == (
        f"registry `{server.host}` does not have `{name}`, although it was pushed"
    )


# --- access ----------------------------------------------------------------------------------


def test_a_login_is_only_sent_to_a_registry_that_asks(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    connect(ALICE).head(f"{server.host}/acme/app:1")
    assert "authorization" not in server.seen[0].headers


def test_a_password_is_asked_for_once(server: FakeRegistry, web: Web) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.wants = "basic"
    asked: list[str] = []

    def logins(host: str) -> Login:
        asked.append(host)
        return ALICE

    registry = Registry(web, logins)
    for _ in range(3):
        assert registry.head(f"{server.host}/acme/app:1") == digest
    assert asked == [server.host]
    assert [each.headers.get("authorization") for each in server.seen] == [None, *[LOGIN] * 3]


@pytest.mark.parametrize("login", [None, ALICE, REFRESH], ids=["anonymous", "alice", "refresh"])
def test_a_token_serves_a_whole_repository(
    server: FakeRegistry, connect: Open, login: Login | None
) -> None:
    server.add("acme/app", "1", push.image())
    server.add("acme/other", "1", push.image())
    server.wants = "bearer"
    registry = connect(login)
    for repository in ("acme/app", "acme/app", "acme/other", "acme/app"):
        assert registry.head(f"{server.host}/{repository}:1")
    tokens = [each for each in server.seen if each.path == "/token"]
    assert len(tokens) == len(server.tokens) == 2
    assert len(server.lines) == 4 + 2 + 2


def test_a_token_is_asked_for_as_the_registry_says(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    server.wants = "bearer"
    connect(ALICE).head(f"{server.host}/acme/app:1")
    request = next(each for each in server.seen if each.path == "/token")
    assert request.method == "GET"
    assert request.query == {"service": ["small"], "scope": ["repository:acme/app:pull"]}
    assert request.headers["authorization"] == LOGIN


def test_an_identity_token_is_exchanged_in_a_body(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    server.wants = "bearer"
    connect(REFRESH).head(f"{server.host}/acme/app:1")
    request = next(each for each in server.seen if each.path == "/token")
    assert (request.method, request.query) == ("POST", {})
    assert request.body == (
        b"scope=repository%3Aacme%2Fapp%3Apull&service=small&grant_type=refresh_token"
        b"&client_id=sandboxfile&refresh_token=refresh-me"
    )


@pytest.mark.parametrize(
    "challenge",
    [
        'bearer  Realm="{root}/token"',
        "Bearer realm={root}/token",
        'Basic realm="x", Bearer realm="{root}/token"',
        'Bearer realm="{root}/token", Basic realm="x"',
        'Bearer realm="{root}/token" junk="',
    ],
)
def test_a_challenge_may_be_written_in_several_ways(
    server: FakeRegistry, connect: Open, challenge: str
) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.wants = "bearer"
    server.challenge = challenge.format(root=server.root)
    assert connect().head(f"{server.host}/acme/app:1") == digest
    request = next(each for each in server.seen if each.path == "/token")
    assert request.query == {"scope": ["repository:acme/app:pull"]}


def test_a_realm_may_have_a_query_of_its_own(server: FakeRegistry, connect: Open) -> None:
    server.add("acme/app", "1", push.image())
    server.wants = "bearer"
    server.challenge = f'Bearer realm="{server.root}/token?for=you"'
    assert connect().head(f"{server.host}/acme/app:1")
    request = next(each for each in server.seen if each.path == "/token")
    assert request.query == {"for": ["you"], "scope": ["repository:acme/app:pull"]}


@pytest.mark.parametrize(
    ("answer", "lives"),
    [
        ({"expires_in": 300}, 300.0),
        ({"expires_in": 1}, TOKEN_S),
        ({"expires_in": -(10**400)}, TOKEN_S),
        ({"expires_in": 10**400}, TOKEN_MOST_S),
        ({"expires_in": "soon"}, TOKEN_S),
        ({}, TOKEN_S),
        ({"token": "", "access_token": "token-1"}, TOKEN_S),
    ],
)
def test_a_token_is_used_as_long_as_it_lives(
    server: FakeRegistry, connect: Open, answer: dict[str, object], lives: float
) -> None:
    server.add("acme/app", "1", push.image())
    server.wants = "bearer"
    server.token_answer = answer
    clock = [1000.0]
    registry = connect(now=lambda: clock[0])
    registry.head(f"{server.host}/acme/app:1")
    clock[0] += lives - 0.5
    registry.head(f"{server.host}/acme/app:1")
    assert len(server.tokens) == 1
    clock[0] += 1
    server.token_answer = None
    registry.head(f"{server.host}/acme/app:1")
    assert len(server.tokens) == 2


@pytest.mark.parametrize(
    ("wants", "anonymous", "public"),
    [
        ("nothing", True, True),
        ("bearer", True, True),
        ("bearer", False, False),
        ("basic", True, False),
    ],
)
def test_an_image_is_public_when_it_is_had_without_a_login(
    server: FakeRegistry, connect: Open, wants: Any, *, anonymous: bool, public: bool
) -> None:
    server.add("acme/app", "1", push.image())
    server.wants, server.anonymous_tokens = wants, anonymous
    registry = connect(ALICE)
    assert registry.is_public(f"{server.host}/acme/app:1") is public
    assert not registry.is_public(f"{server.host}/acme/absent:1")
    assert not any(each.headers.get("authorization") == LOGIN for each in server.seen)


def test_a_registry_that_answers_anything_is_reachable(server: FakeRegistry, connect: Open) -> None:
    server.wants = "bearer"
    assert connect().is_reachable(server.host)
    assert not connect().is_reachable("127.0.0.1:1")


def test_a_token_that_is_refused_early_is_replaced(server: FakeRegistry, connect: Open) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.wants = "bearer"
    registry = connect()
    registry.head(f"{server.host}/acme/app:1")
    server.tokens[:] = ["another"]  # the registry has forgotten ours
    assert registry.head(f"{server.host}/acme/app:1") == digest


@pytest.mark.parametrize("token", [7, ["x"], "a\r\nx: y", "ü", ""])
def test_a_token_that_is_none_is_not_sent(
    server: FakeRegistry, connect: Open, token: object
) -> None:
    server.wants = "bearer"
    server.token_answer = {"token": token}
    with pytest.raises(Unreachable, match="has a token server that gives no token"):
        connect().head(f"{server.host}/acme/app:1")


@pytest.mark.parametrize(
    ("registry", "realm", "expected"),
    [
        ("ghcr.io", "https://ghcr.io/token", True),
        ("ghcr.io", "https://auth.example.com:5001/token", True),
        ("ghcr.io", "https://127.0.0.1:8443/token", False),
        ("ghcr.io", "http://127.0.0.1:8080/token", False),
        ("ghcr.io", "https://localhost/token", False),
        ("ghcr.io", "https://[::1]/token", False),
        ("ghcr.io", "https://2130706433/token", False),
        ("ghcr.io", "https://169.254.169.254/token", False),
        ("127.0.0.1.example.org:5000", "http://127.0.0.1/token", False),
        ("localhost:5000", "http://127.0.0.1:5001/token", True),
        ("[::1]:5000", "https://127.0.0.1:5001/token", True),
        ("127.0.0.1:5000", "https://auth.example.com/token", True),
        ("127.0.0.1:5000", "http://auth.example.com/token", False),
        ("[x", "https://auth.example.com/token", False),
    ],
)
def test_a_registry_elsewhere_sends_no_login_to_this_machine(
    registry: str, realm: str, *, expected: bool
) -> None:
    assert _is_safe(realm, registry) is expected


@pytest.mark.parametrize("realm", ["http://token.example.com/", "ftp://x/", "", "http://[x/"])
def test_a_login_is_not_sent_in_the_clear(server: FakeRegistry, connect: Open, realm: str) -> None:
    server.wants = "bearer"
    server.challenge = f'Bearer realm="{realm}"'
    with pytest.raises(Unreachable, match="wants a token from an address that is not https"):
        connect(ALICE).head(f"{server.host}/acme/app:1")


def test_a_broken_token_server_is_not_a_refusal(server: FakeRegistry, connect: Open) -> None:
    server.wants = "bearer"
    server.token_status = 500
    with pytest.raises(Unreachable, match=r"the token server of .* answered 500"):
        connect().head(f"{server.host}/acme/app:1")


def test_a_token_server_that_is_not_there(server: FakeRegistry, connect: Open) -> None:
    server.wants = "bearer"
    server.challenge = f'Bearer realm="http://127.0.0.1:{closed_port()}/token"'
    with pytest.raises(Unreachable, match=rf"registry `{server.host}`: cannot reach"):
        connect().head(f"{server.host}/acme/app:1")


# --- refusals --------------------------------------------------------------------------------

LOGIN_FIRST = (
    "if it exists, log in with `docker login {host}`; the target's own registry also takes "
    "SANDBOXFILE_REGISTRY_USERNAME and SANDBOXFILE_REGISTRY_PASSWORD"
)
AGAIN = "it was asked with the login of `mallory`; log in again with `docker login {host}`"


@pytest.mark.parametrize(
    ("login", "remedy"), [(None, LOGIN_FIRST), (MALLORY, AGAIN)], ids=["anonymous", "mallory"]
)
@pytest.mark.parametrize("wants", ["basic", "bearer"])
def test_a_refusal_names_the_registry_and_the_remedy(
    server: FakeRegistry, connect: Open, login: Login | None, remedy: str, wants: Any
) -> None:
    server.wants, server.anonymous_tokens = wants, False
    with pytest.raises(NotAllowed) as caught:
        connect(login).resolve(f"{server.host}/acme/app:1")
    what, said = {
        "basic": ("refuses access to", "authentication required"),
        "bearer": ("gives no access to", "who are you?"),
    }[wants]
    assert str(caught.value) == (
        f"error: registry `{server.host}` {what} `acme/app` (UNAUTHORIZED: {said})\n"
        f"hint: {remedy.format(host=server.host)}"
    )


def test_a_refused_password_is_not_sent_again(server: FakeRegistry, connect: Open) -> None:
    server.wants = "basic"
    registry = connect(MALLORY)
    for _ in range(2):
        with pytest.raises(NotAllowed):
            registry.head(f"{server.host}/acme/app:1")
    assert [("authorization" in each.headers) for each in server.seen] == [False, True, True]


def test_a_refused_identity_token_is_named_without_its_user(
    server: FakeRegistry, connect: Open
) -> None:
    server.wants = "bearer"
    login = Login(username="<token>", password=Secret("stale"))
    with pytest.raises(NotAllowed) as caught:
        connect(login).head(f"{server.host}/acme/app:1")
    assert caught.value.hint == (
        f"it was asked with the stored token; log in again with `docker login {server.host}`"
    )


def test_a_challenge_nobody_knows_is_a_refusal(server: FakeRegistry, connect: Open) -> None:
    server.wants = "basic"
    server.challenge = "Negotiate"
    with pytest.raises(NotAllowed):
        connect(ALICE).head(f"{server.host}/acme/app:1")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"errors":[{"code":"DENIED","message":"no\\u001b[2J way"}]}', " (DENIED: no[2J way)"),
        (b'{"errors":[{"code":"DENIED"}]}', " (DENIED: )"),
        (b'{"errors":[{"code":"D","message":"' + b"x" * 999 + b'"}]}', f" (D: {'x' * 197})"),
        (b'{"errors":[]}', ""),
        (b'{"errors":["x"]}', ""),
        (b'{"errors":[[]]}', ""),
        (b"[]", ""),
        (b"<html>", ""),
    ],
)
def test_the_reason_of_a_registry_is_shown_without_tricks(
    server: FakeRegistry, connect: Open, body: bytes, said: str
) -> None:
    server.statuses, server.error_body = [403], body
    with pytest.raises(NotAllowed) as caught:
        connect().resolve(f"{server.host}/acme/app:1")
    assert caught.value.message == (f"registry `{server.host}` refuses access to `acme/app`{said}")


def test_too_many_requests_are_tried_again(server: FakeRegistry, connect: Open) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.statuses = [429, 503]
    assert connect().head(f"{server.host}/acme/app:1") == digest


@pytest.mark.parametrize(
    ("login", "hint"),
    [(None, "wait a while, or log in with `docker login {host}`"), (ALICE, "wait a while")],
)
def test_too_many_requests_in_the_end(
    server: FakeRegistry, connect: Open, login: Login | None, hint: str
) -> None:
    server.statuses = [429] * 10
    with pytest.raises(Unreachable) as caught:
        connect(login).head(f"{server.host}/acme/app:1")
    assert str(caught.value) == (
        f"error: registry `{server.host}` has had too many requests\n"
        f"hint: {hint.format(host=server.host)}"
    )


@pytest.mark.parametrize("status", [400, 500, 503])
def test_any_other_status_is_neither_there_nor_absent(
    server: FakeRegistry, connect: Open, status: int
) -> None:
    server.statuses = [status] * 10
    with pytest.raises(Unreachable, match=rf"registry `{server.host}` answered {status}"):
        connect().head(f"{server.host}/acme/app:1")


# --- addresses -------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_registry_that_is_not_there_is_named(connect: Open) -> None:
    host = f"127.0.0.1:{closed_port()}"
    with pytest.raises(Unreachable) as caught:
        connect().head(f"{host}/acme/app:1")
    assert caught.value.message == (
        f"registry `{host}`: cannot reach `{host}/v2/acme/app/manifests/1`: Connection refused"
    )
    assert caught.value.hint == "start it on this machine, or name the port that it has"


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Send everything through a proxy that keeps the first line of each request."""
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, client.makefile("rb") as file:
                    lines.append(file.readline().decode().strip())
                    client.sendall(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield lines
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("python", "CONNECT registry-1.docker.io:443 HTTP/1.1"),
        ("index.docker.io/acme/app", "CONNECT registry-1.docker.io:443 HTTP/1.1"),
        ("ghcr.io/acme/app", "CONNECT ghcr.io:443 HTTP/1.1"),
        ("localhost.example.com/app", "CONNECT localhost.example.com:443 HTTP/1.1"),
        ("10.0.0.1:5000/app", "CONNECT 10.0.0.1:5000 HTTP/1.1"),
    ],
)
def test_other_machines_are_spoken_to_with_tls(
    proxied: list[str], connect: Open, reference: str, line: str
) -> None:
    with pytest.raises(Unreachable):
        connect().head(reference)
    assert set(proxied) == {line}


def test_this_machine_needs_no_tls_by_name_either(server: FakeRegistry, connect: Open) -> None:
    digest = server.add("acme/app", "1", push.image())
    port = server.host.rpartition(":")[2]
    assert connect().head(f"localhost:{port}/acme/app:1") == digest


def test_the_remedy_for_docker_hub_is_its_own(
    server: FakeRegistry, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "HUB_SERVER", server.host)
    server.wants = "basic"
    with pytest.raises(NotAllowed, match=r"log in with `docker login`; the") as caught:
        connect().head("acme/app:1")
    assert caught.value.message == "registry `docker.io` refuses access to `acme/app`"


def test_threads_share_one_client(server: FakeRegistry, connect: Open) -> None:
    digest = server.add("acme/app", "1", push.image())
    server.wants = "bearer"
    registry = connect(ALICE)
    found: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.head(f"{server.host}/acme/app:1")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [digest] * 8
