"""Write a first novita.yaml from what the directory holds."""

import argparse
import sys
from pathlib import Path

from sandboxfile import errors, importing
from sandboxfile.config import finding
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.model import NAME

_IGNORED = ("novita.local.lock", ".sandboxfile/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the template's name (default: the directory's)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing novita.yaml")


def run(args: argparse.Namespace) -> int:
    directory = Path.cwd()
    check_name(args.name)
    path = directory / (args.file or finding.NAMES[0])
    found = [path, *(directory / name for name in finding.NAMES if not args.file)]
    there = next((each for each in found if each.exists()), None)
    if there is not None and not (args.force and there == path):
        raise UsageError(f"`{there.name}` is already there", hint=_overwrites(there, path))
    try:
        path.write_text(draft(directory, args.name), encoding="utf-8")
        ignored = ignore(path)
    except OSError as error:
        text = f"`{error.filename}` cannot be written: {error.strerror}"
        hint = "look at who may write there, and at the room that is left"
        raise SandboxfileError(text, hint=hint) from None
    if not args.quiet:
        said = [f"wrote {path.name}"]
        if ignored:
            said.append(ignored)
        said.append("next: `sandboxfile build --target local`")
        sys.stderr.write("".join(f"{line}\n" for line in said))
    return errors.DONE


def check_name(name: str | None) -> None:
    """Raise UsageError for a name that no template can have."""
    if name and not NAME.fullmatch(name):
        raise UsageError(
            f"`{name}` is not a template name",
            hint="names have a-z, 0-9, `-` and `_`, at most 128, a letter or digit first",
        )


def _overwrites(there: Path, path: Path) -> str:
    return "`--force` overwrites it" if there == path else "there can be only one"


def draft(directory: Path, name: str | None) -> str:
    """Return a novita.yaml for a directory: its Dockerfile, or its packages, or plain Debian."""
    lines = ["version: 1", f"name: {importing.scalar(name or importing.of_directory(directory))}"]
    if (directory / "Dockerfile").is_file():
        lines.append("base: {dockerfile: Dockerfile}")
    else:
        lines += _from_sources(directory)
    lines += [
        "# Your own files, and the user they belong to:",
        "# user: user",
        '# files: [{from: ., to: /home/user/app/, owner: "user:user"}]',
        "# What runs when a sandbox starts, and when it counts as ready:",
        "# start: exec my-server --port 8000",
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
    return ["base: debian:bookworm-slim"]


def ignore(written: Path) -> str:
    """Let git ignore what is this machine's own, beside the root of the file that was written.

    Return what there is to say of it, nothing where git did so before. Raises OSError.
    """
    path = (finding.root_of(written) or written).with_name(".gitignore")
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    missing = [line for line in _IGNORED if line not in text.splitlines()]
    if not missing:
        return ""
    gap = "" if not text or text.endswith("\n") else "\n"
    more = "".join(f"{line}\n" for line in missing)
    path.write_text(text + gap + more, encoding="utf-8", errors="surrogateescape")
    return f"wrote {importing.shown(path)}: results of target `local` are this machine's own"
