"""Somebody whose templates are at a service that keeps the wire's rules."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.fakes import built
from tests.fakes.released import CONFIG, build, put
from tests.fakes.service import Build, FakeService, serving
from tests.fakes.shell import User


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        yield running


@pytest.fixture
def old(service: FakeService) -> Build:
    """The first build of `api`, which nothing is on any more."""
    return build(service, "api", "default", "stable")


@pytest.fixture
def new(service: FakeService, old: Build) -> Build:
    """The build of `api` that is in use, made after the old one."""
    made = build(service, "api", "default", "stable")
    assert made.template == old.template
    return made


@pytest.fixture
def client(user: User, service: FakeService, new: Build) -> User:
    """Somebody whose lock has the newest builds of both templates."""
    builds = {"api": new, "web": build(service, "web", "default")}
    user.write("novita.yaml", CONFIG.format(url=service.url, more=""))
    for name, entry in built.pretend(user.root, target="box").items():
        ids = replace(entry, template_id=builds[name].template, build_id=builds[name].id)
        put(user, name, ids)
        service.tags.update({(ids.template_id, tag): ids.build_id for tag in ids.tags or ()})
    return user.having(NOVITA_API_KEY="key-of-the-tests")
