"""The fast verdict is that of a real JSON Schema validator, on whatever document."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from sandboxfile.config import schema, structure
from sandboxfile.config.document import Node
from sandboxfile.places import Position

ROOT = Path(__file__).parents[3]
SCHEMA = schema.load()
AT = Position("f", 1, 1)


def node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({key: node(each) for key, each in value.items()}, AT)
    if isinstance(value, list):
        return Node(tuple(node(each) for each in value), AT)
    return Node(value, AT)


def validator(of: dict[str, Any]) -> Any:
    whole = Draft202012Validator.TYPE_CHECKER.redefine("integer", schema._is_whole)
    return extend(Draft202012Validator, type_checker=whole)(of)  # type: ignore[no-untyped-call]


GOOD: list[Any] = [
    yaml.safe_load(path.read_text())
    for path in (ROOT / "novita.yaml.example", *sorted((ROOT / "examples").rglob("novita.yaml")))
]
# Everything that occurs somewhere, to be put elsewhere.
WORDS = sorted(
    {*SCHEMA["properties"], "x-a", "a", "A", "", "${var.x}", "${matrix.x}", "20s", "2GiB", "0755"}
    | {key for each in SCHEMA["$defs"].values() for key in each.get("properties", {})}
    | {word for each in SCHEMA["$defs"].values() for word in each.get("enum", []) if word}
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([-1, 0, 1, 2, 3, 128, 599, 65536, 10**19, 1.0, 2.5])
    | st.sampled_from(WORDS)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """Take a good document and change something in it, as deep as it goes."""
    return changed(draw, draw(st.sampled_from(GOOD)), draw(st.integers(0, 8)))


def changed(draw: st.DrawFn, value: Any, depth: int) -> Any:
    if depth and isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: changed(draw, value[key], depth - 1)}
    if depth and isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], changed(draw, value[at], depth - 1), *value[at + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        kept = {key: each for key, each in value.items() if draw(st.booleans())}
        return kept | {draw(st.sampled_from(WORDS)): draw(VALUES)}
    return draw(VALUES)


FITS, VALIDATOR = structure.of(SCHEMA), validator(SCHEMA)


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_a_good_document_fits(document: Any) -> None:
    assert FITS(node(document))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_a_document_fits_if_and_only_if_the_validator_says_so(document: Any) -> None:
    assert FITS(node(document)) is VALIDATOR.is_valid(document)


SCHEMAS: list[dict[str, Any]] = [
    {"type": ["integer", "null"], "minimum": 2, "maximum": 8, "multipleOf": 2},
    {"minLength": 2, "pattern": "^a"},
    {"type": "array", "items": {"enum": [1, True, "a", None]}, "minItems": 1},
    {"const": 1},
    {"required": ["a"], "minProperties": 2},
    {"propertyNames": {"pattern": "^[ax]"}, "additionalProperties": {"type": "number"}},
    {"patternProperties": {"^x-": {}, "a": {"type": "string"}}, "additionalProperties": False},
    {"properties": {"a": {"type": "boolean"}}, "patternProperties": {"^a": {"const": True}}},
    {"if": {"type": "string"}, "then": {"pattern": "a"}},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"additionalProperties": {"$ref": "#/$defs/tree"}}}},
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES | st.dictionaries(st.sampled_from(["a", "x-a", "ab", "b"]), VALUES, max_size=2))
def test_each_keyword_has_the_meaning_of_json_schema(value: Any) -> None:
    for each in SCHEMAS:
        assert structure.of(each)(node(value)) is validator(each).is_valid(value), each


@pytest.mark.parametrize("unknown", [{"oneOf": []}, {"propertyNames": {"minLength": 1}}])
def test_a_keyword_that_is_not_known_is_refused(unknown: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="know"):
        structure.of(unknown)
