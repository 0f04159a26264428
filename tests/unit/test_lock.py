"""Applications read template IDs with one call."""

from pathlib import Path

import pytest

from sandboxfile import lock
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.lockfile import Entry, Lock, update

KEY = "sf1:" + "0" * 64


def write(path: Path, target: str, template_id: str) -> None:
    entry = Entry(template_id=template_id, build_id="b", image_key=KEY, template_key=KEY)
    update(path, lambda old: old.with_entry(target, "api", entry))


@pytest.mark.parametrize("argument", ["", "novita.lock"])
def test_ids_are_found_by_target_and_template(argument: str, tmp_path: Path) -> None:
    write(tmp_path / "novita.lock", "prod", "remote")
    write(tmp_path / "novita.local.lock", "local", "here")
    targets = lock.load(tmp_path / argument)
    assert targets["prod"]["api"].template_id == "remote"
    assert targets["local"]["api"].template_id == "here"


def test_the_lock_of_the_current_directory_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "novita.local.lock", "local", "here")
    monkeypatch.chdir(tmp_path)
    assert list(lock.load()) == ["local"]


def test_nothing_built_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SandboxfileError) as caught:
        lock.load(tmp_path)
    assert caught.value.message == f"`{tmp_path}/novita.lock` has no template IDs"
    assert "sandboxfile build" in caught.value.hint
    update(tmp_path / "novita.lock", lambda _: Lock(resolved={"a b": "sha256:" + "0" * 64}))
    with pytest.raises(SandboxfileError, match="has no template IDs"):
        lock.load(tmp_path)


def test_a_bad_lock_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "novita.lock").write_text("version: 9\n")
    with pytest.raises(ConfigError, match="format 9"):
        lock.load(tmp_path)
