"""Do with an official Python SDK what standard input says; one JSON document a line comes back.

Usage: drive.py MODULE, where MODULE has the SDK's Template. Each line of the input is a call:
`{"call": "build", "recipe": [["from_image", ["image"], {}], ...], "arguments": {...}}`; without
`recipe` it is a method of Template itself. An exception of the SDK comes back with its text and
with the number of the recipe's line to which the SDK attributes it.
"""

import dataclasses
import importlib
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

RECIPE = "<recipe>"
sdk = importlib.import_module(sys.argv[1])


def made(recipe: list[Any], context: str | None) -> Any:
    """Call each method of the recipe from a line of its own, as in somebody's file."""
    template = sdk.Template(file_context_path=context)
    for number, (method, arguments, options) in enumerate(recipe):
        code = "\n" * number + f"template.{method}(*arguments, **options)"
        scope = {"template": template, "arguments": arguments, "options": options}
        template = eval(compile(code, RECIPE, "eval"), scope)
    return template


def perform(
    *,
    call: str,
    recipe: list[Any] | None = None,
    context: str | None = None,
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    settings = dict(options or {})
    logs: list[Any] = []
    if call.startswith("build"):
        settings["on_build_logs"] = lambda entry: logs.append([entry.level, entry.message])
    given = list(arguments)
    try:
        if recipe is not None:
            given.insert(0, made(recipe, context))
        elif call == "get_build_status":
            given = [Build(*given)]
        result = getattr(sdk.Template, call)(*given, **settings)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what is asked for
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno or 0 for frame in frames if frame.filename == RECIPE]
        said = {"error": type(error).__name__, "message": str(error)}
        return {**said, "line": lines[-1] - 1 if lines else None, "logs": logs}
    return {"result": result, "logs": logs}


@dataclasses.dataclass
class Build:
    template_id: str
    build_id: str


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if fields := getattr(value, "__attrs_attrs__", None):
        return {field.name: getattr(value, field.name) for field in fields}
    return vars(value) if hasattr(value, "__dict__") else str(value)


for line in sys.stdin:
    sys.stdout.write(json.dumps(perform(**json.loads(line)), default=plain) + "\n")
    sys.stdout.flush()
