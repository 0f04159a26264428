"""The same class, made here and by the standard library, behaves in the same way."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile import frozen

T = TypeVar("T")
NAMES = ("a", "b", "c", "d")
Fields = Mapping[str, str]  # what is said of each: nothing, a default, ...
KINDS = st.sampled_from(["plain", "default", "factory", "unseen", "beside"])
OBJECTS = st.sampled_from([1, 400])  # of a class: hundreds are made in another way
OPTIONS = st.fixed_dictionaries(
    {"frozen": st.booleans(), "kw_only": st.booleans(), "eq": st.booleans()}
)
FIELDS = st.dictionaries(st.sampled_from(NAMES), KINDS, min_size=1)


def described(field: Callable[..., Any], kind: str) -> Any:
    """Return what stands behind the name of a field, None for nothing."""
    match kind:
        case "default":
            return 7
        case "factory":
            return field(default_factory=list)
        case "unseen":
            return field(default=8, repr=False)
        case "beside":
            return field(default=9, compare=False)
        case _:
            return None


def made(library: Any, fields: Fields, options: Mapping[str, bool], objects: int = 1) -> Any:
    """Return such a class, of which there are so many objects already."""
    # One with a default may not come before one without where places count.
    ordered = sorted(fields, key=lambda name: (fields[name] != "plain", name))
    body: dict[str, Any] = {
        "__annotations__": dict.fromkeys(ordered, int),
        "__module__": __name__,
        "__qualname__": "Example",
        "__doc__": "An example.",
    }
    for name in ordered:
        if (said := described(library.field, fields[name])) is not None:
            body[name] = said
    kind = library.dataclass(slots=True, **options)(type("Example", (), body))
    for _ in range(objects):
        kind(**dict.fromkeys(fields, 1))
    return kind


def outcome(work: Callable[..., object], *args: object, **given: object) -> object:
    """Return what comes of it, or the kind of its failure."""
    try:
        return work(*args, **given)
    except (TypeError, AttributeError) as error:
        return type(error)


def behaviour(
    library: Any, fields: Fields, options: Mapping[str, bool], objects: int, **values: int
) -> Any:
    """Return all that can be seen of a class and of an object of it."""
    kind = made(library, fields, options, objects)
    value = outcome(kind, **values)
    if value is TypeError:
        return value
    same = dataclasses.replace(value)  # type: ignore[type-var]
    changed = [dataclasses.replace(value, **{name: 5}) for name in fields]  # type: ignore[type-var]
    return {
        "kind": (kind.__match_args__, kind.__slots__, kind.__doc__, hasattr(value, "__dict__")),
        "value": (repr(value), [getattr(value, name) for name in fields]),
        "dict": dataclasses.asdict(value),  # type: ignore[call-overload]
        "equal": (value == same, value == 1, [value == each for each in changed]),
        "hash": outcome(hash, value) == outcome(hash, same),
        "set": [outcome(setattr, value, name, 6) for name in fields],
        "now": repr(value),
        "deleted": [outcome(delattr, value, name) for name in fields],
        "left": [hasattr(value, name) for name in fields],
    }


@given(
    FIELDS,
    OPTIONS,
    OBJECTS,
    st.dictionaries(st.sampled_from((*NAMES, "other")), st.integers(0, 1)),
)
def test_a_class_behaves_as_one_of_the_standard_library(
    fields: Fields, options: Mapping[str, bool], objects: int, values: Mapping[str, int]
) -> None:
    ours = behaviour(frozen, fields, options, objects, **values)
    assert ours == behaviour(dataclasses, fields, options, objects, **values)


@given(FIELDS, OPTIONS, OBJECTS, st.lists(st.integers(0, 1), max_size=5))
def test_values_are_taken_by_position_where_the_standard_library_takes_them(
    fields: Fields, options: Mapping[str, bool], objects: int, values: list[int]
) -> None:
    kinds = (made(each, fields, options, objects) for each in (frozen, dataclasses))
    ours, theirs = (outcome(kind, *values) for kind in kinds)
    assert repr(ours) == repr(theirs)


@given(FIELDS, OPTIONS, st.dictionaries(st.sampled_from((*NAMES, "other")), st.integers(2, 3)))
def test_values_are_replaced_as_by_the_standard_library(
    fields: Fields, options: Mapping[str, bool], changes: Mapping[str, int]
) -> None:
    value = made(frozen, fields, options)(**dict.fromkeys(fields, 1))
    ours, theirs = (outcome(each.replace, value, **changes) for each in (frozen, dataclasses))
    assert repr(ours) == repr(theirs)
    assert repr(value) == repr(frozen.replace(value))


@frozen.dataclass(frozen=True, slots=True, order=True)
class Place:
    file: str
    line: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


@frozen.dataclass(slots=True, kw_only=True)
class Counter(Generic[T]):
    first: T
    count: int = 0

    def __post_init__(self) -> None:
        self.count += 1


def test_what_a_class_defines_itself_stays() -> None:
    assert str(Place("a", 2)) == "a:2"
    assert Place("a", 2) == "a:2"
    assert {Place("a"): 1}["a:1"] == 1  # type: ignore[index]


def test_places_are_sorted_by_their_fields() -> None:
    places = [Place("b", 1), Place("a", 2), Place("a", 1)]
    assert [str(each) for each in sorted(places)] == ["a:1", "a:2", "b:1"]
    assert Place("a", 2) >= Place("a", 1) > Place("A", 9)
    assert Place("a", 1) <= Place("a", 1) < Place("b", 1)
    with pytest.raises(TypeError):
        sorted([Place("a"), "b"])  # type: ignore[type-var]


def test_an_object_is_finished_by_its_class() -> None:
    counter = Counter(first="x")
    assert (counter.count, repr(counter)) == (1, "Counter(first='x', count=1)")
    assert not hasattr(counter, "__dict__")
    with pytest.raises(TypeError):
        hash(counter)
    assert {Counter(first=n).count for n in range(400)} == {1}


def test_a_field_may_have_any_name_also_where_there_are_hundreds() -> None:
    @frozen.dataclass(slots=True)
    class Odd:
        self: int
        _: int
        _set_self: int
        __missing: int
        _make_more: int = 5
        more: list[int] = frozen.field(default_factory=list)

    found = [Odd(1, 2, 3, 4) for _ in range(400)]
    assert {repr(each) for each in found} == {repr(found[0])}
    assert len({id(each.more) for each in found}) == 400


def test_the_standard_library_knows_the_fields() -> None:
    assert dataclasses.is_dataclass(Place)
    assert [(each.name, each.type, each.default) for each in dataclasses.fields(Place)] == [
        ("file", str, dataclasses.MISSING),
        ("line", int, 1),
    ]


@pytest.mark.parametrize(
    ("args", "given", "says"),
    [
        ((), {}, "is not given 'file'"),
        (("a", 1, 2), {}, "takes 2 values by position: 3"),
        (("a",), {"file": "b"}, "is given 'file' twice"),
        (("a",), {"column": 1}, "has no field 'column'"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    args: tuple[Any, ...], given: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        Place(*args, **given)


def test_a_field_that_has_to_be_given_does_not_stand_behind_one_that_has_not() -> None:
    with pytest.raises(TypeError, match="Late: 'b' needs a default"):

        @frozen.dataclass(slots=True)
        class Late:
            a: int = 1
            b: int  # type: ignore[misc]


def test_fields_of_another_dataclass_are_not_inherited() -> None:
    with pytest.raises(TypeError, match="Deeper: fields are not inherited here"):

        @frozen.dataclass(slots=True)
        class Deeper(Place):  # type: ignore[misc]
            column: int = 1
