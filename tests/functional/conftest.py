"""What tests of the whole program share."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandboxfile.engines import Engine
from tests.fakes.scene import Scene, scene

SetScene = Callable[..., Scene]


@pytest.fixture
def set_scene(
    tmp_path: Path, engine: Engine, registry: str, busybox: str, engine_environ: Mapping[str, str]
) -> Iterator[SetScene]:
    """Set the scene for an API (v3, v1, local), each with a service and a workspace of its own.

    What follows the API are the service's faults.
    """
    host = {"DOCKER_HOST": engine_environ["DOCKER_HOST"]}
    with ExitStack() as stack:
        yield lambda api, *faults: stack.enter_context(
            scene(
                tmp_path / api,
                engine=engine,
                registry=registry,
                base=busybox,
                api=api,
                environ=host,
                faults=faults,
            )
        )
