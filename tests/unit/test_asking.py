"""A checkout on another machine: what registry and service have is taken, and hardly asked for."""

from collections import Counter
from collections.abc import Iterator

import pytest

from sandboxfile import lockfile
from tests.fakes.service import FakeService, serving
from tests.fakes.shell import User

BASE = "debian@sha256:" + "ab" * 32
MANIFEST = b'{"schemaVersion": 2, "config": {}, "layers": []}'
COUNT = 50


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        running.page = 20
        yield running


@pytest.fixture
def clone(user: User, service: FakeService) -> User:
    lines = ["version: 1", "defaults: {tags: [stable]}", "templates:"]
    for number in range(COUNT):
        base = BASE if number % 5 else f"{{template: t{number + 1}}}"
        lines.append(f"  t{number}: {{base: {base}, run: [echo {number}]}}")
    host = service.url.removeprefix("http://")
    lines.append(f'targets: {{it: {{provider: novita, api_url: "{service.url}",')
    lines.append(f'  registry: "{host}/acme"}}}}')
    user.write("novita.yaml", "\n".join(lines) + "\n")
    return user.having(NOVITA_API_KEY="key-123456", SANDBOXFILE_TARGET="it")


def warm(
    clone: User, service: FakeService, *, tags: tuple[str, ...] = ("default", "stable")
) -> None:
    """Give registry and service what another machine has built."""
    for each in clone.run("plan", "--json", "--offline").data["templates"]:
        service.put_manifest(f"acme/{each['name']}", _tag(each["image_key"]), MANIFEST)
        content = _tag(each["template_key"])
        build = service.register(each["name"], (content,))
        build.settle("ready")
        for tag in tags:
            service.tags[build.template, tag] = build.id


def _tag(key: str) -> str:
    return "sf-" + key.partition(":")[2][:16]


def test_a_fresh_clone_asks_once_for_each_image_and_once_for_each_build(
    clone: User, service: FakeService
) -> None:
    warm(clone, service)

    ran = clone.run("build", "--progress", "plain", "--json")

    assert ran.code == 0, ran.err
    assert {each["action"] for each in ran.data["templates"]} == {"adopt"}
    asked = Counter((each.method, each.path) for each in service.requests)
    lists = asked.pop(("GET", "/v2/templates"))
    assert lists == -(-COUNT // service.page)
    assert {*asked.values()} == {1}
    assert Counter(method for method, _ in asked) == {"HEAD": COUNT, "GET": COUNT}
    entries = lockfile.read(clone.root / "novita.lock").targets["it"]
    assert {name: entry.template_id for name, entry in entries.items()} == service.names
    assert {entry.tags for entry in entries.values()} == {("stable",)}
    assert all("@sha256:" in entry.image for entry in entries.values())
    service.requests.clear()
    assert clone.run("build").code == 0
    assert service.requests == []


def test_tags_that_the_build_does_not_have_are_moved(clone: User, service: FakeService) -> None:
    warm(clone, service, tags=("default",))
    assert clone.run("build", "--progress", "plain").code == 0
    assert len(service.sent("POST", "/templates/tags")) == COUNT
    assert {tag for _, tag in service.tags if tag[0] == "s" and tag[1] == "t"} == {"stable"}


def test_a_build_that_is_not_the_default_is_looked_at(clone: User, service: FakeService) -> None:
    warm(clone, service, tags=())
    broken = next(iter(service.builds.values()))
    broken.settle("error")
    plan = clone.run("plan", "--json").data
    actions = Counter(each["action"] for each in plan["templates"])
    assert actions["adopt"] == COUNT - 1
    assert len(service.sent("GET", ".*/status")) == COUNT


def test_a_template_of_another_team_is_not_adopted(clone: User, service: FakeService) -> None:
    warm(clone, service)
    service.foreign = {"t1"}
    plan = clone.run("plan", "--json").data
    assert [each["name"] for each in plan["templates"] if each["action"] != "adopt"] == ["t1"]


def test_without_a_list_templates_are_looked_up_by_name(clone: User, service: FakeService) -> None:
    warm(clone, service)
    service.lack("GET", "/v2/templates")
    service.lack("GET", "/templates")
    plan = clone.run("plan", "--json").data
    assert {each["action"] for each in plan["templates"]} == {"adopt"}
    assert len(service.sent("GET", "/templates/aliases/.*")) == COUNT
