"""Our files hash is that of Novita's Python SDK for the same copy, but for what is unstable.

Unstable are the sizes of directories, which differ from one file system to the next: the SDK's own
code, given none, has to come to our hash.
"""

import json
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxfile.context import select
from sandboxfile.errors import ConfigError
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy
from sandboxfile.places import Position
from sandboxfile.statcache import NoCache
from sandboxfile.uploads import upload

PROGRAM = Path(__file__).parent / "programs" / "hashes.py"
AT = Position("novita.yaml", 1, 1)
TREES = 200
# Where orders differ that are not of code points: before and after `/`, `.` and letters.
LETTERS = "aZ9-._ +~@,=éßñ\u0301Ω字😀"


@dataclass(frozen=True, kw_only=True)
class Case:
    context: Path
    source: str
    to: str

    def ours(self) -> str:
        copy = Copy(sources=(self.source,), to=self.to, root=self.context, at=AT)
        return upload(select(copy, Ground(self.context)), NoCache()).files_hash()

    @property
    def has_directories(self) -> bool:
        return (self.context / self.source).is_dir()

    def __str__(self) -> str:
        found = sorted(str(each.relative_to(self.context)) for each in self.context.rglob("*"))
        return f"COPY {self.source} {self.to} of {found}"


def grow(chance: random.Random, root: Path, depth: int = 0) -> None:
    """Fill a directory with files, links, and directories down to three levels."""
    for _ in range(chance.randint(0 if depth else 1, 5)):
        name = "".join(chance.choices(LETTERS, k=chance.randint(1, 8)))
        path = root / name
        if name in {".", ".."} or path.exists() or path.is_symlink():
            continue
        kind = chance.choice(["file", "file", "executable", "link", "directory"])
        if kind == "link":
            path.symlink_to(
                chance.choice(["nowhere", ".", "..", *(p.name for p in root.iterdir())])
            )
        elif kind == "directory" and depth < 3:
            path.mkdir()
            grow(chance, path, depth + 1)
            path.chmod(0o755)
        else:
            path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 10_000])))
            path.chmod(0o755 if kind == "executable" else 0o644)


def cases(root: Path) -> Iterator[Case]:
    for seed in range(TREES):
        chance = random.Random(seed)  # the same trees in every run
        context = root / f"{seed}"
        context.mkdir()
        grow(chance, context)
        context.chmod(0o755)
        inside = [each for each in context.rglob("*") if not each.is_symlink()]
        directories = [each for each in inside if each.is_dir()]
        chosen = chance.choice(chance.choice([inside, directories, [context]]) or [context])
        source = chance.choice(["", "./"]) + str(chosen.relative_to(context))
        source += chance.choice(["", "/"]) if chosen.is_dir() else ""
        to = chance.choice(["/app/", "/app", "relative", "."])
        yield Case(context=context, source=source, to=to)


def judged(python: str, asked: Sequence[Case]) -> list[dict[str, str]]:
    lines = [
        json.dumps({"context": str(each.context), "source": each.source, "to": each.to})
        for each in asked
    ]
    done = subprocess.run(
        [python, str(PROGRAM)], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_hash_is_the_sdks_but_for_the_sizes_of_directories(
    sdk_python: str, tmp_path: Path
) -> None:
    asked = list(cases(tmp_path))
    differing = [
        f"{case}: ours {case.ours()}, theirs {theirs}"
        for case, theirs in zip(asked, judged(sdk_python, asked), strict=True)
        if case.ours() != theirs["stable" if case.has_directories else "exact"]
    ]
    assert not differing, f"{len(differing)} of {TREES} differ:\n" + "\n".join(differing[:5])


def test_without_directories_the_hash_is_the_sdks_own(sdk_python: str, tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello\n")
    (tmp_path / "hello.txt").chmod(0o644)
    asked = [
        Case(context=tmp_path, source=name, to="/app/") for name in ("hello.txt", "./hello.txt")
    ]
    theirs = judged(sdk_python, asked)
    assert [each.ours() for each in asked] == [each["exact"] for each in theirs]
    assert [each["stable"] for each in theirs] == [each["exact"] for each in theirs]


@pytest.mark.parametrize("target", ["file", "directory"])
def test_a_link_is_never_copied_itself(tmp_path: Path, target: str) -> None:
    """The SDK's hash of a linked directory has its files, its archive cannot be unpacked."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(ConfigError, match="links are not followed"):
        Case(context=tmp_path, source="link", to="/app/").ours()
