"""Which contexts go together in one archive, and which alone."""

import io
import tarfile
from collections.abc import Mapping

import pytest

from sandboxfile.archive import Member, below
from sandboxfile.errors import SandboxfileError
from sandboxfile.packs import LIMIT, Brought, Contents, Packs

BASE = "debian@sha256:1"
SMALL = dict.fromkeys(("a", "b", "c"), 100)


def contents(sizes: Mapping[str, int | None]) -> Contents:
    """Return what templates bring: one file of a size, nothing to go with others, or an error."""

    def found(name: str) -> Brought | None:
        size = sizes[name]
        if size is None:
            return None
        if size < 0:
            raise SandboxfileError(f"`{name}` cannot be read")
        return Brought(members=below(name, [Member("file", content=bytes(size))]), made_of=BASE)

    return found


def together(packs: Packs, sizes: Mapping[str, int | None]) -> list[set[str]]:
    """Let templates be built in this order; with which ones each of them is sent."""
    found = (packs.of(name, BASE, contents(sizes)) for name in sizes)
    return [set(pack.made_of) if pack else set() for pack in found]


def expecting(*names: str) -> Packs:
    packs = Packs()
    packs.expect(names)
    return packs


def test_all_of_a_pack_are_sent_in_the_same_bytes() -> None:
    packs = expecting(*SMALL)
    sent = [packs.of(name, BASE, contents(SMALL)) for name in SMALL]
    assert sent[0] is not None
    assert [pack is sent[0] for pack in sent] == [True] * 3
    with tarfile.open(fileobj=io.BytesIO(sent[0].content)) as found:
        assert found.getnames() == ["a", "a/file", "b", "b/file", "c", "c/file"]
    assert packs.of("a", BASE, contents(SMALL)) is None, "built a second time, it goes alone"


def test_a_pack_has_no_more_than_the_limit() -> None:
    third = LIMIT // 3
    sizes = dict.fromkeys("abcde", third)
    assert together(expecting(*sizes), sizes) == [
        {"a", "b"},
        {"a", "b"},
        {"c", "d"},
        {"c", "d"},
        set(),
    ]


@pytest.mark.parametrize("size", [None, -1, LIMIT // 2], ids=["apart", "unreadable", "large"])
def test_who_cannot_go_with_others_goes_alone_and_keeps_nobody_from_it(size: int | None) -> None:
    sizes = {"a": 100, "b": size, "c": 100}
    assert together(expecting(*sizes), sizes) == [{"a", "c"}, set(), {"a", "c"}]
    first = {"b": size, "a": 100, "c": 100}
    assert together(expecting(*first), first) == [set(), {"a", "c"}, {"a", "c"}]


def test_no_more_than_the_next_few_are_looked_at() -> None:
    names = [f"t{number}" for number in range(100)]
    looked_at: list[str] = []

    def found(name: str) -> Brought | None:
        looked_at.append(name)
        return contents({"t0": 1})(name) if name == "t0" else None

    assert expecting(*names).of("t0", BASE, found) is None
    assert looked_at == names[:33]


def test_who_is_not_expected_or_the_last_one_goes_alone() -> None:
    assert together(Packs(), SMALL) == [set()] * 3
    assert together(expecting("a"), SMALL) == [set()] * 3


def test_a_file_that_has_changed_leaves_everybody_alone() -> None:
    def changed(name: str) -> Brought:
        gone = Member(f"{name}/file", path="/nowhere", size=1, digest="0" * 64)
        return Brought(members=(gone,), made_of=BASE)

    packs = expecting("a", "b")
    assert [packs.of(name, BASE, changed) for name in ("a", "b")] == [None, None]


def test_what_is_left_of_old_packs_is_not_kept() -> None:
    half = LIMIT // 2 - 3000
    names = [f"{pair}{each}" for pair in "abcdef" for each in "12"]
    sizes: dict[str, int | None] = dict.fromkeys(names, half)
    packs = expecting(*names)
    firsts = {name: packs.of(name, BASE, contents(sizes)) for name in names if name.endswith("1")}
    assert all(firsts.values())
    seconds = {name: packs.of(name, BASE, contents(sizes)) for name in names if name.endswith("2")}
    assert [name for name, pack in seconds.items() if pack] == ["c2", "d2", "e2", "f2"]


def test_what_was_packed_of_something_else_goes_alone() -> None:
    packs = expecting(*SMALL)
    assert packs.of("a", BASE, contents(SMALL))
    assert packs.of("b", "debian@sha256:2", contents(SMALL)) is None
    assert packs.of("c", BASE, contents(SMALL)), "the others go on"
