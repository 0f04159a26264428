"""Jobs start longest chain first; what a run takes, and what decided it, follow from the spans."""

from collections.abc import Mapping

import pytest

from sandboxfile.schedule import Span, critical, length, longest_first, simulate

NEEDS: Mapping[str, tuple[str, ...]] = {
    "build:a": (),
    "snapshot:a": ("build:a",),
    "build:b": (),
    "snapshot:b": ("build:b",),
    "build:child": ("build:a",),
}
TIMES = {"build:a": 2.0, "snapshot:a": 1.0, "build:b": 1.0, "snapshot:b": 9.0, "build:child": 3.0}


def test_without_times_the_chain_of_most_jobs_comes_first() -> None:
    assert longest_first({"build:x": (), "build:y": (), "push:y": ("build:y",)}) == (
        "build:y", "push:y", "build:x",
    )  # fmt: skip


def test_the_chain_that_takes_longest_comes_first() -> None:
    order = longest_first(NEEDS, TIMES.__getitem__)
    assert order == ("build:b", "snapshot:b", "build:a", "build:child", "snapshot:a")


def test_chains_that_take_no_time_are_told_apart_by_their_length() -> None:
    needs: Mapping[str, tuple[str, ...]] = {"build:x": (), "build:y": (), "push:y": ("build:y",)}
    assert longest_first(needs, lambda _: 0.0)[0] == "build:y"
    assert longest_first(needs, lambda _: -5.0)[0] == "build:y"


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"a": ("b",), "b": ("a",)}, "wait for each other: a -> b -> a"),
        ({"a": ("b",)}, "not in the graph"),
    ],
)
def test_graphs_that_cannot_be_run_are_refused(
    needs: Mapping[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(needs, lambda _: 1.0, {})


def test_a_simulated_run_keeps_order_needs_and_places() -> None:
    spans = simulate(NEEDS, TIMES.__getitem__, {"build": 1, "snapshot": 5})
    assert spans == {
        "build:b": Span(began=0.0, ended=1.0),
        "snapshot:b": Span(began=1.0, ended=10.0),
        "build:a": Span(began=1.0, ended=3.0),
        "snapshot:a": Span(began=3.0, ended=4.0),
        "build:child": Span(began=3.0, ended=6.0),
    }
    assert length(spans) == 10.0
    assert critical(spans, NEEDS) == ("build:b", "snapshot:b")


def test_kinds_without_a_limit_have_places_for_all() -> None:
    needs: Mapping[str, tuple[str, ...]] = {f"build:{number}": () for number in range(9)}
    assert length(simulate(needs, lambda _: 2.0, {})) == 2.0
    assert length(simulate(needs, lambda _: 2.0, {"build": 4})) == 6.0
    assert length(simulate({}, lambda _: 2.0, {})) == 0.0


def test_a_need_named_twice_is_waited_for_once() -> None:
    assert length(simulate({"a": (), "b": ("a", "a")}, lambda _: 1.0, {})) == 2.0


def test_who_gave_up_a_place_is_part_of_what_decided() -> None:
    spans = {
        "build:a": Span(began=0.0, ended=4.0),
        "build:b": Span(began=4.1, ended=9.0),
        "snapshot:a": Span(began=4.0, ended=5.0),
        "snapshot:b": Span(began=9.0, ended=9.5),
    }
    needs = {"snapshot:a": ("build:a",), "snapshot:b": ("build:b", "build:never")}
    assert critical(spans, needs) == ("build:a", "build:b", "snapshot:b")
    assert critical({}, needs) == ()
