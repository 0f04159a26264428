"""What the names of bases mean by now, beside what the lock pins them to."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from sandboxfile import choosing, planning, resolve, several, survey
from sandboxfile.app import Session
from sandboxfile.asking import AT_ONCE
from sandboxfile.errors import Cancelled, SandboxfileError, UsageError
from sandboxfile.frozen import dataclass, field
from sandboxfile.lockfile import base_name
from sandboxfile.parts import Parts
from sandboxfile.reference import ImageReference
from sandboxfile.resolve import Base, Resolver

_SHOWN = len("sha256:") + 12  # characters of a digest
_NAMES = 3  # templates shown of those that name a base


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """A base, and the entry of `resolved` that it would have now, or why that is not known."""

    base: Base
    pins: Mapping[str, str] = field(default_factory=dict)
    error: SandboxfileError | None = None

    @property
    def current(self) -> str | None:
        return next(iter(self.pins.values()), None)

    @property
    def has_moved(self) -> bool:
        """Whether the lock has another digest; a base that it does not have has not moved."""
        return self.base.locked is not None and self.current not in {None, self.base.locked}


def find(session: Session, words: Sequence[str], *, pinning: bool) -> tuple[Upgrade, ...]:
    """Ask what bases are now: those named, those that the templates named are built on, or all.

    Unless they are to be pinned, nobody is asked about one that the lock does not have: there is
    nothing from which it could have moved. One that cannot be asked is among them, with its error.
    Raises UsageError for a word that is neither, Cancelled.
    """
    names = session.workspace.templates
    planned = planning.make(session, names, resolve=False)
    known = resolve.bases(planned.survey, planned.resolved)
    wanted = {base.pin for word in words for base in _meant(session, known, word)}
    asked = [base for base in known if not words or base.pin in wanted]
    resolver = Parts(session).resolver()
    return several.each(partial(_asked, resolver, pinning=pinning), asked, AT_ONCE)


def _meant(session: Session, known: Iterable[Base], word: str) -> Iterable[Base]:
    try:
        workspace = session.workspace
        templates = set(survey.ordered(workspace, choosing.select(workspace, [word])))
    except UsageError as error:
        found = [base for base in known if _is_named(base, word)]
        if not found:
            names = f"bases: {_listed([base_name(base.pin) for base in known])}"
            error.hint = f"{error.hint}; {names}" if error.hint else names
            raise
        return found
    return [base for base in known if templates.intersection(base.templates)]


def _is_named(base: Base, word: str) -> bool:
    if not isinstance(base.source, str):
        return word == f"{base.source.distribution}:{base.source.suite}"
    with suppress(SandboxfileError, ValueError):
        normalised = ImageReference.parse(word).normalised
        return normalised == ImageReference.parse(base.source).normalised
    return False


def _asked(resolver: Resolver, base: Base, *, pinning: bool) -> Upgrade:
    if not pinning and base.locked is None:
        return Upgrade(base=base)
    try:
        return Upgrade(base=base, pins=resolver.current(base))
    except Cancelled:
        raise
    except SandboxfileError as error:
        error.at = error.at or base.at
        return Upgrade(base=base, error=error)


# --- what is said ----------------------------------------------------------------------------


def table(found: Iterable[Upgrade]) -> str:
    """Return a line for each: the base, what the lock has, what there is, who starts from it."""
    rows = [
        (
            base_name(each.base.pin),
            _short(each.base.locked) or "not in the lock",
            _short(each.current) or "unknown",
            _listed(each.base.templates),
        )
        for each in found
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        + "\n"
        for row in rows
    )


def as_json(found: Iterable[Upgrade]) -> dict[str, object]:
    """Return all that is known, as `outdated --json` prints it."""
    return {
        "bases": [
            {
                "name": each.base.pin,
                "locked": each.base.locked,
                "current": each.current,
                "outdated": each.has_moved,
                "templates": list(each.base.templates),
                "error": each.error.message if each.error else None,
            }
            for each in found
        ]
    }


def _short(digest: str | None) -> str:
    return (digest or "")[:_SHOWN]


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {rest} more" if rest > 0 else "")
