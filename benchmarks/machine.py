"""What a figure is worth nothing without: the machine that it was measured on."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from sandboxfile import __version__

Facts = Mapping[str, object]


def facts() -> Facts:
    """Return processor, memory, kernel, Python and our own version."""
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sandboxfile": __version__,
    }


def _field(path: Path, name: str) -> str:
    if not path.exists():
        return ""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
