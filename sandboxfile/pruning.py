"""Which templates at a service nothing names any more: what is known, and a pure judgement.

Nothing goes that is not proven to be ours: its ID was in the lock in this branch's history or in
the journal here, and it has a content tag, which only this program gives.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sandboxfile import git, journal, lockfile
from sandboxfile.app import LOCK, Session
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass
from sandboxfile.listing import ListedBuild, ListedTemplate
from sandboxfile.process import run
from sandboxfile.redact import sanitise
from sandboxfile.service import TagEntry

# Stricter than `tags.is_content`: it is what proves that a template is of this program's making.
CONTENT = re.compile(r"sf-[0-9a-f]{16}")
_ID = re.compile(r"^[-+]?\s+template_id: \"?([a-z0-9]{1,64})\"?$", re.MULTILINE)
_PLAIN = ("--no-textconv", "--no-ext-diff", "--no-color")
_BUILD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides: `locked`, `own` and `known` are template IDs, `written` names of novita.yaml.

    `own` are those of the target's lock here, `locked` those of all locks that count.

    Tags in `ignored` keep nothing. What was touched after `before` is kept. With `everything`,
    a content tag alone is proof.
    """

    locked: Collection[str]
    own: Collection[str]
    known: Collection[str]
    written: Collection[str]
    ignored: Collection[str]
    before: datetime
    everything: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a template: kept for a reason, or to go when there is none."""

    template: ListedTemplate
    kept: str

    @property
    def name(self) -> str:
        return self.template.names[0] if self.template.names else "-"


def _name(template: ListedTemplate) -> str:
    return template.names[0] if template.names else template.template_id


def judge(
    template: ListedTemplate, tags: Iterable[TagEntry], builds: Iterable[ListedBuild], rules: Rules
) -> Verdict:
    """Return the first reason to keep a template, if there is one."""
    reasons = _reasons(template, [tag.tag for tag in tags], builds, rules)
    return Verdict(template=template, kept=next(reasons, ""))


def unasked(template: ListedTemplate, rules: Rules) -> Verdict:
    """Return the reason to keep a template that needs no further question to the service."""
    return Verdict(template=template, kept=next(_plain_reasons(template, rules), ""))


def _plain_reasons(template: ListedTemplate, rules: Rules) -> Iterator[str]:
    written = [name for name in template.names if name in rules.written]
    if template.template_id in rules.own and not written:
        way = f"`sandboxfile delete {_name(template)}`"
        yield f"the lock still names it, novita.yaml does not: {way}"
    if template.template_id in rules.locked:
        yield "a lock names it"
    if written:
        yield f"novita.yaml has `{written[0]}`"
    if not rules.everything and template.template_id not in rules.known:
        yield "not known to be of this workspace"


def _reasons(
    template: ListedTemplate, tags: list[str], builds: Iterable[ListedBuild], rules: Rules
) -> Iterator[str]:
    yield from _plain_reasons(template, rules)
    if not any(CONTENT.fullmatch(tag) for tag in tags):
        yield "it has no content tag: sandboxfile did not make it"
    if named := [tag for tag in tags if not CONTENT.fullmatch(tag) and tag not in rules.ignored]:
        yield f"it has the tag {', '.join(f'`{tag}`' for tag in sorted(named))}"
    if template.public:
        yield "it is published: other teams may use it"
    if active := [build for build in builds if build.state in {"waiting", "building"}]:
        yield f"build {active[0].build_id} runs"
    touched = _time(template.updated or template.created)
    if touched is None:
        yield "the service does not say when it was changed"
    elif touched > rules.before:
        yield f"it was changed at {touched:%Y-%m-%d %H:%M}, too short a time ago"


def stale_tags(
    tags: Iterable[TagEntry],
    builds: Iterable[ListedBuild],
    *,
    locked: Collection[str],
    keep: int,
    before: datetime,
) -> tuple[str, ...]:
    """Return the content tags of builds that nothing else names; without it a build is forgotten.

    The newest `keep` ready builds stay, those that `locked` names, those with a tag of people's,
    those that run, and those made after `before`. `builds` are the newest first.
    """
    tagged: dict[str, list[str]] = {}
    for tag in tags:
        tagged.setdefault(tag.build_id, []).append(tag.tag)
    ready = [build for build in builds if build.state == "ready"]
    old = [build for build in ready[keep:] if (_time(build.created) or before) < before]
    return tuple(
        tag
        for build in old
        if build.build_id not in locked
        and all(CONTENT.fullmatch(tag) for tag in tagged.get(build.build_id, ()))
        for tag in tagged.get(build.build_id, ())
    )


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)  # they are UTC
    except ValueError:
        return None


def before(days: float, now: datetime | None = None) -> datetime:
    """Return the time that many days ago."""
    return (now or datetime.now(UTC)) - timedelta(days=days)


# --- what is known ---------------------------------------------------------------------------


def locks(session: Session, files: Iterable[Path]) -> tuple[str, ...]:
    """Return the texts of the target's lock, of the given ones, and of those of all branches here.

    Raises ConfigError when a given file is no lock, SandboxfileError when it is not there, or
    when git does not tell of a repository that is.
    """
    texts = [session.lock_path.read_text()] if session.lock_path.exists() else []
    for file in files:
        if lockfile.named(file) is None:
            raise SandboxfileError(f"`{file}` is not there", hint="name locks that exist")
        texts.append(lockfile.content(file) or "")
    return (*texts, *(_lock_at(session, commit) for commit in _branches(session)))


def _branches(session: Session) -> list[str]:
    """Return the commits that branches and tags here are at. Raises SandboxfileError."""
    if not _is_repository(session):
        return []
    kinds = "%(objecttype) %(*objecttype) %(objectname)"
    rows = [
        line.split() for line in _told(session, "for-each-ref", f"--format={kinds}").splitlines()
    ]
    return sorted({row[-1] for row in rows if row[-2] == "commit"})


def _lock_at(session: Session, commit: str) -> str:
    """Return the lock of a commit, nothing where it has none. Raises SandboxfileError."""
    if not _told(session, "ls-tree", "--name-only", commit, "--", LOCK):
        return ""
    return _told(session, "show", *_PLAIN, f"{commit}:./{LOCK}")


def _is_repository(session: Session) -> bool:
    root = session.workspace.root.resolve()
    above = any(os.path.lexists(each / ".git") for each in (root, *root.parents))
    return above or "GIT_DIR" in session.args.environ


def _told(session: Session, *argv: str) -> str:
    """Return what git says of the repository that is here. Raises SandboxfileError."""
    try:
        done = run(git.command(session.workspace.root, *argv))
    except SandboxfileError as error:
        raise _untold(error.message) from None
    if done.status != 0:
        raise _untold(" ".join(done.stderr) or f"exit status {done.status}")
    return done.stdout


def _untold(why: str) -> SandboxfileError:
    return SandboxfileError(
        f"git does not tell which templates other branches have: {sanitise(why)}",
        hint="nothing is pruned without knowing; see what `git for-each-ref` says here",
    )


def templates_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the template IDs that locks name."""
    return frozenset(each for text in texts for each in _ids(text))


def builds_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the build IDs that locks name, those of moved tags too."""
    return frozenset(each for text in texts for each in _BUILD.findall(text))


def known(session: Session) -> frozenset[str]:
    """Return the IDs that the lock ever had in this branch, and that the journal here has.

    Other branches prove nothing: anybody's proposal may be among them.
    """
    found = set(_ids(_git(session, "log", "--format=", "-p", *_PLAIN, "--", LOCK)))
    found |= {record.template_id for record in journal.peek(session.journal_path).values()}
    found |= {entry.template_id for entry in session.entries().values()}
    return frozenset(found - {""})


def _ids(text: str) -> list[str]:
    return _ID.findall(text)


def _git(session: Session, *argv: str) -> str:
    """Return what git says; nothing outside of a repository or without git."""
    try:
        done = run(git.command(session.workspace.root, *argv))
    except SandboxfileError:
        return ""
    return done.stdout if done.status == 0 else ""
