"""A packed workspace is the one that was loaded, or it is not believed."""

import os
import time
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxfile.config import load, packed
from sandboxfile.config.given import Given
from sandboxfile.model import Workspace

ROOT = Path(__file__).parents[3]
SHORT = "version: 1\nbase: alpine\n"
EXAMPLES = [ROOT / "novita.yaml.example", *sorted((ROOT / "examples").glob("*/novita.yaml"))]
WHOLE = """\
version: 1
members: ["m/*/novita.yaml"]
variables: {v: {default: a, env: V}}
secrets: {npm: {env: NPM}, pip: {file: pip.txt}}
engine: {buildx: cluster}
groups: {default: [one]}
targets: {t: {provider: local}}
templates:
  one: {base: python, packages: {pip: {requirements: r.txt}}, matrix: {x: [a, b]},
    ready: {port: 80}}
  two: {base: {template: four}, run: [{run: "${var.v}", secrets: [npm]}], env: {A: é}, tags: [x]}
  three: {base: {remote: "a:b"}, user: me, workdir: /a}
  four: {base: {dockerfile: Dockerfile, args: {A: b}}, resources: {cpu: 1, memory: 512}}
  five: {base: {debian: bookworm}, files: [a -> /b/, {from: a, to: /c/, ignore: [x]}]}
"""


@pytest.fixture
def config(root: Path) -> Path:
    (root / "m/a").mkdir(parents=True)
    (root / "m/a/novita.yaml").write_text(SHORT)
    (root / "r.txt").write_text("a==1\n")
    (root / "novita.yaml").write_text(WHOLE)
    return root / "novita.yaml"


def keep(config: Path, said: Given, file: Path, *, later_s: int = 60) -> Workspace:
    """Load and keep a workspace as one would that was last changed a while ago."""
    found = load.load(config, said)
    since = time.time_ns() + later_s * 10**9
    packed.write(file, config, said, found, since=since)
    return found


NOTHING_SAID = Given(environ={"V": "a"})


def test_what_was_loaded_comes_back_whole(config: Path, tmp_path: Path) -> None:
    found = keep(config, NOTHING_SAID, tmp_path / "kept")
    assert packed.read(tmp_path / "kept", config, NOTHING_SAID) == found


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_every_example_comes_back_whole(path: Path, tmp_path: Path) -> None:
    found = keep(path, Given(), tmp_path / "kept")
    assert packed.read(tmp_path / "kept", path, Given()) == found


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("port: 80", "port: 81"))


@pytest.mark.parametrize(
    "change",
    [
        edit,
        os.utime,
        lambda path: path.chmod(0o600),
        lambda path: (path.parent / "m/b").mkdir(),
        lambda path: (path.parent / "m/a/novita.yaml").unlink(),
        lambda path: (path.parent / "r.txt").write_text("-r s.txt\n"),
        lambda path: (path.parent / "s.txt").write_text(""),
    ],
)
def test_nothing_is_believed_once_something_changed(
    config: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept")
    change(config)
    assert packed.read(tmp_path / "kept", config, NOTHING_SAID) is None


def _classes(kind: Any) -> set[Any]:
    """All dataclasses that a value of a type may consist of."""
    if not is_dataclass(kind):
        return set().union(*map(_classes, get_args(kind)))
    return {kind}.union(*map(_classes, get_type_hints(kind).values()))


def test_every_class_that_a_workspace_consists_of_can_be_packed() -> None:
    assert _classes(Workspace) == set(packed.CLASSES)


def test_another_program_of_the_same_version_is_not_believed(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept")
    (tmp_path / "sandboxfile/config").mkdir(parents=True)
    monkeypatch.setattr(packed, "__file__", str(tmp_path / "sandboxfile/config/packed.py"))
    assert packed.read(tmp_path / "kept", config, NOTHING_SAID) is None


@pytest.mark.parametrize(
    "said", [Given(environ={"V": "b"}), Given(), Given(options={"v": "b"}, environ={"V": "a"})]
)
def test_another_value_of_a_variable_makes_another_workspace(
    config: Path, tmp_path: Path, said: Given
) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept")
    assert packed.read(tmp_path / "kept", config, said) is None


def test_a_link_is_followed_to_see_a_change(root: Path, tmp_path: Path) -> None:
    (root / "real.yaml").write_text(SHORT)
    config = root / "novita.yaml"
    config.symlink_to("real.yaml")
    assert packed.read(tmp_path / "kept", config, Given()) is None
    found = keep(config, Given(), tmp_path / "kept")
    assert packed.read(tmp_path / "kept", config, Given()) == found
    os.utime(root / "real.yaml")
    assert packed.read(tmp_path / "kept", config, Given()) is None


def test_each_link_on_the_way_is_looked_at(root: Path, tmp_path: Path) -> None:
    for name, base in (("one", "alpine"), ("two", "debian")):
        (root / name).mkdir()
        (root / name / "real.yaml").write_text(f"version: 1\nname: a\nbase: {base}\n")
    (root / "current").symlink_to("one")
    config = root / "novita.yaml"
    config.symlink_to("current/real.yaml")
    found = keep(config, Given(), tmp_path / "kept")
    assert packed.read(tmp_path / "kept", config, Given()) == found
    (root / "current").unlink()
    (root / "current").symlink_to("two")
    assert packed.read(tmp_path / "kept", config, Given()) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_file_of_somebody_else_is_not_even_unpacked(config: Path, tmp_path: Path) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept")
    os.chown(tmp_path / "kept", 12345, -1)
    assert packed.read(tmp_path / "kept", config, NOTHING_SAID) is None


def test_a_link_to_the_file_is_none(config: Path, tmp_path: Path) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept")
    (tmp_path / "link").symlink_to("kept")
    assert packed.read(tmp_path / "link", config, NOTHING_SAID) is None


def test_files_that_may_still_change_unseen_are_not_trusted(config: Path, tmp_path: Path) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept", later_s=0)
    assert not (tmp_path / "kept").exists()


def test_a_file_for_another_checkout_is_not_even_unpacked(
    config: Path, root: Path, tmp_path: Path
) -> None:
    other = root / "other/novita.yaml"
    other.parent.mkdir()
    other.write_text(SHORT)
    keep(other, NOTHING_SAID, tmp_path / "kept")
    assert packed.read(tmp_path / "kept", config, NOTHING_SAID) is None
    other.unlink()
    assert packed.read(tmp_path / "kept", other, NOTHING_SAID) is None


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_file_is_none(config: Path, tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / "kept").exists():
        keep(config, NOTHING_SAID, tmp_path / "kept")
    content = bytearray((tmp_path / "kept").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "damaged").write_bytes(content)
    assert packed.read(tmp_path / "damaged", config, NOTHING_SAID) is None
    (tmp_path / "damaged").write_bytes(content[:at])
    assert packed.read(tmp_path / "damaged", config, NOTHING_SAID) is None


def test_a_record_of_a_configuration_that_is_not_there_is_none(
    config: Path, tmp_path: Path
) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept")
    config.unlink()
    name, values, paths, _, body = packed._parts((tmp_path / "kept").read_bytes())
    parts = (name, values, paths, packed._marks(paths.split(b"\0")), body)
    (tmp_path / "kept").write_bytes(packed._joined(*parts))
    assert packed.read(tmp_path / "kept", config, NOTHING_SAID) is None


def test_places_are_found_by_name_in_what_was_kept(config: Path, tmp_path: Path) -> None:
    found = keep(config, NOTHING_SAID, tmp_path / "kept")
    again = packed.read(tmp_path / "kept", config, NOTHING_SAID)
    assert again is not None
    assert "two" in again.templates
    assert "nobody" not in again.templates
    template, known = again.templates["two"], found.templates["two"]
    assert template.places
    assert list(template.places.items()) == list(known.places.items())
    assert len(template.places) == len(known.places)
    assert template.place("run") == known.place("run") != template.at
    assert template.place("start") == template.at  # not written
    assert "start" not in template.places


def test_what_was_kept_can_be_kept_again(config: Path, tmp_path: Path) -> None:
    keep(config, NOTHING_SAID, tmp_path / "kept")
    again = packed.read(tmp_path / "kept", config, NOTHING_SAID)
    assert again is not None
    packed.write(tmp_path / "again", config, NOTHING_SAID, again, since=time.time_ns() + 60 * 10**9)
    assert packed.read(tmp_path / "again", config, NOTHING_SAID) == again


def test_what_no_workspace_consists_of_is_not_packed() -> None:
    with pytest.raises(LookupError, match="object"):
        packed._packed((object(),))
