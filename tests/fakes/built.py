"""Locks as a build would have left them, for commands that only read them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sandboxfile import lockfile, tags
from sandboxfile.config import finding, load
from sandboxfile.lockfile import Entry, Lock
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey

DIGEST = "sha256:" + "d" * 64
PINS = {"docker.io/library/debian:12 linux/amd64": DIGEST}
BUILD_ID = "00000000-0000-4000-8000-{:012d}"


def pretend(
    root: Path,
    *,
    target: str = "local",
    resolved: Mapping[str, str] | None = None,
    git_sha: str | None = None,
) -> Mapping[str, Entry]:
    """Write the locks that a build of everything in `root` would have left; the entries."""
    pins = PINS if resolved is None else resolved
    surveyed = survey(
        workspace := load.load(finding.find(root, None)),
        workspace.templates,
        resolved=pins,
        digests=NoCache(),
    )
    entries = {}
    for number, (name, each) in enumerate(surveyed.templates.items()):
        assert each.keys is not None
        wanted = (*each.template.tags, *workspace.targets[target].tags)
        key = each.keys.template_key
        entries[name] = Entry(
            template_id=f"template{number:012d}",
            build_id=BUILD_ID.format(number),
            git_key=each.git_key(),
            image=f"sha256:{number:064d}",
            image_key=each.keys.image_key,
            template_key=key,
            parts=each.keys.parts,
            parent=each.parent,
            tags=tags.expand(wanted, key=key, git_sha=git_sha, at=each.template.at),
        )
    is_local = workspace.targets[target].provider == "local"
    lockfile.update(root / "novita.lock", lambda lock: lock.with_resolved(pins))
    for name, entry in entries.items():
        path = root / ("novita.local.lock" if is_local else "novita.lock")
        lockfile.update(path, partial(_with, target, name, entry))
    return entries


def _with(target: str, name: str, entry: Entry, lock: Lock) -> Lock:
    return lock.with_entry(target, name, entry)
