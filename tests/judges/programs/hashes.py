"""Print the files hashes of Novita's Python SDK for the copies that standard input names.

A line is `{"context": ..., "source": ..., "to": ...}`; a line comes back with the hash (`exact`),
and with the one that the same code computes when the sizes of directories are empty (`stable`).
"""

import json
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from novita_sandbox.core.template import utils


class Os:
    """The module `os` for the SDK, where directories have no size."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def stat(self, path: str) -> Any:
        found = Path(path).stat()
        if stat.S_ISDIR(found.st_mode):
            return SimpleNamespace(st_mode=found.st_mode, st_size="")
        return found


def files_hash(call: dict[str, str]) -> str:
    found: str = utils.calculate_files_hash(
        call["source"],
        call["to"],
        call["context"],
        ignore_patterns=[],
        resolve_symlinks=False,
        stack_trace=None,
    )
    return found


for line in sys.stdin:
    asked = json.loads(line)
    exact = files_hash(asked)
    utils.os = Os()
    stable = files_hash(asked)
    utils.os = os
    sys.stdout.write(json.dumps({"exact": exact, "stable": stable}) + "\n")
