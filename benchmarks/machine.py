"""What a figure is worth nothing without: the machine that it was measured on."""

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.setting import Setting, has
from sandboxfile import __version__

Facts = Mapping[str, object]
PROGRAMS = {
    "git": ("git", "version"),
    "docker_client": ("docker", "--version"),
    "make": ("make", "--version"),
    "ninja": ("ninja", "--version"),
    "compose": ("docker-compose", "--version"),
}


def facts(setting: Setting) -> Facts:
    """Return processor, memory, kernel, and the versions of all that takes part."""
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sandboxfile": __version__,
        **_versions(setting),
    }


def _versions(setting: Setting) -> Facts:
    found = {name: _said(setting, *command) for name, command in PROGRAMS.items()}
    if setting.engine:
        info = setting.engine.info()
        found["engine"] = f"{info.kind} {info.version} ({info.builder}, {info.store})"
    return {name: said for name, said in found.items() if said}


def _said(setting: Setting, *command: str) -> str:
    """Return the first line of what a program says of itself, nothing if it is not here."""
    if not has(command[0], setting.environ):
        return ""
    done = subprocess.run(command, env=setting.environ, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()


def _field(path: Path, name: str) -> str:
    if not path.exists():
        return ""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
