"""Write a first novita.yaml from what the directory holds."""

import argparse
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from sandboxfile import errors, importing, reading, writing
from sandboxfile.config import finding
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.model import NAME

_GIT = ".gitignore"
_IGNORED = ("novita.local.lock", ".sandboxfile/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the template's name (default: the directory's)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing novita.yaml")


def run(args: argparse.Namespace) -> int:
    directory = Path.cwd()
    check_name(args.name)
    path = directory / (args.file or finding.NAMES[0])
    found = [path, *(directory / name for name in finding.NAMES if not args.file)]
    _check_no_link(path)
    there = next((each for each in found if os.path.lexists(each)), None)
    if there is not None and not (args.force and there == path):
        raise UsageError(f"`{there.name}` is already there", hint=_overwrites(there, path))
    content = draft(directory, args.name).encode()
    ignored = write(path, content, lambda _: None, is_forced=args.force)
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


def write(
    path: Path, content: bytes, check: Callable[[Path], None], *, is_forced: bool = False
) -> str:
    """Write a novita.yaml that `check` accepts, and have git ignore what is this machine's own.

    Nothing is written through a link. Return what there is to say of what git ignores. Raises
    UsageError where there is a file, unless it `is_forced`, and SandboxfileError.
    """
    ignored = [""]

    def accept(draft: Path) -> None:
        check(draft)
        if path.exists():  # who may read it stays as it is
            draft.chmod(stat.S_IMODE(path.stat().st_mode))
        ignored[0] = ignore(path)

    try:
        (writing.whole if is_forced else writing.new)(path, content, accept)
    except FileExistsError:
        hint = "`-f FILE` writes another file"
        raise UsageError(f"`{path.name}` is already there", hint=hint) from None
    except OSError as error:
        raise _unwritable(path, error) from None
    return ignored[0]


def _unwritable(path: Path, error: OSError) -> SandboxfileError:
    return SandboxfileError(
        f"`{importing.shown(path)}` cannot be written: {error.strerror}",
        hint="look at who may write there, and at the room that is left",
    )


def _check_no_link(path: Path) -> None:
    """Raise UsageError for a link: a checkout may bring one along that leads anywhere."""
    if os.path.islink(path):  # noqa: PTH114 - tells, and does not raise, where nobody may look
        raise UsageError(
            f"`{importing.shown(path)}` is a symbolic link, through which nothing is written",
            hint="remove the link, or replace it by the file it points to",
        )


def _overwrites(there: Path, path: Path) -> str:
    return "`--force` overwrites it" if there == path else "there can be only one"


def draft(directory: Path, name: str | None) -> str:
    """Return a novita.yaml for a directory: its Dockerfile, or its packages, or plain Debian."""
    lines = ["version: 1", f"name: {importing.scalar(name or importing.of_directory(directory))}"]
    if reading.is_file(directory / "Dockerfile"):
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
    if reading.is_file(directory / "package.json"):
        return ["base: node:22-bookworm-slim", "packages:", "  npm: {project: .}"]
    if reading.is_file(directory / "uv.lock"):
        return ["base: python:3.12-slim", "packages:", "  pip: [uv]", "  uv: {project: .}"]
    if reading.is_file(directory / "requirements.txt"):
        return ["base: python:3.12-slim", "packages:", "  pip: {requirements: requirements.txt}"]
    if reading.is_file(directory / "pyproject.toml"):
        return ["base: python:3.12-slim", "packages:", "  pip: {project: .}"]
    return ["base: debian:bookworm-slim"]


def ignore(written: Path) -> str:
    """Let git ignore what is this machine's own, beside the root of the file that was written.

    Return what there is to say of it, nothing where git did so before. Raises SandboxfileError,
    and UsageError for a link.
    """
    path = (finding.root_of(written) or written).with_name(_GIT)
    _check_no_link(path)
    try:
        text = reading.regular(path).decode(errors="replace") if reading.exists(path) else ""
        missing = [line for line in _IGNORED if line not in text.splitlines()]
        if not missing:
            return ""
        gap = "" if not text or text.endswith("\n") else "\n"
        with path.open("ab") as file:
            file.write((gap + "".join(f"{line}\n" for line in missing)).encode())
    except OSError as error:
        raise _unwritable(path, error) from None
    return f"wrote {importing.shown(path)}: results of target `local` are this machine's own"
