"""Finding, reading and joining: the order of it, and what a file on disk can be."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.config import finding, load
from sandboxfile.errors import ConfigError
from sandboxfile.model import Workspace

SHORT = "version: 1\nbase: alpine\n"


def complaint(action: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        action()
    return str(caught.value)


# --- finding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["novita.yaml", "novita.yml"])
def test_the_file_of_a_directory_is_found(root: Path, name: str) -> None:
    (root / name).touch()
    assert finding.find(root, None) == root / name


def test_a_file_may_be_named(root: Path) -> None:
    (root / "other.yaml").touch()
    assert finding.find(root, "other.yaml") == root / "other.yaml"
    assert finding.find(Path("/"), str(root / "other.yaml")) == root / "other.yaml"


def test_a_file_further_up_is_found(root: Path) -> None:
    (root / "novita.yaml").touch()
    inner = root / "inner"
    inner.mkdir()
    assert finding.find(inner, None) == root / "novita.yaml"


def test_a_near_name_is_offered(root: Path) -> None:
    (root / "Novita.yaml").touch()
    assert "there is `Novita.yaml`: rename it" in complaint(lambda: finding.find(root, None))
    assert complaint(lambda: finding.find(root, "novta.yaml")) == (
        "novta.yaml:1:1: error: this file does not exist\nhint: did you mean `Novita.yaml`?"
    )


def test_two_candidates_are_not_chosen_from(root: Path) -> None:
    (root / "novita.yaml").touch()
    (root / "novita.yml").touch()
    assert "there are both `novita.yaml` and `novita.yml`" in complaint(
        lambda: finding.find(root, None)
    )


def test_a_directory_that_is_not_there_has_no_file(root: Path) -> None:
    assert "this file does not exist" in complaint(lambda: finding.find(root / "no", None))
    assert complaint(lambda: finding.find(root / "no", "x")) == (
        "no/x:1:1: error: this file does not exist"
    )


# --- reading ---------------------------------------------------------------------------------


def test_a_workspace_is_where_its_file_is(root: Path) -> None:
    (root / "novita.yaml").write_text(SHORT)
    loaded = load.load(Path("novita.yaml"))
    assert loaded.root == root
    assert loaded.file == root / "novita.yaml"
    assert list(loaded.templates) == ["demo"]
    assert loaded.templates["demo"].base.at.file == "novita.yaml"


@pytest.mark.usefixtures("root")
def test_a_file_elsewhere_is_shown_with_its_whole_path(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "elsewhere" / "novita.yaml"
    path.parent.mkdir()
    path.write_text(SHORT)
    assert load.load(path).templates["elsewhere"].base.at.file == str(path)


def test_a_directory_may_be_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    (root / "novita.yaml").write_text(SHORT)
    (tmp_path / "link").symlink_to(root)
    assert load.load(tmp_path / "link" / "novita.yaml").root == root


def test_a_link_beside_its_target_is_read(root: Path) -> None:
    (root / "real.yaml").write_text(SHORT)
    (root / "novita.yaml").symlink_to("real.yaml")
    assert load.load(root / "novita.yaml").templates


def test_a_link_to_elsewhere_is_not_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("hunter2")
    (root / "novita.yaml").symlink_to(tmp_path / "passwords")
    said = complaint(lambda: load.load(root / "novita.yaml"))
    assert "this file is a link that leaves its directory" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "this is a directory, not a file"),
        (os.mkfifo, "this is not a regular file"),
        (lambda path: path.symlink_to(path.name), "this file cannot be read"),
        (lambda _: None, "this file cannot be read: no such file or directory"),
    ],
    ids=["directory", "pipe", "loop", "gone"],
)
def test_what_is_no_file_is_not_waited_for(
    root: Path, make: Callable[[Path], None], said: str
) -> None:
    make(root / "novita.yaml")
    assert said in complaint(lambda: load.load(root / "novita.yaml"))


def test_bytes_that_are_no_text_are_a_problem_with_a_place(root: Path) -> None:
    (root / "novita.yaml").write_bytes(b"version: 1\nname: caf\xe9\n")
    assert complaint(lambda: load.load(root / "novita.yaml")).startswith(
        "novita.yaml:2:10: error: byte 0xe9 at offset 20 is not UTF-8"
    )


def test_a_working_directory_that_is_gone_does_not_matter(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "novita.yaml").write_text(SHORT)

    def gone() -> Path:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "cwd", gone)
    assert load.load(root / "novita.yaml").templates


def test_the_garbage_collector_is_left_as_it_was(read: Callable[[str], Workspace]) -> None:
    assert gc.isenabled()
    read(SHORT)
    assert gc.isenabled()
    gc.disable()
    try:
        read(SHORT)
        assert not gc.isenabled()
    finally:
        gc.enable()


# --- names -----------------------------------------------------------------------------------


def test_the_name_of_the_short_form(read: Callable[[str], Workspace]) -> None:
    assert list(read(SHORT + "name: other\n").templates) == ["other"]
    assert list(read(SHORT).templates) == ["demo"]


def test_a_directory_that_is_no_name_needs_one(tmp_path: Path) -> None:
    path = tmp_path / "My App" / "novita.yaml"
    path.parent.mkdir()
    path.write_text("version: 1\nbase: alpine\nuser: A\n")
    said = complaint(lambda: load.load(path))
    assert "`name` is missing, and the directory's name `My App` cannot stand in" in said
    assert "write `name: my-app`" in said
    assert "`A` is not a user" in said


def test_templates_keep_their_written_order(read: Callable[[str], Workspace]) -> None:
    text = "version: 1\ntemplates:\n  c: {extends: a}\n  b: {base: {template: c}}\n  a: {base: x}\n"
    assert list(read(text).templates) == ["c", "b", "a"]


def test_notes_are_ignored_everywhere(read: Callable[[str], Workspace]) -> None:
    read(
        "version: 1\nx-a: {b: '${c.d}'}\ndefaults: {x-a: 1}\n"
        "targets: {t: {provider: local, x-a: 1}}\n"
        "templates: {a: {base: {image: b, x-a: 1}, x-a: [2], resources: {x-a: 1}, "
        "ready: {port: 1, x-a: 1}, files: [{from: a, to: /a, x-a: 1}]}}\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: [a]", ["2:7: `base` must be text or a map, not a list"]),
        ("base: {template: 3}", ["2:18: `3` is read as a number, and text is wanted"]),
        ("base: a\nsteps: [[b]]", ["3:9: `steps[0]` must be a map or text, not a list"]),
        (
            "base: a\nrun: [{run: b, secrets: [3]}]",
            ["3:26: `3` is read as a number, and text is wanted"],
        ),
        ("base: a\nfiles: [{form: b, to: /c}]", ["3:10: unknown key `form` in `files[0]`"]),
        ("base: a\nready: {delay: [b]}", ["3:16: `ready.delay` must be text, not a list"]),
        ("base: a\nengine: 3", ["3:9: `engine` must be text or a map, not the number `3`"]),
        ("base: a\ntargets: [b]", ["3:10: `targets` must be a map, not a list"]),
        ("base: a\nsecrets: {b: {env: 3}}", ["3:20: `3` is read as a number, and text is wanted"]),
    ],
)
def test_a_wrong_type_is_said_once(
    wrong: Callable[[str], list[str]], text: str, expected: list[str]
) -> None:
    assert wrong(f"version: 1\n{text}\n") == expected


# --- cost ---------------------------------------------------------------------------------------


HEAVY = ("jsonschema", "packaging", "docker", "httpx", "doit", "structlog", "rich", "asyncio",
         "tempfile", "subprocess", "unicodedata", "difflib")  # fmt: skip


def test_a_file_without_problems_is_loaded_without_heavy_imports(root: Path) -> None:
    (root / "novita.yaml").write_text(SHORT + "packages: {pip: [requests==2.32.3]}\nenv: {A: b}\n")
    program = (
        "import sys; from pathlib import Path; from sandboxfile.config import load; "
        "load.load(Path('novita.yaml')); "
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(load.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
