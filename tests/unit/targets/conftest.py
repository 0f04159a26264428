from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.publishing import World
from tests.fakes.service import FakeService, serving


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        yield running


@pytest.fixture
def world(service: FakeService, tmp_path: Path) -> Iterator[World]:
    made = World(service, tmp_path / "prod.jsonl")
    yield made
    made.web.close()
