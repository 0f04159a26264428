"""The layer cache of the local service: what is built again, and what is not."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxfile.buildstatus import BuildStatus
from sandboxfile.engines import Engine
from sandboxfile.local import layers
from sandboxfile.local.service import LocalService, open_box
from sandboxfile.model import Secret
from sandboxfile.service import TemplateService
from sandboxfile.triggers import BuildStep, Start
from sandboxfile.web import Web
from tests.fakes import calls
from tests.integration.test_local_service import Running, step

pytestmark = pytest.mark.engine
HASH = "ab" * 32


@pytest.fixture
def running(engine: Engine, tmp_path: Path) -> Iterator[Running]:
    """A local service; all its layers and templates are removed afterwards."""
    with ExitStack() as stack:
        service = LocalService(engine, tmp_path / "data", logins=lambda _: None, parallel=2)
        url = service.start()
        stack.callback(engine.remove_labelled, {layers.LABEL: "false"})
        stack.callback(engine.remove_labelled, {layers.LABEL: "true"})
        stack.callback(service.stop)
        web = Web(user_agent="sandboxfile-tests")
        stack.callback(web.close)
        yield Running(service=service, client=TemplateService(web, url, Secret("k")), url=url)


def cached(running: Running, status: BuildStatus) -> list[str]:
    """Return the kinds of the steps of a build, those that were cached marked by a star."""
    assert status.state == "ready", status.reason
    kinds = []
    for line in running.log(status):
        words = line.removeprefix("CACHED ").split()
        if words[0] in {"[base]", "[builder"} and "[stdout]:" not in words:
            kind = words[1] if words[0] == "[base]" else words[2]
            kinds.append(f"*{kind}" if line.startswith("CACHED ") else kind)
    return kinds


def output(running: Running, status: BuildStatus) -> str:
    return "".join(line[-32:] for line in running.log(status) if "[stdout]" in line)


def upload(running: Running, content: str) -> None:
    """Put an archive with one file where links lead to."""
    ids = running.register("uploads")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        info = tarfile.TarInfo("data.txt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content.encode()))
    link = running.client.file_link(ids.template_id, HASH)
    web = Web(user_agent="sandboxfile-tests")
    assert web.send("PUT", link.url.reveal(), content=file.getvalue()).status == 200
    web.close()


RANDOM = "od -An -N16 -tx1 /dev/urandom | tr -d ' \\n' >>rnd; cat rnd; echo"


def steps() -> tuple[BuildStep, ...]:
    return (
        step("ENV", "A", "1"),
        step("RUN", RANDOM),
        step("USER", "bob"),
        step("WORKDIR", "/srv/app"),
        BuildStep(type="COPY", args=("data.txt", ".", "", ""), files_hash=HASH),
        step("ENV", "B", "$A$A"),
        step("RUN", "id -un; pwd; cat data.txt; echo $B"),
    )


NEW = ["FROM", "DEFAULT", "ENV", "RUN", "USER", "WORKDIR", "COPY", "ENV", "RUN"]


def marked(count: int) -> list[str]:
    return [f"*{kind}" if number < count else kind for number, kind in enumerate(NEW)]


def test_steps_are_carried_out_once(running: Running, engine: Engine, busybox: str) -> None:
    upload(running, "hello\n")
    base = Start(image=busybox, steps=steps())
    first = running.build("one", base, "v1")
    assert cached(running, first) == NEW
    made = output(running, first)
    assert made.endswith("bob/srv/apphello11") or "hello" in made

    # The same again, under another name: all of it is there, whatever was uploaded since.
    again = running.build("two", base, "v1")
    assert cached(running, again) == marked(9)
    assert output(running, again) == ""
    with open_box(running.service, engine, "two:v1") as it:
        assert it.box.execute(("/bin/cat", "/home/user/rnd", "data.txt"), workdir="/srv/app").output
        assert (it.user, it.workdir, it.env) == ("bob", "/srv/app", {"A": "1", "B": "11"})

    # A changed step: what is before it stays, also the quick ones behind the last layer.
    other = (*steps()[:5], step("ENV", "B", "other"), steps()[6])
    changed = running.build("one", replace(base, steps=other), "v1")
    assert cached(running, changed) == marked(7)
    assert "bob" in output(running, changed)
    assert "other" in output(running, changed)
    shorter = running.build("one", replace(base, steps=(*steps()[:4], step("RUN", "id -un; pwd"))))
    assert cached(running, shorter) == [*marked(6)[:6], "RUN"]
    assert "bob" in output(running, shorter)

    # A forced step is built, and all after it; then what it made is taken.
    forced = tuple(replace(each, force=n == 1) for n, each in enumerate(steps()))
    rebuilt = running.build("one", replace(base, steps=forced), "v1")
    assert cached(running, rebuilt) == marked(3)
    assert output(running, rebuilt)[:32] != made[:32]
    assert cached(running, running.build("one", base, "v1")) == marked(9)
    assert cached(running, running.build("one", replace(base, force=True), "v1")) == NEW


def test_a_base_that_changed_under_its_name_is_noticed(
    running: Running, engine: Engine, busybox: str
) -> None:
    moving = "sandboxfile-tests/moving:1"
    run = (step("RUN", "cat /etc/issue || echo none"),)
    engine.tag(busybox, moving)
    try:
        running.build("a", Start(image=moving, steps=run), "v1")
        with engine.box(busybox, labels={}) as box:
            box.execute(("/bin/sh", "-c", "echo other >/etc/issue"))
            box.commit(moving, labels={})
        status = running.build("a", Start(image=moving, steps=run), "v1")
        assert cached(running, status) == ["FROM", "DEFAULT", "RUN"]
        assert "other" in output(running, status)
    finally:
        engine.untag(moving)


def test_what_is_gone_from_the_engine_is_built_again(
    running: Running, engine: Engine, busybox: str
) -> None:
    base = Start(image=busybox, steps=(step("RUN", "echo one"), step("RUN", "echo two")))
    running.build("a", base, "v1")
    store = running.service._store
    keys = [
        key
        for (key,) in store._db.rows("SELECT key FROM layer WHERE image IS NOT NULL ORDER BY used")
    ]
    assert len(keys) == 2
    # An image with the tag of a layer is nothing by itself: only the id in the row counts.
    engine.untag(layers.tag(keys[1]))
    engine.tag(busybox, layers.tag(keys[1]))
    status = running.build("a", base, "v1")
    assert cached(running, status) == ["*FROM", "*DEFAULT", "*RUN", "RUN"]

    # A template that goes takes its layers with it, but not those that another one needs.
    running.build("b", replace(base, steps=base.steps[:1]), "v1")
    calls.delete(running.url, "k", "a")
    assert engine.find(layers.tag(keys[0])) is not None
    assert engine.find(layers.tag(keys[1])) is None
    calls.delete(running.url, "k", "b")
    assert engine.find(layers.tag(keys[0])) is None
    assert store.layers.known(keys) == {}


def test_two_builds_of_one_layer_both_end_right(running: Running, busybox: str) -> None:
    base = Start(image=busybox, steps=(step("RUN", f"sleep 1; {RANDOM}"), step("RUN", "cat rnd")))
    both = [running.begin(name, base, "v1") for name in ("a", "b")]
    for ids in both:
        status = running.end(ids)
        assert status.state == "ready", status.reason
        first, second = (line[-32:] for line in running.log(status) if "[stdout]" in line)
        assert first == second, "each goes on with what it made"
    assert "*RUN" in cached(running, running.build("c", base, "v1"))


def test_a_slow_layer_is_gone_on_from_in_a_new_box(running: Running, busybox: str) -> None:
    """Making an image of much data takes long, and would again after each step."""
    much = step("RUN", "dd if=/dev/urandom of=big bs=1M count=220 2>/dev/null; hostname")
    base = Start(image=busybox, steps=(much, step("RUN", "ls big; hostname"), step("RUN", "true")))
    status = running.build("a", base, "v1")
    assert status.state == "ready", status.reason
    assert "big" in output(running, status)
    assert cached(running, running.build("a", base, "v1"))[2:] == ["*RUN", "*RUN", "*RUN"]
