"""A stand-in for mmdebstrap: a shell script that does what a test wants."""

from pathlib import Path

CONTENT = b"a root filesystem\n"
# Keeps its arguments one to a line and what it finds in the environment; then what a test wants.
SCRIPT = """#!/bin/sh
here={here}
for each in "$@"; do printf '%s\\n' "$each"; done >> "$here/argv"
echo >> "$here/argv"
echo "$SOURCE_DATE_EPOCH $LC_ALL $TZ" >> "$here/env"
while [ "$1" != -- ]; do shift; done
target=$3
{body}
"""
# mmdebstrap repeats the scripts given to it.
HOOK = "I: running --extract-hook in shell: sh -c true"
WRITE = (
    f"echo '{HOOK}' >&2; "
    f"printf '%s\\n' '{CONTENT.decode().strip()}' > \"$target\"; echo 'I: done' >&2"
)


class Tool:
    """A stand-in for mmdebstrap on the PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.does(WRITE)

    def does(self, body: str) -> None:
        program = self.directory / "mmdebstrap"
        program.write_text(SCRIPT.format(here=self.directory, body=body))
        program.chmod(0o755)

    def says(self, text: str, status: int = 25) -> None:
        """End with a status, after some lines on stderr."""
        (self.directory / "said").write_text(text)
        self.does(f'cat "$here/said" >&2; exit {status}')

    @property
    def calls(self) -> list[list[str]]:
        path = self.directory / "argv"
        if not path.exists():
            return []
        return [call.splitlines() for call in path.read_text().rstrip("\n").split("\n\n")]
