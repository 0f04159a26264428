"""The files that keep an image's environment for shells at run time (docs/protocol.md, 3.8).

An image that is built here gets them from the build's context, so that no container has to start
for it, and so that no builder's own variables (proxies, with passwords in them) get in. What a
service's builder runs instead is `scripts.environment`, which writes the same bytes.
"""

from collections.abc import Iterator, Mapping
from posixpath import relpath

from sandboxfile import scripts
from sandboxfile.model import VARIABLE
from sandboxfile.patterns import regex

ROOT = "/etc"  # where the files are, and what is copied to
DIRECTORY = "environment"  # in the context
PLAIN, PROFILE = (relpath(path, ROOT) for path in (scripts.ENVIRONMENT, scripts.PROFILE))
# What Docker gives to commands of an image that sets no PATH (moby, `system.DefaultPathEnv`).
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_LEFT_OUT = regex(scripts.LEFT_OUT)


def files(variables: Mapping[str, str]) -> Mapping[str, bytes]:
    """Return the files' content by their path below `ROOT`, for an image with these variables."""
    kept = tuple(sorted(_kept({"PATH": PATH, **variables}), key=_line))
    exports = (f"export {n}={_quoted(v)}\n" for n, v in kept if not scripts.is_read_only(n))
    plain = (f"{n}={v}\n" for n, v in kept if v and not {'"', "\n"} & {*v})
    return {
        PLAIN: _encoded("".join(plain)),
        PROFILE: _encoded("".join(exports)),
    }


def _kept(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in variables.items():
        if VARIABLE.fullmatch(name) and not _LEFT_OUT.fullmatch(name):
            yield name, value


def _line(variable: tuple[str, str]) -> bytes:
    """Return what the script sorts by: a line in which an end of a line is the byte 1."""
    return _encoded("=".join(variable).replace("\n", "\1"))


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
