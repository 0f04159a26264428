"""An engine that dies in the middle, and engines that are not there."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.engines.choose import choose, describe
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.events import Event, Log
from sandboxfile.model import EngineChoice
from tests.fakes.building import spec

pytestmark = pytest.mark.engine


def test_an_engine_killed_in_a_build_is_never_a_success(
    start_engine: Callable[[], AbstractContextManager[object]], busybox_archive: Path
) -> None:
    with start_engine() as private:
        url, stop = private.url, private.stop  # type: ignore[attr-defined]
        engine = choose(EngineChoice(), environ={"DOCKER_HOST": url}, network="host")
        engine.load_root(busybox_archive, "base:1", labels={})

        def emit(event: Event) -> None:
            if isinstance(event, Log):
                threading.Thread(target=stop).start()

        with pytest.raises(Unreachable):
            engine.build(
                spec("FROM base:1\nRUN echo running; sleep 1000\n", "made:1"),
                emit=emit,
                cancel=Cancel(),
            )
        with pytest.raises(Unreachable, match=f"the container engine at `{url}`") as caught:
            engine.find("base:1")
        assert caught.value.hint
        engine.close()


def test_doctor_hears_what_was_found_and_why(engine: Engine, docker_host: str) -> None:
    info = engine.info()
    assert info.address == docker_host
    assert info.why == f"DOCKER_HOST: {docker_host}"
    environ = {"DOCKER_HOST": docker_host}
    (what, verdict), *_clients = describe(EngineChoice(), environ=environ)
    assert what == f"DOCKER_HOST ({docker_host})"
    assert verdict.startswith(f"chosen: {info.kind} {info.version}, API {info.api}, builds by ")


def test_an_engine_of_the_wrong_kind_is_refused(docker_host: str) -> None:
    with pytest.raises(SandboxfileError, match=r"it is docker .*, and `podman` was asked for"):
        choose(EngineChoice(kind="podman"), environ={"DOCKER_HOST": docker_host}, network=None)
