"""Whatever is in the file, the answer is a workspace or problems with places, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandboxfile.config import document, load, parser, schema
from sandboxfile.errors import ConfigError
from sandboxfile.places import Problem

WORDS = sorted(
    {key for part in schema.load()["$defs"].values() for key in (part.get("properties") or {})}
    | {"templates", "defaults", "version", "name", "matrix", "x-a", "a", "b"}
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 4096),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["a", "b", "alpine", "a -> /b", "/app", "20s", "1GiB", "${key}", "$$", "", "!"]
    ),
    st.text(max_size=8),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=25,
)
FILES = st.dictionaries(st.sampled_from(WORDS), TREES, max_size=6).map(
    lambda tree: {"version": 1, "base": "alpine"} | tree
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "novita.yaml"


def problems_of(action: Callable[[], object]) -> tuple[Problem, ...] | None:
    """Return the problems an action ends with, None if it has none."""
    try:
        action()
    except ConfigError as error:
        return error.problems
    return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILES)
def test_any_tree_of_known_keys(path: Path, tree: dict[str, object]) -> None:
    text = json.dumps(tree, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    problems = problems_of(lambda: load.load(path))
    assert problems != ()
    lines = text.split("\n")
    for problem in problems or ():
        assert 1 <= problem.at.line <= len(lines)
        assert 1 <= problem.at.column <= len(lines[problem.at.line - 1]) + 1
        assert problem.width >= 1


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab:- \n\t#'\"[]{},&*!|>%@`?~$\\0\u202e\r\ufeff", max_size=60))
@example("*a")
def test_any_text(text: str) -> None:
    assert problems_of(lambda: parser.parse(text, "f")) != ()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    assert problems_of(lambda: parser.parse(document.decode(data, "f"), "f")) != ()
