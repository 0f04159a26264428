"""Write a first novita.yaml from what the directory holds."""

import argparse
import re
import sys
from pathlib import Path

from sandboxfile import errors
from sandboxfile.errors import UsageError

_IGNORED = ("novita.local.lock", ".sandboxfile/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the template's name (default: the directory's)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing novita.yaml")


def run(args: argparse.Namespace) -> int:
    directory = Path.cwd()
    path = directory / (args.file or "novita.yaml")
    if path.exists() and not args.force:
        raise UsageError(f"`{path.name}` is already there", hint="`--force` overwrites it")
    path.write_text(draft(directory, args.name), encoding="utf-8")
    sys.stderr.write(f"wrote {path.name}\n")
    if _ignore(directory):
        sys.stderr.write("wrote .gitignore: results of target `local` are this machine's own\n")
    sys.stderr.write("next: `sandboxfile build --target local`\n")
    return errors.DONE


def draft(directory: Path, name: str | None) -> str:
    """Return a novita.yaml for a directory: its Dockerfile, or its packages, or a bare Debian."""
    lines = ["version: 1", f"name: {name or _name(directory)}"]
    if (directory / "Dockerfile").is_file():
        lines.append("base: {dockerfile: Dockerfile}")
    else:
        lines += _from_sources(directory)
    lines += [
        "# What runs when a sandbox starts, and when it counts as ready:",
        "# start: exec python3 -m http.server 8000",
        "# ready: {port: 8000}",
    ]
    return "\n".join(lines) + "\n"


def _from_sources(directory: Path) -> list[str]:
    if (directory / "package.json").is_file():
        return ["base: node:22-bookworm-slim", "packages:", "  npm: {project: .}"]
    if (directory / "uv.lock").is_file():
        return ["base: python:3.12-slim", "packages:", "  pip: [uv]", "  uv: {project: .}"]
    if (directory / "requirements.txt").is_file():
        return ["base: python:3.12-slim", "packages:", "  pip: {requirements: requirements.txt}"]
    if (directory / "pyproject.toml").is_file():
        return ["base: python:3.12-slim", "packages:", "  pip: {project: .}"]
    return ["base: {debian: bookworm}"]


def _name(directory: Path) -> str:
    """Turn a directory's name into a legal template name (protocol reference, 4.1)."""
    name = re.sub(r"[^a-z0-9_-]+", "-", directory.name.lower()).strip("-_")
    return name[:128] or "sandbox"


def _ignore(directory: Path) -> bool:
    path = directory / ".gitignore"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in _IGNORED if line not in text.splitlines()]
    if missing:
        gap = "" if not text or text.endswith("\n") else "\n"
        path.write_text(text + gap + "".join(f"{line}\n" for line in missing), encoding="utf-8")
    return bool(missing)
