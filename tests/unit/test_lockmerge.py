"""Which entry wins when locks differ, and that no order of the locks decides it."""

from collections.abc import Mapping
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxfile import lockmerge
from sandboxfile.lockfile import Entry, Lock
from sandboxfile.lockmerge import Merged, Now, Sides, State, merge, over, sides_of

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
BASE = "docker.io/library/debian:12 linux/amd64"


def entry(key: str, build: str, **fields: object) -> Entry:
    fields.setdefault("tags", ())
    return Entry(
        template_id="t",
        build_id=build,
        image_key=f"sf1:{key * 64}",
        template_key=f"sf1:{key * 64}",
        **fields,  # type: ignore[arg-type]
    )


def lock(resolved: Mapping[str, str] | None = None, **entries: Entry) -> Lock:
    return Lock(resolved=resolved or {}, targets={"prod": entries} if entries else {})


def now(**keys: str) -> Now:
    """Files of which each template has a key, whatever its base is."""
    state = State(keys={name: f"sf1:{key * 64}" for name, key in keys.items()})
    return lambda _: {"prod": state}


def on(digests: Mapping[str, Mapping[str, str]]) -> Now:
    """Files whose keys depend on what BASE is: a template's key by digest."""

    def answer(resolved: Mapping[str, str]) -> Mapping[str, State]:
        digest = resolved.get(BASE, "")
        keys = {
            name: f"sf1:{by[digest] * 64}" if digest in by else None for name, by in digests.items()
        }
        needs = dict.fromkeys(digests, () if digest else (BASE,))
        return {"prod": State(keys=keys, needs=needs)}

    return answer


def merged(base: Lock, *sides: Lock, files: Now | None) -> Merged:
    """Merge in every order, which is to give one and the same."""
    found = [merge(base, order, files) for order in permutations(sides)]
    assert all(each == found[0] for each in found)
    return found[0]


# --- entries ---------------------------------------------------------------------------------


def test_what_one_side_alone_has_changed_is_taken() -> None:
    base = lock(a=entry("1", "old"), b=entry("1", "old"), c=entry("1", "old"))
    left = lock(a=entry("2", "new"), b=entry("1", "old"), c=entry("1", "old"))
    right = lock(a=entry("1", "old"), c=entry("1", "old"), d=entry("3", "first"))
    found = merged(base, left, right, files=now(a="9", b="1", c="9", d="9"))
    assert found == Merged(
        lock=lock(a=entry("2", "new"), c=entry("1", "old"), d=entry("3", "first"))
    )


def test_the_build_of_the_files_here_wins() -> None:
    base = lock(a=entry("1", "old"))
    left, right = lock(a=entry("2", "left")), lock(a=entry("3", "right"))
    found = merged(base, left, right, files=now(a="3"))
    assert found.lock == right
    (choice,) = found.choices
    assert (choice.fits, choice.why) == (True, "its key is that of the files here")
    assert merged(base, left, right, files=now(a="2")).lock == left
    assert merged(base, left, right, files=now(a="1")).lock == base
    assert merged(base, left, base, files=now(a="1")).lock == base
    assert merged(Lock(), left, right, files=now(a="3")).lock == right


def test_without_such_a_build_one_is_kept_and_it_is_said() -> None:
    left, right = lock(a=entry("2", "b")), lock(a=entry("3", "c"))
    found = merged(lock(a=entry("1", "a")), left, right, files=now(a="9"))
    assert found.lock == right
    (choice,) = found.choices
    assert not choice.fits
    assert choice.why == "no build is of the files here: the next one makes it anew"
    # A target, or a template, that is not written any more.
    assert merged(Lock(), left, right, files=lambda _: {}).lock == right


def test_of_two_builds_of_the_same_that_with_its_tags_is_taken() -> None:
    left, right = lock(a=entry("2", "z", tags=None)), lock(a=entry("2", "b"))
    assert merged(Lock(), left, right, files=now(a="2")).lock == right


def test_a_template_that_was_deleted_stays_so_unless_it_was_built_anew() -> None:
    base = lock(a=entry("1", "old"), b=entry("1", "old"))
    deleted = lock(b=entry("1", "old"))
    assert merged(base, base, deleted, files=now(a="1", b="1")).lock == deleted
    anew = lock(a=entry("2", "new"), b=entry("1", "old"))
    assert merged(base, anew, deleted, files=now(a="2", b="1")).lock == anew
    assert merged(lock(a=entry("1", "old")), Lock(), Lock(), files=now(a="1")).lock == Lock()


def test_what_only_one_side_says_in_gits_terms_is_kept() -> None:
    said, unsaid = (lock(a=entry("1", "x", git_key=key)) for key in (f"sf1:{'9' * 64}", ""))
    found = merged(Lock(), said, unsaid, files=None).lock.entry("prod", "a")
    assert found == said.entry("prod", "a")


def test_tags_of_one_build_are_joined() -> None:
    def tagged(*tags: str, **moved: str) -> Lock:
        return lock(a=entry("1", "x", tags=tags, moved=moved))

    base = tagged("gone", "kept", stable="b1", beta="b1")
    left = tagged("kept", "left", stable="b2", beta="b1")
    right = tagged("gone", "kept", "right", stable="b1", nightly="b3")
    found = merged(base, left, right, files=now(a="1")).lock.entry("prod", "a")
    assert found is not None
    assert found.tags == ("kept", "left", "right")
    assert found.moved == {"stable": "b2", "nightly": "b3"}
    half = lock(a=entry("1", "x", tags=None, image="r@sha256:1"))
    found = merged(Lock(), half, tagged("v1"), files=now(a="1")).lock.entry("prod", "a")
    assert found == entry("1", "x", tags=("v1",), image="r@sha256:1")


def test_shards_add_up() -> None:
    base = lock({BASE: ONE}, a=entry("1", "old"))
    shards = [
        lock({BASE: ONE}, a=entry("2", "new")),
        lock({BASE: ONE, "b": TWO}, a=entry("1", "old"), b=entry("2", "new")),
        lock({BASE: ONE}, a=entry("1", "old"), c=entry("2", "new")),
    ]
    found = merged(base, *shards, files=now(a="2", b="2", c="2"))
    new = entry("2", "new")
    assert found == Merged(lock=lock({BASE: ONE, "b": TWO}, a=new, b=new, c=new))


def test_what_another_machine_has_not_got_it_has_not_deleted() -> None:
    here = lock({BASE: ONE}, a=entry("1", "here"), b=entry("1", "here"))
    there = lock({BASE: TWO, "b": ONE}, b=entry("2", "there"), c=entry("1", "there"))
    assert over(here, there) == lock(
        {BASE: TWO, "b": ONE}, a=entry("1", "here"), b=entry("2", "there"), c=entry("1", "there")
    )
    assert over(here, Lock()) == over(Lock(), here) == here


# --- bases -----------------------------------------------------------------------------------


def test_a_base_that_one_side_resolved_anew_is_taken() -> None:
    found = merged(lock({BASE: ONE}), lock({BASE: TWO}), lock({BASE: ONE, "x": ONE}), files=now())
    assert found.lock.resolved == {BASE: TWO, "x": ONE}
    assert merged(lock({BASE: ONE}), lock(), lock({BASE: ONE}), files=now()).lock == Lock()
    assert merged(lock({BASE: ONE}), lock(), lock({BASE: TWO}), files=now()).lock.resolved == {
        BASE: TWO
    }


def test_a_disputed_base_is_what_the_builds_that_fit_were_made_from() -> None:
    files = on({"a": {TWO: "2", THREE: "3"}, "b": {TWO: "4", THREE: "5"}})
    left = lock({BASE: TWO}, a=entry("2", "left"), b=entry("4", "left"))
    right = lock({BASE: THREE}, a=entry("9", "stale"), b=entry("5", "right"))
    assert merged(lock({BASE: ONE}), left, right, files=files).lock == left
    assert merged(lock({BASE: ONE}), left, right, left, files=files).lock == left
    # As many on both sides: the first in the alphabet, everywhere.
    right = lock({BASE: THREE}, a=entry("3", "right"), b=entry("5", "right"))
    assert merged(lock({BASE: ONE}), left, right, files=files).lock == left


def test_a_disputed_base_that_no_build_decides_is_left_to_people() -> None:
    files = on({"a": {TWO: "2", THREE: "3"}})
    sides = lock({BASE: TWO}, a=entry("8", "x")), lock({BASE: THREE}, a=entry("9", "y"))
    assert merged(lock({BASE: ONE}), *sides, files=files) == Merged(lock=Lock(), open=(BASE,))


def test_a_disputed_base_of_nothing_is_no_matter() -> None:
    found = merged(lock(), lock({BASE: THREE}), lock({BASE: TWO}), lock(), files=now())
    assert found == Merged(lock=lock({BASE: TWO}))


def test_without_files_only_what_one_side_has_changed_is_merged() -> None:
    base = lock({BASE: ONE}, a=entry("1", "a"), b=entry("1", "b"), c=entry("1", "c"))
    left = lock({BASE: TWO}, a=entry("2", "x"), b=entry("1", "b"), c=entry("1", "c"))
    right = lock({BASE: ONE}, a=entry("1", "a"), b=entry("1", "b", tags=("v1",)))
    assert merge(base, [left, right], None) == Merged(
        lock=lock({BASE: TWO}, a=entry("2", "x"), b=entry("1", "b", tags=("v1",)))
    )
    other = lock({BASE: THREE}, a=entry("3", "y"), c=entry("2", "c"))
    assert merge(base, [left, other, right], None).open == (BASE, "prod/a", "prod/b", "prod/c")


ENTRIES = st.builds(
    entry,
    st.sampled_from("123"),
    st.sampled_from("xyz"),
    tags=st.sampled_from([None, (), ("a",), ("a", "b")]),
    git_key=st.sampled_from(["", f"sf1:{'9' * 64}"]),
    moved=st.dictionaries(st.sampled_from("pq"), st.sampled_from("xyz"), max_size=2),
)
LOCKS = st.builds(
    lambda resolved, entries: Lock(resolved=resolved, targets={"prod": entries} if entries else {}),
    st.dictionaries(st.just(BASE), st.sampled_from([ONE, TWO, THREE])),
    st.dictionaries(st.sampled_from("ab"), ENTRIES),
)


@settings(max_examples=100, deadline=None)
@given(LOCKS, st.lists(LOCKS, min_size=1, max_size=3))
def test_nothing_depends_on_the_order_of_the_locks(base: Lock, sides: list[Lock]) -> None:
    files = on({"a": {ONE: "1", TWO: "2", THREE: "3"}, "b": {ONE: "1", TWO: "1", THREE: "2"}})
    merged(base, *sides, files=None)
    found = merged(base, *sides, files=files)
    if len(sides) == 1 and not found.open:
        ours = found.lock.targets.get("prod", {})
        assert {e.template_key for e in ours.values()} <= {
            e.template_key for each in (base, *sides) for e in each.targets.get("prod", {}).values()
        }


# --- the marks of a conflict -----------------------------------------------------------------


def test_a_conflict_is_taken_apart_in_each_style() -> None:
    plain = "a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> branch\nd\n"
    assert sides_of(plain) == Sides(ours="a\nb\nd\n", theirs="a\nc\nd\n", base=None)
    with_base = "a\n<<<<<<< HEAD\nb\n||||||| 1234\nx\n=======\n>>>>>>> branch\n"
    assert sides_of(with_base) == Sides(ours="a\nb\n", theirs="a\n", base="a\nx\n")
    assert sides_of(f"{with_base}{plain}") == Sides(
        ours="a\nb\na\nb\nd\n", theirs="a\na\nc\nd\n", base=None
    )
    assert sides_of("a\n=======\n========\n>>>>>>>x\n") is None
    assert sides_of("") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<<<<<<< HEAD\na\n", "the last conflict does not end"),
        ("<<<<<<< HEAD\n>>>>>>> b\n", "a line of `>>>>>>>` is where none is expected"),
        ("<<<<<<< HEAD\n<<<<<<< b\n", "a line of `<<<<<<<` is where none is expected"),
        (">>>>>>> b\n", "a line of `>>>>>>>` is where none is expected"),
        ("<<<<<<< H\n=======\n=======\n>>>>>>> b\n", "a line of `=======` is where none is"),
    ],
)
def test_marks_that_do_not_belong_together_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lockmerge.sides_of(text)
