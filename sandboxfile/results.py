"""What became of each template, as `build --json` prints it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from sandboxfile.frozen import dataclass
from sandboxfile.lockfile import Entry
from sandboxfile.plan import Decision, Reason

Result = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the jobs of one template ended, taken together.

    The IDs are those of a build that was left at the service.
    """

    status: str = "done"
    error: str | None = None
    seconds: float = 0.0
    template_id: str = ""
    build_id: str = ""
    steps: tuple[Result, ...] = ()


def of(
    decisions: Iterable[Decision],
    entries: Mapping[str, Entry],
    ending: Callable[[str], Ending] = lambda _: Ending(),
) -> list[Result]:
    """Return one result for each decision; `entries` is the lock as it is now."""
    return [_one(d, entries.get(d.template), ending(d.template)) for d in decisions]


def _one(decision: Decision, now: Entry | None, ending: Ending) -> Result:
    entry = now if ending.status == "done" else decision.entry
    keys = decision.keys
    left = ending.build_id != ""
    return {
        "name": decision.template,
        "target": decision.target,
        "action": decision.action,
        "status": ending.status,
        "error": ending.error,
        "reasons": [reason.plain for reason in decision.reasons],
        "template_id": ending.template_id or (entry.template_id if entry else None),
        "build_id": ending.build_id or (entry.build_id if entry else None),
        "image": (entry.image or None) if entry and not left else None,
        "image_key": keys.image_key if keys else None,
        "template_key": keys.template_key if keys else None,
        "tags": list(decision.tags),
        "seconds": round(ending.seconds, 3),
        "steps": list(ending.steps),
    }


def of_lock(target: str, entries: Mapping[str, Entry]) -> list[Result]:
    """Return the results of a run that trusts the lock."""
    return [
        {
            "name": name,
            "target": target,
            "action": "up to date",
            "status": "done",
            "error": None,
            "reasons": [Reason(text="`--frozen` trusts the lock").plain],
            "template_id": entry.template_id,
            "build_id": entry.build_id,
            "image": entry.image or None,
            "image_key": entry.image_key,
            "template_key": entry.template_key,
            "tags": list(entry.tags or ()),
            "seconds": 0.0,
            "steps": [],
        }
        for name, entry in entries.items()
    ]


def counts(results: Iterable[Result]) -> dict[str, int]:
    """Count results by action, those that went wrong by status."""
    words = (r["action"] if r["status"] == "done" else r["status"] for r in results)
    return dict(Counter(str(word) for word in words))
