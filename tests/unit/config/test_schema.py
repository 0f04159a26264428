"""The schema is good for editors, equal in both places, and says nothing in Python's words."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sandboxfile.config import load, schema, template, workspace
from sandboxfile.config.expand import KINDS
from sandboxfile.config.files import SHORT_ONLY
from sandboxfile.config.instructions import STEPS
from sandboxfile.config.parser import parse
from sandboxfile.config.problems import Problems
from sandboxfile.config.variables import TYPES
from sandboxfile.errors import ConfigError

ROOT = Path(__file__).parents[3]
SCHEMA = schema.load()
EXAMPLES = [ROOT / "novita.yaml.example", *sorted(ROOT.glob("examples/*/novita.yaml"))]


def walk(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        yield path, part
        for key, value in part.items():
            if key not in ("examples", "default", "enum"):
                yield from walk(value, f"{path}/{key}")


def described() -> list[tuple[str, dict[str, Any]]]:
    """Every property of every map, with what its reference says."""
    found = []
    for path, part in walk(SCHEMA):
        for key, value in part.items() if path.endswith("/properties") else ():
            name = value.get("$ref", "").rpartition("/")[2]
            found.append((f"{path}/{key}", {**SCHEMA["$defs"].get(name, {}), **value}))
    return found


def test_both_copies_are_equal() -> None:
    published = ROOT / "schemas" / "novita-1.schema.json"
    assert published.read_bytes() == schema.CONFIGURATION.read_bytes()


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(("path", "part"), described(), ids=[path for path, _ in described()])
def test_every_key_tells_an_editor_what_it_is(path: str, part: dict[str, Any]) -> None:
    assert part["title"], path
    assert part["description"].endswith("."), path


def test_every_map_of_fixed_keys_refuses_others_and_leaves_room_for_notes() -> None:
    maps = [part for _, part in walk(SCHEMA) if isinstance(part.get("properties"), dict)
            and "type" in part]  # fmt: skip
    assert len(maps) > 10
    for part in maps:
        assert part["additionalProperties"] is False or part["title"] == "Matrix"
        assert list(part["patternProperties"]) == ["^x-"]


def test_every_example_of_the_schema_fits_it() -> None:
    for name, part in SCHEMA["$defs"].items():
        validator = Draft202012Validator({**SCHEMA, **part, "required": []})
        for example in part.get("examples", ()):
            assert list(validator.iter_errors(example)) == [], name


def test_no_reference_leaves_the_schema() -> None:
    references = [part["$ref"] for _, part in walk(SCHEMA) if isinstance(part.get("$ref"), str)]
    assert references
    assert all(re.fullmatch(r"#/\$defs/\w+", reference) for reference in references)


def test_the_keys_are_the_same_in_the_schema_and_in_the_program() -> None:
    top = set(SCHEMA["properties"])
    definitions = SCHEMA["$defs"]
    rest = {"version", "templates", "defaults", "variables", "include", "groups", "members"}
    assert top == {*rest, *SHORT_ONLY, *workspace.KEYS}
    assert set(definitions["template"]["properties"]) == set(SHORT_ONLY)
    assert set(definitions["defaults"]["properties"]) == set(template.KEYS)
    assert set(KINDS["base",]) <= set(definitions["base"]["properties"])
    assert set(definitions["ready"]["properties"]) == {*KINDS["ready",], "status"}
    assert set(definitions["step"]["properties"]) == {*STEPS, "user", "secrets"}
    assert set(definitions["variable"]["properties"]["type"]["enum"]) == {*TYPES, None}


def test_nothing_that_a_parent_may_supply_is_required() -> None:
    required = {path: part["required"] for path, part in walk(SCHEMA) if "required" in part}
    assert required == {"": ["version"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
def test_every_example_loads_and_fits(path: Path) -> None:
    assert load.load(path).templates
    document = parse(path.read_text(), str(path))
    assert list(Draft202012Validator(SCHEMA).iter_errors(document.plain())) == []


def test_the_example_shows_every_key() -> None:
    text = (ROOT / "novita.yaml.example").read_text()
    keys = {path.rpartition("/")[2] for path, _ in described()}
    assert sorted(key for key in keys if not re.search(rf"\b{key}: ", text + " ")
                  and f"{key}:\n" not in text) == []  # fmt: skip


# --- wording ---------------------------------------------------------------------------------


TAGS = "tags have a-z, 0-9, `.`, `_` and `-`, at most 128"
EVEN = ", ".join(str(number) for number in range(2, 33, 2))


def said(document: str) -> list[str]:
    problems = Problems({"f": document})
    schema.check([parse(document, "f")], problems)
    with pytest.raises(ConfigError) as caught:
        problems.end()
    return [f"{p.message} | {p.hint}" for p in caught.value.problems]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("name: a", ["this file needs `version` | "]),
        ("version: 2", ["`version` must be 1, not the number `2` | "]),
        ("version: 1.0", ["`version` must be a whole number, not the number `1.0` | "]),
        ("version: 1\ntargets: {A: {}}", ["`A` cannot be a name in `targets` | "]),
        (
            "version: 1\nfiles: [{from: a, to: b}]",
            ["`files[0].to` cannot be the text `b` | "],
        ),
        (
            "version: 1\ntags: [A]",
            [f"`tags[0]` cannot be the text `A` | {TAGS}"],
        ),
        (
            "version: 1\nready: {port: 70000, status: 1}",
            [
                "`ready.port` must be at most 65535, not `70000` | ",
                "`ready.status` must be at least 100, not `1` | ",
            ],
        ),
        (
            "version: 1\nengine: 3",
            ["`engine` must be text or a map, not the number `3` | "],
        ),
        (
            "version: 1\nresources: {cpu: 3, memory: 129}",
            [
                f"`resources.cpu` cannot be the number `3` | known: 1, {EVEN}",
                "`resources.memory` cannot be the number `129` | ",
            ],
        ),
        ("version: 1\nenv: ~\nfiles: [~]", ["`files[0]` must be text or a map, not empty | "]),
        ("version: 1\ntags: [~]", ['`~` is read as nothing, and text is wanted | write "~"']),
        ("version: 1\nbase: ''", ["`base` must not be empty | remove it, or fill it"]),
    ],
)  # fmt: skip
def test_each_rule_has_its_words(document: str, expected: list[str]) -> None:
    assert said(document) == expected


def test_no_answer_speaks_python(wrong: Callable[[str], list[str]]) -> None:
    values = ["1", "1.5", "true", "~", "text", "''", "[]", "[1]", "{}", "{a: 1}", "[[~]]", "yes"]
    foreign = re.compile(r"None|True|False|\bdict\b|\bstr\b|\bint\b|'\w+'|\[\]|\{\}|Node|schema")
    for key in SCHEMA["properties"]:
        for value in values:
            text = f"version: 1\nbase: a\n{key}: {value}\nbogus: 1\n"
            assert not [line for line in wrong(text) if foreign.search(line.replace("`[]`", ""))]


def test_the_schema_is_a_readable_file() -> None:
    text = schema.CONFIGURATION.read_text()
    assert text == json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"
