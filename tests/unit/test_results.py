import json
from collections.abc import Mapping
from types import MappingProxyType

from sandboxfile import results
from sandboxfile.lockfile import Entry
from sandboxfile.plan import Decision, Reason
from sandboxfile.results import Ending

OLD = Entry(
    template_id="t-old",
    build_id="b-old",
    image="sha256:" + "1" * 64,
    image_key="sf1:old",
    template_key="sf1:old",
    parts={},
    parent=None,
    tags=("stable",),
)
NEW = Entry(
    template_id="t-new",
    build_id="b-new",
    image="",
    image_key="sf1:new",
    template_key="sf1:new",
    parts={},
    parent=None,
    tags=None,
)


class Keys:
    image_key = "sf1:image"
    template_key = "sf1:template"
    parts: Mapping[str, str] = MappingProxyType({})


def decision(entry: Entry | None, *, keys: Keys | None = None) -> Decision:
    return Decision(
        template="web",
        target="local",
        action="build",
        reasons=(Reason(text="it is new"),),
        keys=keys,
        entry=entry,
        tags=("stable",),
    )


def test_what_was_done_has_the_ids_of_the_new_lock() -> None:
    (found,) = results.of(
        [decision(OLD, keys=Keys())], {"web": NEW}, lambda _: Ending(seconds=1.23456)
    )

    assert found == {
        "name": "web",
        "target": "local",
        "action": "build",
        "status": "done",
        "error": None,
        "reasons": [{"text": "it is new", "at": None}],
        "template_id": "t-new",
        "build_id": "b-new",
        "image": None,
        "image_key": "sf1:image",
        "template_key": "sf1:template",
        "tags": ["stable"],
        "seconds": 1.235,
        "steps": [],
    }
    assert json.loads(json.dumps(found)) == found


def test_what_failed_has_the_ids_from_before() -> None:
    (found,) = results.of(
        [decision(OLD)], {"web": NEW}, lambda _: Ending(status="failed", error="error: no")
    )

    assert (found["status"], found["error"]) == ("failed", "error: no")
    assert (found["template_id"], found["image"]) == ("t-old", OLD.image)
    assert found["image_key"] is None


def test_what_was_left_has_the_ids_of_the_build_that_goes_on() -> None:
    ending = Ending(status="detached", template_id="t-new", build_id="b-new")
    (found,) = results.of([decision(OLD, keys=Keys())], {"web": OLD}, lambda _: ending)
    assert (found["status"], found["error"]) == ("detached", None)
    assert (found["template_id"], found["build_id"]) == ("t-new", "b-new")
    assert found["image"] is None


def test_what_was_never_built_has_no_ids() -> None:
    (found,) = results.of([decision(None)], {})

    assert (found["template_id"], found["build_id"], found["image"]) == (None, None, None)


def test_a_frozen_run_repeats_the_lock() -> None:
    old, new = results.of_lock("prod", {"old": OLD, "new": NEW})

    assert (old["name"], old["target"], old["template_id"]) == ("old", "prod", "t-old")
    assert (old["tags"], new["tags"]) == (["stable"], [])
    assert (old["image"], new["image"]) == (OLD.image, None)


def test_both_ways_print_the_same_keys() -> None:
    assert results.of([decision(None)], {})[0].keys() == results.of_lock("x", {"a": OLD})[0].keys()


def test_results_are_counted_by_action_and_failures_by_status() -> None:
    good = results.of_lock("local", {"a": OLD, "b": NEW})
    bad = results.of([decision(OLD)], {}, lambda _: Ending(status="failed"))

    assert results.counts([*good, *bad]) == {"up to date": 2, "failed": 1}
