"""What images say of themselves is asked once; what a checkout brought along is not believed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from sandboxfile.configs import OS_RELEASE, Configs
from sandboxfile.engines import Engine, EngineImage
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.registry import Registry
from sandboxfile.web import Web
from tests.fakes import push
from tests.fakes.registry import FakeRegistry, running

ID = "sha256:" + "1" * 64
IMAGE = push.image(config={"User": "node", "Env": ["A=\udcff"]})


class Kept:
    """An engine that has one image."""

    def inspect(self, name: str) -> EngineImage | None:
        return EngineImage(id=ID, config={"User": "me"}) if name == "mine:1" else None


def engine() -> Engine:
    return cast("Engine", Kept())


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with running() as registry:
        registry.add("app", "1", IMAGE)
        yield registry


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(user_agent="test/1", sleep=lambda _: None)
    yield made
    made.close()


@pytest.fixture
def configs(web: Web, tmp_path: Path) -> Configs:
    return Configs(
        directory=tmp_path / "configs",
        cache=tmp_path / "cache",
        engine=engine,
        registry=lambda: Registry(web, lambda _: None),
    )


def closed() -> NoReturn:
    raise AssertionError("nobody was to be asked")


def offline(directory: Path) -> Configs:
    return Configs(
        directory=directory, cache=directory, engine=closed, registry=closed, offline=True
    )


def test_a_registry_is_asked_once(server: FakeRegistry, configs: Configs) -> None:
    reference = f"{server.host}/app@{IMAGE.digest}"
    first = configs.at_registry(reference)
    asked = len(server.lines)
    assert first.user == "node"
    assert configs.at_registry(reference) == first
    assert offline(configs.directory).at_registry(reference) == first
    assert len(server.lines) == asked


def test_many_that_want_the_same_image_ask_once(server: FakeRegistry, configs: Configs) -> None:
    reference = f"{server.host}/app@{IMAGE.digest}"
    with ThreadPoolExecutor(8) as pool:
        found = {each.user for each in pool.map(configs.of, [reference] * 40)}
    assert found == {"node"}
    assert len(server.lines) == len({*server.lines})


def test_what_the_engine_alone_has_is_asked_there(tmp_path: Path) -> None:
    configs = Configs(directory=tmp_path, cache=tmp_path, engine=engine, registry=closed)
    assert configs.of("mine:1").user == "me"


def test_where_templates_stay_on_this_machine_its_engine_comes_before_registries(
    tmp_path: Path,
) -> None:
    class Whole(Kept):
        def inspect(self, name: str) -> EngineImage | None:
            return EngineImage(id=ID, config={"User": name[:3]})

    made = cast("Engine", Whole())
    here = Configs(
        directory=tmp_path, cache=tmp_path, engine=lambda: made, registry=closed, on_engine=True
    )
    assert here.of(f"app@{IMAGE.digest}").user == "app"


def test_a_registry_that_does_not_answer_is_tried_once_in_a_run(web: Web, tmp_path: Path) -> None:
    class Counted(Registry):
        tried = 0

        def is_reachable(self, host: str) -> bool:
            Counted.tried += 1
            return super().is_reachable(host)

    registry = Counted(web, lambda _: None)
    configs = Configs(directory=tmp_path, cache=tmp_path, engine=engine, registry=lambda: registry)
    for name in ("one", "two"):
        with pytest.raises(Unreachable, match="cannot be reached"):
            configs.of(f"127.0.0.1:9/{name}@{IMAGE.digest}", quick=True)
    assert Counted.tried == 1


def test_what_is_not_to_be_kept_leaves_nothing(server: FakeRegistry, configs: Configs) -> None:
    configs.at_registry(f"{server.host}/app@{IMAGE.digest}", keep=False)
    assert not configs.directory.exists()


def test_offline_an_unknown_image_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="`--offline` is given"):
        offline(tmp_path).at_registry(f"example.com/app@{IMAGE.digest}")


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "[]",
        lambda _: '{"manifest": 1, "config": 2}',
        lambda text: json.dumps({**json.loads(text), "config": '{"config": {"Cmd": ["evil"]}}'}),
        lambda text: json.dumps({**json.loads(text), "manifest": "{}"}),
        lambda _: '{"manifest": "\\ud800", "config": ""}',
    ],
)
def test_a_file_that_is_not_what_was_kept_is_asked_for_again(
    server: FakeRegistry, configs: Configs, change: Any
) -> None:
    reference = f"{server.host}/app@{IMAGE.digest}"
    first = configs.at_registry(reference)
    (path,) = configs.directory.iterdir()
    path.write_text(change(path.read_text()))
    asked = len(server.lines)
    assert configs.at_registry(reference) == first
    assert len(server.lines) > asked


def test_a_directory_that_cannot_be_written_costs_a_request(
    server: FakeRegistry, configs: Configs
) -> None:
    configs.directory.write_text("a file")
    reference = f"{server.host}/app@{IMAGE.digest}"
    assert configs.at_registry(reference) == configs.at_registry(reference)


def test_a_tag_is_never_kept_as_itself(server: FakeRegistry, configs: Configs) -> None:
    assert configs.at_registry(f"{server.host}/app:1").user == "node"
    asked = len(server.lines)
    assert configs.at_registry(f"{server.host}/app:1").user == "node"
    assert len(server.lines) > asked


def test_the_engine_tells_of_its_own_images(configs: Configs) -> None:
    assert configs.in_engine("mine:1").user == "me"
    with pytest.raises(SandboxfileError, match="there is no image"):
        configs.in_engine("other:1")


def test_what_the_engine_said_when_it_made_an_image_is_not_asked_again(configs: Configs) -> None:
    configs.learn("other:1", {"User": "made"})
    assert configs.in_engine("other:1").user == "made"
    configs.learn("mine:1", {})  # an engine that said nothing
    assert configs.in_engine("mine:1").user == "me"


class Reading(Kept):
    """An engine that counts how often it is asked."""

    def __init__(self, image_id: str = ID, text: bytes = b"ID=debian") -> None:
        self.id, self.text = image_id, text
        self.there: set[str] = set()
        self.asked: list[str] = []

    def inspect(self, name: str) -> EngineImage | None:
        self.asked.append(name)
        return EngineImage(id=self.id, config={"User": "me"}) if name in self.there else None

    def read(self, image: str, *paths: str) -> bytes:
        self.asked.append(" ".join((image, *paths)))
        return self.text

    def configs(self, tmp_path: Path) -> Configs:
        """Return the configurations as another run would see them."""
        made = cast("Engine", self)
        state, cache = tmp_path / "configs", tmp_path / "cache"
        return Configs(directory=state, cache=cache, engine=lambda: made, registry=closed)


LOOKED = f"{ID} {' '.join(OS_RELEASE)}"


def test_the_engine_is_asked_once_for_what_is_there_and_again_for_what_is_not(
    tmp_path: Path,
) -> None:
    engine = Reading()
    configs = engine.configs(tmp_path)
    assert configs.inspected("mine:1") is None
    engine.there.add("mine:1")
    assert configs.of("mine:1") == configs.in_engine("mine:1") == configs.here("mine:1")
    assert configs.inspected("mine:1") == configs.inspected("mine:1")
    assert engine.asked == ["mine:1", "mine:1"]


@pytest.mark.parametrize("text", [b"ID=debian", b""])
def test_an_image_is_looked_into_once_by_all_runs(tmp_path: Path, text: bytes) -> None:
    engine = Reading(text=text)
    engine.there |= {"mine:1", "same:1"}
    for _ in range(2):
        configs = engine.configs(tmp_path)
        found = {configs.os_release(name) for name in ("mine:1", "same:1", "mine:1")}
        assert found == {text.decode()}
    assert engine.asked.count(LOOKED) == 1


def test_an_image_that_is_not_there_is_not_looked_into(tmp_path: Path) -> None:
    engine = Reading()
    assert engine.configs(tmp_path).os_release("mine:1") == ""
    assert engine.asked == ["mine:1"]


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "sha256:short"])
def test_what_is_no_id_names_no_file(tmp_path: Path, image_id: str) -> None:
    engine = Reading(image_id)
    engine.there.add("mine:1")
    for _ in range(2):
        assert engine.configs(tmp_path).os_release("mine:1") == "ID=debian"
    assert not (tmp_path / "cache").exists()
    assert len(engine.asked) == 4


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "other").write_text("ID=other")
    (tmp_path / "cache" / ID.removeprefix("sha256:")).symlink_to(tmp_path / "other")
    engine = Reading()
    engine.there.add("mine:1")
    assert engine.configs(tmp_path).os_release("mine:1") == "ID=debian"
    assert (tmp_path / "other").read_text() == "ID=other"


def test_without_a_cache_an_image_is_looked_into_by_each_run(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    engine = Reading()
    engine.there.add("mine:1")
    for _ in range(2):
        assert engine.configs(tmp_path).os_release("mine:1") == "ID=debian"
    assert engine.asked.count(LOOKED) == 2
