"""Measure, and print what was measured with the machine that it was measured on."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping

from benchmarks import machine, service
from sandboxfile.errors import SandboxfileError

Subject = Callable[[Mapping[str, str]], dict[str, object]]
SUBJECTS: dict[str, Subject] = {"service": service.measure}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=list(SUBJECTS), help="a subject; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    args = parser.parse_args(argv)
    found: dict[str, object] = {"machine": machine.facts()}
    for name in args.only or SUBJECTS:
        try:
            found[name] = SUBJECTS[name](os.environ)
        except SandboxfileError as error:
            sys.stderr.write(f"{name}: {error}\n")
            return error.exit_code
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if args.json else _text(found))
    return 0


def _text(found: Mapping[str, object], indent: str = "") -> str:
    """Write one figure in a line, groups of them indented."""
    text = ""
    for name, value in found.items():
        if isinstance(value, Mapping):
            text += f"{indent}{name}:\n{_text(value, indent + '  ')}"
        else:
            text += f"{indent}{name}: {value}\n"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
