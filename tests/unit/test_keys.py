import json
import os
import random
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile import keys
from sandboxfile.contents import FileRecord, Kind, Manifest
from sandboxfile.context import select
from sandboxfile.errors import ConfigError
from sandboxfile.gathering import Ground
from sandboxfile.model import (
    Account,
    BootstrapBase,
    Copy,
    Env,
    ImageBase,
    Install,
    InstallProject,
    Ready,
    Resources,
    Run,
    Template,
    Workdir,
)
from sandboxfile.places import Position
from sandboxfile.statcache import NoCache

GOLDEN = Path(__file__).parents[1] / "golden" / "keys.json"
AT = Position("novita.yaml", 1, 1)
ELSEWHERE = Position("other.yaml", 7, 7)
EMPTY = sha256(b"").hexdigest()
CONTENT = Manifest(
    files=(
        FileRecord("a.py", "file", executable=True, content=EMPTY),
        FileRecord("empty", "directory"),
        FileRecord("link", "link", content="/usr/bin/python3"),
        FileRecord("\udcff\n", "file", content=EMPTY),
    )
)
LOCK = Manifest(files=(FileRecord("package.json", "file", content=EMPTY),), single=True)
COPY = Copy(sources=("app/",), to="/app/", root=Path("/w"), owner="user", mode="0755", at=AT)
PROJECT = InstallProject(
    manager="npm", copy=COPY, files=("package.json",), locked=False, to="/srv", at=AT
)
FULL = Template(
    name="agent",
    base=ImageBase(image="python:3.12-slim", at=AT),
    instructions=(
        Env(values={"B": "2", "A": "é\n"}, at=AT),
        Account(user="user", at=AT),
        Install(manager="apt", packages=("git", "jq"), at=AT),
        PROJECT,
        COPY,
        Run(command="make", user="user", secrets=("token",), at=AT),
        Workdir(path="/app", owner="user", at=AT),
    ),
    user="user",
    workdir="/app",
    start="python -m app",
    ready=Ready(kind="url", value="http://localhost:8000/", status=204, at=AT),
    resources=Resources(cpu=4, memory=2048),
    tags=("stable",),
    pre_boot="sync",
    at=AT,
)
BARE = Template(
    name="bare",
    base=FULL.base,
    instructions=(),
    user=None,
    workdir=None,
    start=None,
    ready=None,
    resources=Resources(),
    tags=(),
    pre_boot=None,
    at=AT,
)
IMAGE = keys.image_record("sha256:" + "ab" * 32)
BOOTSTRAP = BootstrapBase(distribution="debian", suite="bookworm", include=("curl",), at=AT)


def of(template: Template, base: Mapping[str, object] = IMAGE) -> keys.Keys:
    return keys.of(template, base=base, contents={1: keys.content(LOCK), 2: keys.content(CONTENT)})


def swapped(template: Template, index: int, **changes: object) -> Template:
    """Change one instruction of a template."""
    instructions = list(template.instructions)
    instructions[index] = replace(instructions[index], **changes)  # type: ignore[arg-type]
    return replace(template, instructions=tuple(instructions))


# --- pinned ----------------------------------------------------------------------------------

BASES: Mapping[str, Mapping[str, object]] = {
    "image": IMAGE,
    "template": keys.template_record("sf1:" + "cd" * 32),
    "remote": keys.remote_record("base:stable"),
    "bootstrap": keys.bootstrap_record(BOOTSTRAP, "sha256:" + "ef" * 32),
    "dockerfile": keys.dockerfile_record(
        EMPTY,
        CONTENT,
        stage="final",
        args={"X": "1"},
        images={"busybox:1": "sha256:" + "01" * 32},
    ),
}


def measured() -> dict[str, dict[str, object]]:
    """Compute everything that the golden file pins."""
    cases = {f"full on {name}": of(FULL, base) for name, base in BASES.items()}
    cases["bare"] = of(BARE)
    cases["steps"] = of(replace(FULL, places={"steps": AT}))
    return {
        name: {"image": k.image_key, "template": k.template_key, "parts": dict(k.parts)}
        for name, k in cases.items()
    }


def test_keys_are_the_same_in_every_version_and_on_every_platform() -> None:
    """A change here makes every user build everything again: raise RECIPE, and say so."""
    assert measured() == json.loads(GOLDEN.read_text())


def test_the_canonical_form_is_pinned() -> None:
    value = {"b": (1, True, None), "a": MappingProxyType({"é": '\udcff\n"\\/'}), "Z": []}
    expected = rb'{"Z":[],"a":{"\u00e9":"\udcff\n\"\\/"},"b":[1,true,null]}'
    assert keys.canonical(value) == expected
    assert keys.digest(value) == "sf1:" + sha256(expected).hexdigest()
    assert keys.short(value) == sha256(expected).hexdigest()[:8]


@pytest.mark.parametrize("value", [b"x", {1, 2}, Path("/"), object()])
def test_what_is_no_json_has_no_canonical_form(value: object) -> None:
    with pytest.raises(TypeError, match="has no canonical form"):
        keys.canonical({"a": value})


# --- what is in a key, and what is not -------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        replace(FULL, name="other"),
        replace(FULL, tags=("edge",)),
        replace(FULL, at=ELSEWHERE),
        replace(FULL, places={"env": ELSEWHERE}),
        replace(FULL, base=ImageBase(image="python:3.12", at=ELSEWHERE)),
        swapped(FULL, 4, sources=("./app",), root=Path("/elsewhere"), at=ELSEWHERE),
        swapped(FULL, 4, ignore=("*.pyc",)),
        swapped(FULL, 5, at=ELSEWHERE),
    ],
)
def test_names_tags_and_places_are_in_no_key(template: Template) -> None:
    found, expected = of(template), of(FULL)
    assert (found.image_key, found.template_key) == (expected.image_key, expected.template_key)
    assert found.parts == expected.parts


IMAGE_CHANGES = {
    "env": [
        swapped(FULL, 0, values={"A": "é\n", "B": "2"}),
        swapped(FULL, 0, values={"B": "2", "A": "é"}),
        swapped(FULL, 0, values={"B2": "", "A": "é\n"}),
    ],
    "user": [swapped(FULL, 1, user="other"), replace(FULL, user=None), replace(FULL, user="root")],
    "packages": [
        swapped(FULL, 2, packages=("jq", "git")),
        swapped(FULL, 2, packages=("git jq",)),
        swapped(FULL, 2, manager="pip"),
        swapped(FULL, 3, locked=True),
        swapped(FULL, 3, files=()),
        swapped(FULL, 3, to="/opt"),
        swapped(FULL, 3, copy=replace(COPY, to="/opt")),
        swapped(FULL, 3, manager="bun"),
    ],
    "files": [
        swapped(FULL, 4, to="/other"),
        swapped(FULL, 4, owner=None),
        swapped(FULL, 4, mode="0644"),
    ],
    "run": [
        swapped(FULL, 5, command="make "),
        swapped(FULL, 5, user=None),
        swapped(FULL, 5, secrets=()),
    ],
    "workdir": [
        swapped(FULL, 6, path="/"),
        swapped(FULL, 6, owner=None),
        replace(FULL, workdir="/"),
    ],
}
SNAPSHOT_CHANGES = {
    "start": [replace(FULL, start="x"), replace(FULL, start=""), replace(FULL, start=None)],
    "ready": [
        replace(FULL, ready=None),
        replace(FULL, ready=Ready(kind="url", value="http://localhost:8000/", at=AT)),
        replace(FULL, ready=Ready(kind="command", value="http://localhost:8000/", at=AT)),
    ],
    "resources": [
        replace(FULL, resources=Resources(cpu=2, memory=2048)),
        replace(FULL, resources=Resources(cpu=4, memory=1024)),
    ],
    "pre_boot": [replace(FULL, pre_boot=None), replace(FULL, pre_boot="x")],
}


def pairs(changes: Mapping[str, list[Template]]) -> list[tuple[str, Template]]:
    return [(part, template) for part, found in changes.items() for template in found]


def differing(one: keys.Keys, other: keys.Keys) -> set[str]:
    """Return the parts that only one of the two has, or that are not the same in both."""
    return {name for name, _ in one.parts.items() ^ other.parts.items()}


@pytest.mark.parametrize(("part", "template"), pairs(IMAGE_CHANGES))
def test_what_changes_the_image_changes_both_keys_and_one_part(
    part: str, template: Template
) -> None:
    before, after = of(FULL), of(template)
    assert after.image_key != before.image_key
    assert after.template_key != before.template_key
    assert differing(after, before) == {part}


@pytest.mark.parametrize(("part", "template"), pairs(SNAPSHOT_CHANGES))
def test_what_changes_the_snapshot_leaves_the_image(part: str, template: Template) -> None:
    before, after = of(FULL), of(template)
    assert after.image_key == before.image_key
    assert after.template_key != before.template_key
    assert differing(after, before) == {part}


def test_all_keys_of_all_changes_differ() -> None:
    changed = [of(each) for _, each in pairs({**IMAGE_CHANGES, **SNAPSHOT_CHANGES})]
    assert len({found.template_key for found in changed}) == len(changed)


def test_the_order_of_instructions_is_in_the_image_key() -> None:
    turned = replace(FULL, instructions=(*FULL.instructions[1:], FULL.instructions[0]))
    assert of(turned).image_key != of(FULL).image_key


def test_the_order_of_steps_is_a_part_of_its_own() -> None:
    steps = replace(FULL, places={"steps": AT})
    turned = replace(steps, instructions=(*FULL.instructions[1:], FULL.instructions[0]))
    assert differing(of(turned), of(steps)) == {"steps"}


def test_only_the_parts_that_are_there_have_a_digest() -> None:
    assert set(of(BARE).parts) == {"base", "resources"}
    assert set(of(FULL).parts) == {
        "base", "env", "files", "packages", "pre_boot", "ready", "resources", "run", "start",
        "user", "workdir",
    }  # fmt: skip
    assert list(of(FULL).parts) == sorted(of(FULL).parts)
    assert all(len(digest) == 8 for digest in of(FULL).parts.values())


def test_every_base_makes_another_image() -> None:
    others = [
        keys.dockerfile_record(EMPTY, CONTENT, stage=None, args={"X": "1"}, images={}),
        keys.dockerfile_record(EMPTY, CONTENT, stage=None, args={}, images={}),
        keys.dockerfile_record(EMPTY, LOCK, stage=None, args={}, images={}),
        keys.dockerfile_record(EMPTY[::-1], LOCK, stage=None, args={}, images={}),
        keys.bootstrap_record(BOOTSTRAP, ""),
        keys.bootstrap_record(replace(BOOTSTRAP, suite="trixie"), ""),
        keys.bootstrap_record(replace(BOOTSTRAP, snapshot="20260101T000000Z"), ""),
        keys.bootstrap_record(replace(BOOTSTRAP, epoch=1), ""),
    ]
    found = [of(BARE, base) for base in (*BASES.values(), *others)]
    assert len({each.image_key for each in found}) == len(found)
    assert differing(found[1], found[0]) == {"base"}


def test_content_is_known_by_the_part_it_belongs_to() -> None:
    found = keys.by_part(FULL, {1: LOCK, 2: CONTENT})
    assert found == {"packages": (LOCK,), "files": (CONTENT,)}
    assert keys.by_part(BARE, {}) == {}


# --- content ---------------------------------------------------------------------------------


def manifest(root: Path, *sources: str) -> Manifest:
    copy = Copy(sources=sources, to="/app/", root=root, at=AT)
    return keys.manifest(select(copy, Ground(root)), NoCache())


def canonical(content: Manifest) -> bytes:
    template = replace(BARE, instructions=(COPY,))
    return keys.of(template, base=IMAGE, contents={1: keys.content(content)}).image_key.encode()


def test_a_manifest_has_all_that_decides(tmp_path: Path) -> None:
    (tmp_path / "app/empty").mkdir(parents=True)
    (tmp_path / "app/run").write_bytes(b"")
    (tmp_path / "app/run").chmod(0o755)
    (tmp_path / "app/to").symlink_to("run")
    assert manifest(tmp_path, "app") == Manifest(
        files=(
            FileRecord("empty", "directory", source="app/empty"),
            FileRecord("run", "file", executable=True, content=EMPTY, source="app/run"),
            FileRecord("to", "link", content="run", source="app/to"),
        )
    )
    assert manifest(tmp_path, "app/run").single


def test_unreadable_files_are_listed(tmp_path: Path) -> None:
    for number in range(22):
        (tmp_path / f"f{number:02}").write_text("")
    (tmp_path / "g").write_text("")
    found = select(Copy(sources=(".",), to="/", root=tmp_path, at=AT), Ground(tmp_path))
    for number in range(22):
        (tmp_path / f"f{number:02}").unlink()
    with pytest.raises(ConfigError) as caught:
        keys.manifest(found, NoCache())
    assert str(caught.value).startswith(
        "novita.yaml:1:1: error: cannot read `f00`: No such file or directory, `f01`: "
    )
    assert str(caught.value).endswith("`f19`: No such file or directory and 2 more")
    (tmp_path / "f00").write_text("")
    for number in range(1, 22):
        (tmp_path / f"f{number:02}").write_text("")
    (tmp_path / "g").unlink()
    with pytest.raises(ConfigError, match=r"cannot read `g`: No such file or directory$"):
        keys.manifest(found, NoCache())


def test_the_key_is_the_same_in_every_checkout(tmp_path: Path) -> None:
    seen = set()
    names = [f"d{n}/{m}" for n in range(3) for m in ("x", "é", ".h")]
    for seed, umask in enumerate((0o022, 0o077)):
        root = tmp_path / f"checkout {seed}"
        before = os.umask(umask)
        try:
            for name in random.Random(seed).sample(names, len(names)):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(name)
                os.utime(root / name, (seed, seed))
        finally:
            os.umask(before)
        seen.add(canonical(manifest(root, ".")))
    assert len(seen) == 1


NAMES = st.text(st.sampled_from(["a", "b", "/", "é", "\n", '"', "\udcff", "0"]), max_size=3)
KINDS: tuple[Kind, ...] = get_args(Kind)
RECORDS = st.tuples(
    NAMES,
    st.sampled_from(KINDS),
    st.booleans(),
    st.sampled_from(["", "a", "b", EMPTY]),
).map(lambda row: FileRecord(*row))
MANIFESTS = st.builds(
    Manifest, files=st.lists(RECORDS, max_size=4).map(tuple), single=st.booleans()
)


@given(MANIFESTS, MANIFESTS)
def test_different_trees_have_different_keys(one: Manifest, other: Manifest) -> None:
    assert (canonical(one) == canonical(other)) is (one == other)


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_different_names_stay_different(one: bytes, other: bytes) -> None:
    """Names are bytes; those that are no UTF-8 must not fall together."""
    first, second = (keys.canonical(os.fsdecode(name)) for name in (one, other))
    assert (first == second) is (one == other)


@given(MANIFESTS, st.binary(max_size=6), st.text(max_size=6))
def test_content_stands_in_a_key_as_the_encoder_writes_it(
    manifest: Manifest, name: bytes, link: str
) -> None:
    more = FileRecord(os.fsdecode(name), "link", content=link)
    whole = Manifest(files=(*manifest.files, more), single=manifest.single)
    plain = [[each.kind, each.name, each.executable, each.content] for each in whole.files]
    assert keys.content(whole) == (keys.canonical(plain).decode("ascii"), whole.single)


@given(
    st.text(max_size=6),
    st.none() | st.text(max_size=6),
    st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3),
    st.lists(st.text(max_size=6), max_size=3).map(tuple),
)
def test_an_instruction_stands_in_a_key_as_the_encoder_writes_it(
    text: str, word: str | None, values: dict[str, str], words: tuple[str, ...]
) -> None:
    pairs = [list(pair) for pair in values.items()]
    for instruction, record in (
        (Env(values=values, at=AT), {"env": pairs}),
        (Account(user=text, at=AT), {"account": text}),
        (Install(manager="apt", packages=words, at=AT), {"install": "apt", "packages": words}),
        (
            Run(command=text, user=word, secrets=words, at=AT),
            {"run": text, "user": word, "secrets": words},
        ),
        (Workdir(path=text, owner=word, at=AT), {"workdir": text, "owner": word}),
    ):
        _, written = keys._written(instruction)
        assert written == keys.canonical(record).decode("ascii")
