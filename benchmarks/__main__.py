"""Measure how fast sandboxfile is, beside what else does such work, on the machine at hand.

It sets up what it compares with, in a temporary directory, and says what it could not have.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from benchmarks import (
    change,
    cold,
    goals,
    keys,
    machine,
    memory,
    noop,
    report,
    service,
    setting,
)
from benchmarks.setting import Setting
from benchmarks.timing import UnexpectedError
from sandboxfile.errors import SandboxfileError

Subject = Callable[[Setting, Sequence[int]], Mapping[str, object]]
SUBJECTS: dict[str, Subject] = {
    "noop": noop.measure,
    "change": change.measure,
    "cold": cold.measure,
    "keys": keys.measure,
    "memory": memory.measure,
    "service": service.measure,
}
SIZES = (1, 10, 100, 1000)
MOST = 9999  # names have four digits


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    began = time.monotonic()
    found: dict[str, object] = {}
    try:
        with setting.prepared(os.environ) as prepared:
            for name in args.only or SUBJECTS:
                sys.stderr.write(f"measuring {name}\n")
                found[name] = SUBJECTS[name](prepared, args.sizes)
            facts = {"machine": machine.facts(prepared), "lacking": dict(prepared.lacking)}
    except (SandboxfileError, UnexpectedError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, SandboxfileError) else 1
    seconds = round(time.monotonic() - began, 1)
    found = {"command": command(args.only, args.sizes), "seconds": seconds, **facts, **found}
    checked = tuple(goals.checked(found))
    found["goals"] = [
        {"what": goal.what, "most": goal.most, "is": value}
        for goal, value in checked
        if value is not None
    ]
    found["not_measured"] = [goal.what for goal, value in checked if value is None]
    if args.markdown:
        args.markdown.write_text(report.markdown(found), encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if args.json else report.text(found))
    return 0


def command(only: Sequence[str] | None, sizes: Sequence[int]) -> str:
    """Return the command that measures the same; where it writes to is not part of that."""
    words = ["python -m benchmarks", *(f"--only {name}" for name in only or ())]
    if tuple(sizes) != SIZES:
        words.append(f"--sizes {','.join(map(str, sizes))}")
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=list(SUBJECTS), help="a subject; repeatable")
    add(
        "--sizes",
        type=_sizes,
        default=SIZES,
        metavar="N,N",
        help=f"numbers of templates (default: {','.join(map(str, SIZES))})",
    )
    add("--json", action="store_true", help="one JSON document on stdout")
    add("--markdown", type=Path, metavar="FILE", help="also write a page, as docs/benchmarks.md")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdecimal() and 1 <= int(word) <= MOST for word in words):
        raise argparse.ArgumentTypeError(f"`{text}`: write numbers from 1 to {MOST}, as `1,100`")
    return tuple(sorted({int(word) for word in words}))


def _leave(number: int, _: FrameType | None) -> None:
    """End as Ctrl-C does, so that what was started is ended too."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(main(sys.argv[1:]))
