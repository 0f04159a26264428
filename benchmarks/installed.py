"""The program as its users have it: in an environment with what `pip install .` brings.

The one that measures also has the tools of its peers. Novita's SDK brings `h2`, which httpx then
loads in every run, and no user of sandboxfile has that.
"""

import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sandboxfile

NAME = "sandboxfile"
_SCRIPT = """\
#!{python}
import sys
from sandboxfile.entry import run
sys.exit(run())
"""


def install(directory: Path) -> Path:
    """Make an environment of the same Python; return the program in it.

    Its packages are those of this environment, in the versions that are here. They are linked:
    nothing is fetched, and all is compiled already.
    """
    venv.create(directory, symlinks=True)
    places = {"base": str(directory), "platbase": str(directory)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=places))
    for source in _contents():
        if not (packages / source.name).exists():
            (packages / source.name).symlink_to(source)
    script = Path(sysconfig.get_path("scripts", "venv", vars=places)) / NAME
    script.write_text(_SCRIPT.format(python=script.with_name("python")))
    script.chmod(0o755)
    return script


def _contents() -> Iterator[Path]:
    """Yield the files and directories in `site-packages` of all that the program needs."""
    yield Path(sandboxfile.__file__).parent
    for found in needed(distribution(NAME)):
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            path = Path(str(found.locate_file(top)))
            if path.suffix != ".pth" and path.name != "__pycache__":
                yield path


def needed(root: Distribution) -> list[Distribution]:
    """Return what a distribution requires, and what that requires, each once; not itself."""
    waiting, found = [Requirement(each) for each in root.requires or ()], dict[str, Distribution]()
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        asked = canonicalize_name(requirement.name), frozenset(requirement.extras)
        is_for_us = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not is_for_us or asked in seen:
            continue
        seen.add(asked)
        name, extras = asked
        found[name] = distribution(name)
        for text in found[name].requires or ():
            more = Requirement(text)
            marker = more.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
                more.marker = None
                waiting.append(more)
    return list(found.values())
