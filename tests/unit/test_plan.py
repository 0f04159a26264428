"""Every decision follows from keys and lock, and says why."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sandboxfile.lockfile import Entry
from sandboxfile.model import (
    Base,
    BootstrapBase,
    DockerfileBase,
    ImageBase,
    RemoteBase,
    Resources,
    Template,
    TemplateBase,
)
from sandboxfile.places import Position
from sandboxfile.plan import (
    Action,
    Decision,
    Found,
    Known,
    Reason,
    as_json,
    decide,
    make,
    refine,
    steps,
    summary,
    table,
    why,
)

NAMED_AT = Position("novita.yaml", 3, 3)
BASE_AT = Position("novita.yaml", 4, 11)
IMAGE = ImageBase(image="python:3.12", at=BASE_AT)
PARTS = {"base": "0" * 8, "files": "1" * 8, "start": "2" * 8}


@dataclass(frozen=True, kw_only=True)
class FakeKeys:
    image_key: str = "sf1:" + "a" * 64
    template_key: str = "sf1:" + "b" * 64
    parts: Mapping[str, str] = field(default_factory=lambda: PARTS)


KEYS = FakeKeys()


def template(name: str = "api", base: Base = IMAGE, **places: int) -> Template:
    return Template(
        name=name,
        base=base,
        instructions=(),
        user=None,
        workdir=None,
        start=None,
        ready=None,
        resources=Resources(),
        tags=(),
        pre_boot=None,
        at=NAMED_AT,
        places={key: Position("novita.yaml", line, 5) for key, line in places.items()},
    )


def entry(keys: FakeKeys = KEYS, tags: tuple[str, ...] | None = (), image: str = "") -> Entry:
    return Entry(
        template_id="t1",
        build_id="b1",
        image=image,
        image_key=keys.image_key,
        template_key=keys.template_key,
        parts=keys.parts,
        tags=tags,
    )


def known(**values: object) -> Known:
    defaults: dict[str, object] = {"template": template(), "keys": KEYS, "entry": entry()}
    return Known(**{**defaults, **values})  # type: ignore[arg-type]


def decided(**values: object) -> Decision:
    return decide(known(**values), target="prod")


def texts(decision: Decision) -> list[str]:
    return [str(reason) for reason in decision.reasons]


OLD_SNAPSHOT = FakeKeys(template_key="sf1:" + "c" * 64)
OLD_IMAGE = FakeKeys(template_key="sf1:" + "c" * 64, image_key="sf1:" + "d" * 64)


def with_parts(old: FakeKeys, **parts: str) -> Entry:
    changed = {**PARTS, **parts}
    return entry(replace(old, parts={name: value for name, value in changed.items() if value}))


# --- from keys and lock ----------------------------------------------------------------------


def test_the_same_key_is_up_to_date() -> None:
    decision = decided()
    assert decision.action == "up to date"
    assert not decision.stale
    assert texts(decision) == ["the lock has key sf1:bbbbbbbb…"]


def test_a_template_that_the_lock_does_not_know_is_built() -> None:
    decision = decided(entry=None)
    assert decision.action == "build"
    assert texts(decision) == ["the lock has no `api` for target `prod` (novita.yaml:3:3)"]


@pytest.mark.parametrize(
    ("unresolved", "named"),
    [(("python:3.12", "node:22"), "`python:3.12`, `node:22`"), ((), "`api`")],
)
def test_a_base_that_is_not_resolved_means_build(unresolved: tuple[str, ...], named: str) -> None:
    decision = decided(keys=None, unresolved=unresolved)
    assert decision.action == "build"
    assert texts(decision) == [
        f"the digest of its base is not known yet: {named} (novita.yaml:4:11)"
    ]


def test_force_builds_whatever_is_known() -> None:
    decision = decide(known(), target="prod", force=True)
    assert (decision.action, decision.forced) == ("build", True)
    assert texts(decision) == ["`--force` is given (novita.yaml:3:3)"]


def test_a_new_start_command_is_a_new_snapshot_of_the_same_image() -> None:
    old = replace(with_parts(OLD_SNAPSHOT, start="9" * 8), image="ghcr.io/a/api@sha256:1")
    decision = decided(template=template(start=9), entry=old)
    assert decision.action == "snapshot"
    assert decision.image == "ghcr.io/a/api@sha256:1"
    assert texts(decision) == ["start command changed (novita.yaml:9:5)"]


def test_a_changed_file_is_a_build_and_the_file_is_named() -> None:
    old = replace(with_parts(OLD_IMAGE, files="9" * 8), image="ghcr.io/a/api@sha256:1")
    decision = decided(
        template=template(files=7),
        entry=old,
        changed={"files": ("app/a.py", "app/b.py", "app/c.py", "app/d.py", "app/e.py")},
    )
    assert decision.action == "build"
    assert decision.image is None
    assert texts(decision) == [
        "files changed: `app/a.py`, `app/b.py`, `app/c.py` and 2 more (novita.yaml:7:5)"
    ]


def test_a_file_is_named_as_it_can_be_printed() -> None:
    name = os.fsdecode(b"app/\x1b[31mred\nand \xff")
    old = with_parts(OLD_IMAGE, files="9" * 8)
    decision = decided(template=template(files=7), entry=old, changed={"files": (name,)})
    assert texts(decision) == [r"files changed: `app/\x1b[31mred\nand \udcff` (novita.yaml:7:5)"]


def test_where_the_earlier_files_are_not_known_that_is_said() -> None:
    old = with_parts(OLD_IMAGE, files="9" * 8, env="9" * 8)
    decision = decided(template=template(files=7, env=6), entry=old, changed=None)
    assert texts(decision) == [
        "environment removed (novita.yaml:6:5)",
        (
            "files changed, unknown which: this machine has no record of the earlier ones"
            " (novita.yaml:7:5)"
        ),
    ]
    assert texts(
        decided(template=template(files=7), entry=with_parts(OLD_IMAGE, files="9" * 8))
    ) == ["files changed (novita.yaml:7:5)"]


def test_parts_come_and_go_and_are_told_in_one_order() -> None:
    now = replace(KEYS, parts={**PARTS, "env": "3" * 8, "mounts": "4" * 8})
    decision = decided(
        template=template(env=6), keys=now, entry=with_parts(OLD_IMAGE, ready="9" * 8)
    )
    assert texts(decision) == [
        "environment added (novita.yaml:6:5)",
        "ready check removed (novita.yaml:3:3)",
        "`mounts` added (novita.yaml:3:3)",
    ]


@pytest.mark.parametrize("old", [OLD_IMAGE, replace(OLD_IMAGE, parts={})])
def test_a_new_key_with_the_same_parts_is_a_new_recipe(old: FakeKeys) -> None:
    decision = decided(entry=entry(old))
    assert decision.action == "build"
    assert texts(decision) == ["this version of sandboxfile makes it differently (novita.yaml:3:3)"]


DOCKERFILE = DockerfileBase(dockerfile=Path("/w/docker/Dockerfile"), context=Path("/w"), at=BASE_AT)
DEBIAN = BootstrapBase(distribution="debian", suite="bookworm", at=BASE_AT)
PARENT = TemplateBase(template="python", at=BASE_AT)
REMOTE = RemoteBase(remote="code:v1", at=BASE_AT)
FROM = "`Dockerfile` or what it is built from changed"
NOW = "changed: it is now sha256:eeeeeeeeeeee"
DIGEST = "sha256:" + "e" * 64


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"base": IMAGE}, "base image `python:3.12` changed"),
        ({"base": IMAGE, "digest": DIGEST}, f"base image `python:3.12` {NOW}"),
        ({"base": PARENT}, "base template `python` was rebuilt since"),
        ({"base": REMOTE}, "base template `code:v1` at the target changed"),
        ({"base": DOCKERFILE}, FROM),
        ({"base": DOCKERFILE, "files": ("src/x.c",)}, f"{FROM}: `src/x.c`"),
        ({"base": DEBIAN}, "base debian bookworm changed"),
        ({"base": DEBIAN, "digest": DIGEST}, f"base debian bookworm {NOW}"),
    ],
)
def test_a_changed_base_is_named(values: dict[str, object], text: str) -> None:
    decision = decided(
        template=template(base=values["base"]),  # type: ignore[arg-type]
        entry=with_parts(OLD_IMAGE, base="9" * 8),
        base=values.get("digest", ""),
        changed={"base": values.get("files", ())},
    )
    assert texts(decision) == [f"{text} (novita.yaml:4:11)"]


def test_a_template_whose_parent_is_rebuilt_says_so() -> None:
    parent = known(template=template("python"), entry=None)
    child = known(
        template=template("agent", base=TemplateBase(template="python", at=BASE_AT)),
        entry=with_parts(OLD_IMAGE, base="9" * 8),
    )
    first, second = make([parent, child], target="prod")
    assert (first.template, first.action) == ("python", "build")
    assert (second.template, second.action) == ("agent", "build")
    assert texts(second) == ["base template `python` is rebuilt (novita.yaml:4:11)"]


def test_only_the_named_templates_are_forced() -> None:
    decisions = make(
        [known(template=template("a")), known(template=template("b"))], target="prod", force=["b"]
    )
    assert [decision.action for decision in decisions] == ["up to date", "build"]


@pytest.mark.parametrize(
    ("wanted", "had", "expected"),
    [
        (("b", "a"), (), ["tags added: `a`, `b`"]),
        ((), ("a",), ["tags removed: `a`"]),
        (("a",), ("b",), ["tags added: `a`", "tags removed: `b`"]),
    ],
)
def test_other_tags_are_moved(
    wanted: tuple[str, ...], had: tuple[str, ...], expected: list[str]
) -> None:
    decision = decided(template=template(tags=8), tags=wanted, entry=entry(tags=had))
    assert decision.action == "retag"
    assert texts(decision) == [f"{text} (novita.yaml:8:5)" for text in expected]
    assert decision.tags == tuple(sorted(wanted))


def test_the_order_of_tags_is_no_difference() -> None:
    assert not decided(tags=("b", "a"), entry=entry(tags=("a", "b"))).stale


def test_tags_that_an_earlier_run_did_not_move_are_moved() -> None:
    decision = decided(entry=entry(tags=None), untagged=True)
    assert decision.action == "retag"
    assert texts(decision)[0].startswith("an earlier run ended before its tags were moved")


# --- what registry and service have ----------------------------------------------------------

BUILD = decided(entry=with_parts(OLD_IMAGE, files="9" * 8))
SNAPSHOT = replace(decided(entry=with_parts(OLD_SNAPSHOT, start="9" * 8)), image="r/api@sha256:1")


@pytest.mark.parametrize(
    ("decision", "found", "action", "image", "reason"),
    [
        (BUILD, Found(), "build", None, None),
        (BUILD, Found(lost=True), "build", None, None),
        (BUILD, Found(image="r/api@sha256:2"), "snapshot", "r/api@sha256:2",
         "the image is already at the registry: r/api@sha256:2"),
        (BUILD, Found(image="r/api@sha256:2", template_id="t", build_id="b"), "adopt",
         "r/api@sha256:2", "the same key is already built there: build b"),
        (BUILD, Found(template_id="t"), "build", None, None),
        (SNAPSHOT, Found(), "snapshot", "r/api@sha256:1", None),
        (SNAPSHOT, Found(image="r/api@sha256:1"), "snapshot", "r/api@sha256:1", None),
        (SNAPSHOT, Found(lost=True), "build", None, "the registry no longer has the image"),
        (SNAPSHOT, Found(template_id="t", build_id="b"), "adopt", "r/api@sha256:1",
         "the same key is already built there: build b"),
        (decided(), Found(template_id="t", build_id="b"), "up to date", None, None),
        (replace(BUILD, forced=True), Found(image="i", template_id="t", build_id="b"),
         "build", None, None),
    ],
)  # fmt: skip
def test_what_is_there_already_is_not_made_again(
    decision: Decision, found: Found, action: Action, image: str | None, reason: str | None
) -> None:
    refined = refine(decision, found)
    assert (refined.action, refined.image) == (action, image)
    is_open = decision.stale and not decision.forced
    assert refined.found == (found if is_open else None), "what they said, and when"
    more = [Reason(text=reason)] if reason else []
    assert refined.reasons == (*decision.reasons, *more)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("up to date", ()),
        ("retag", ("tag",)),
        ("adopt", ("snapshot", "tag")),
        ("snapshot", ("snapshot", "tag")),
        ("build", ("generate", "build", "push", "snapshot", "tag")),
    ],
)
def test_each_action_has_its_steps(action: Action, expected: tuple[str, ...]) -> None:
    assert steps(replace(BUILD, action=action)) == expected


# --- showing ---------------------------------------------------------------------------------

TWO = (
    replace(BUILD, template="api", reasons=(Reason(text="one", at=NAMED_AT), Reason(text="two"))),
    replace(decided(), template="worker"),
)


def test_a_plan_is_a_table_with_a_summary() -> None:
    assert table(TWO) == (
        "api     build       one (novita.yaml:3:3) (and 1 more)\n"
        "worker  up to date  the lock has key sf1:bbbbbbbb…\n"
        "1 to build, 1 up to date\n"
    )


def test_no_templates_make_a_short_table() -> None:
    assert table(()) == "no templates\n"
    assert summary(()) == "no templates"


def test_a_plan_is_json() -> None:
    plan = json.loads(json.dumps(as_json(TWO)))
    assert plan["summary"] == {"up to date": 1, "retag": 0, "adopt": 0, "snapshot": 0, "build": 1}
    assert plan["templates"] == [
        {
            "name": "api",
            "target": "prod",
            "action": "build",
            "reasons": [{"text": "one", "at": "novita.yaml:3:3"}, {"text": "two", "at": None}],
            "builder": "docker",
            "steps": ["generate", "build", "push", "snapshot", "tag"],
            "template_id": None,
            "build_id": None,
            "image": None,
            "image_key": KEYS.image_key,
            "template_key": KEYS.template_key,
            "tags": [],
        },
        {
            "name": "worker",
            "target": "prod",
            "action": "up to date",
            "reasons": [{"text": "the lock has key sf1:bbbbbbbb…", "at": None}],
            "builder": "docker",
            "steps": [],
            "template_id": "t1",
            "build_id": "b1",
            "image": None,
            "image_key": KEYS.image_key,
            "template_key": KEYS.template_key,
            "tags": [],
        },
    ]


def test_keys_that_are_not_known_are_null_in_json() -> None:
    plan = as_json([decided(keys=None)])
    assert plan["templates"][0]["image_key"] is None  # type: ignore[index]


def test_why_says_everything() -> None:
    assert why(TWO[0]) == (
        "api: build (target prod)\n"
        "  - one (novita.yaml:3:3)\n"
        "  - two\n"
        "  steps: generate, build, push, snapshot, tag\n"
        f"  image key: {KEYS.image_key}, in the lock {OLD_IMAGE.image_key}\n"
        f"  template key: {KEYS.template_key}, in the lock {OLD_IMAGE.template_key}\n"
    )
    assert why(TWO[1]) == (
        "worker: up to date (target prod)\n"
        "  - the lock has key sf1:bbbbbbbb…\n"
        f"  image key: {KEYS.image_key}\n"
        f"  template key: {KEYS.template_key}\n"
    )
    assert why(decided(keys=None, entry=None)).endswith(
        "  image key: not known yet\n  template key: not known yet\n"
    )


def test_what_the_service_builds_has_no_image_and_is_told() -> None:
    decision = decided(entry=None, builder="remote")
    assert steps(decision) == ("generate", "snapshot", "tag")
    assert table([decision]).startswith("api  build  the lock has no")
    assert table([decision]).splitlines()[0].endswith("; the service builds")
    assert why(decision).splitlines()[2] == "  steps: generate, snapshot, tag, the service builds"
    assert "service builds" not in table([decided(builder="remote")])
