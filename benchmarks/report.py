"""Figures for people: as indented text, and as the page docs/benchmarks.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]

_HEAD = """# Benchmarks

Written by `{command}`, which took {seconds:.0f} seconds; no figure here was typed by hand. All
programs of a table ran on the same machine in the same minutes, one after the other, round
after round. Times are of whole processes, medians in milliseconds; a ratio is the median of the
ratios round by round, so it may differ from the quotient of two medians. `python -m benchmarks`
measures on your machine; `sh dev/bench` installs what it compares with on Debian first.
`sandboxfile` runs in an environment of what it requires, as `pip install .` makes one: without the
packages that its tests and its peers bring.
"""
_ABOUT = {
    "noop": """## Nothing to do

Templates of twenty files each, all built; the lock is in git. `sandboxfile` is `sandboxfile
build` after another one, `second_stage` is without the record that the other one left,
`fresh_clone` has nothing but what git knows: it takes git's word for the content of files that it
has just checked out, and, as the first run, leaves nothing for later runs but the record of what
it said. `fresh_clone_reading` reads all of them, as where git filters or the lock is from before
that, and leaves what it has read. `git_status`, `make`, `ninja` and `doit` look at the same files;
`sdk` is Novita's SDK hashing them (`to_json`), as it does before every build.
`docker_build_serial` and the best of `docker build` with 2, 4 and 8 at once, and Docker Compose,
ask an engine that has everything cached.
""",
    "change": """## One file changed

The one template whose file has changed is built, out of so many. All programs build the same
Dockerfile with BuildKit. `sandboxfile` also pushes to a registry on this machine and publishes
at a service that takes no time; `build_only` is the same run without the seconds of these
steps, and what the ratios are of. `build` is `docker build` of that template alone, by somebody
who knows which it is.
""",
    "cold": """## Everything to do

Twenty templates that were never built, each with a RUN, `-j 4`. `images_only` is all that
`sandboxfile build` does up to the images, from its start, and what stands against loops that only
build; it has kept what it knows of content that was built before, which `images_only_in_a_clone`
has not. `sandboxfile` is the whole: images, pushes, snapshots and tags, against a loop of build
and push (`vs_build_and_push`); `while_pushing_vs_best_parallel` is the moment of its last image
then, against a loop that does not push. `by_hand` is a Dockerfile as one would write it by hand,
which lacks the files that keep the environment for shells. `docker_sdk` is the docker SDK in
series, which knows the classic builder only. `push` is asking whether an unchanged image is at the
registry, beside `docker push` of it.
""",
    "keys": """## Keys

`fresh` is `sandboxfile plan` in a fresh clone whose lock says nothing of git's terms, which reads
the configuration and hashes every file; `cached` is the same with what an earlier run has kept.
The others hash the files alone, or, as `git ls-files --stage` does, print hashes that were computed
before.
""",
    "memory": """## Memory

The most that a process had in memory, in MiB. `above_small` is what a build that copies 500 MB
takes more than one of twenty small files.
""",
    "service": """## The local service

How long the local template service takes to answer, and how many builds of nothing it gets
through.
""",
}


def text(found: Found, indent: str = "") -> str:
    """Write one figure in a line, groups of them indented."""
    lines = ""
    for name, value in found.items():
        if isinstance(value, Mapping):
            lines += f"{indent}{name}:\n{text(value, indent + '  ')}"
        elif name == "goals":
            lines += "".join(f"{indent}{_line(goal)}\n" for goal in value)
        elif name == "not_measured":
            lines += "".join(f"{indent}not measured: {what}\n" for what in value)
        else:
            lines += f"{indent}{name}: {value}\n"
    return lines


def _line(goal: Found) -> str:
    reached = "reached" if goal["is"] <= goal["most"] else "NOT REACHED"
    return f"{reached}: {goal['what']}: {goal['is']:.4g}, at most {goal['most']:.4g}"


def markdown(found: Found) -> str:
    """Write the page."""
    parts = [_HEAD.format(**found), *_machine(found), *_goals(found)]
    for name, about in _ABOUT.items():
        if name in found:
            parts += [about, *_subject(found[name])]
    return "\n".join(parts)


def _machine(found: Found) -> Iterable[str]:
    yield "## The machine\n"
    yield _table(("", ""), [(name, str(value)) for name, value in found["machine"].items()])
    if found["lacking"]:
        yield "Not compared with:\n"
        yield "".join(f"- {name}: {why}\n" for name, why in found["lacking"].items())


def _goals(found: Found) -> Iterable[str]:
    rows = [
        (
            goal["what"],
            _shown(float(goal["most"])),
            _shown(float(goal["is"])),
            "yes" if goal["is"] <= goal["most"] else "**no**",
        )
        for goal in found["goals"]
    ]
    rows += [(what, "", "", "not measured") for what in found["not_measured"]]
    if rows:
        yield "## What is asked for\n"
        yield _table(("", "at most", "is", "reached"), rows)


def _subject(found: Found) -> Iterable[str]:
    """Write what has sizes as columns with a column for each, all else as it is."""
    sizes = [name for name in found if name.isdecimal() and "runs" in found[name]]
    if sizes:
        yield "Medians in milliseconds, by number of templates:\n"
        yield _by_size({size: _medians(found[size]) for size in sizes})
        yield "Ratios:\n"
        yield _by_size({size: _ratios(found[size]) for size in sizes})
    elif "runs" in found:
        yield _runs(found["runs"])
        yield _table(("", ""), [(name, _shown(each)) for name, each in _plain(found)])
    else:
        yield f"```\n{text(found)}```\n"


def _medians(found: Found) -> Mapping[str, float]:
    return {name: figures["median_ms"] for name, figures in found["runs"].items()}


def _ratios(found: Found) -> Mapping[str, float]:
    return {name: value for name, value in found.items() if name != "runs"}


def _plain(found: Found) -> Iterable[tuple[str, object]]:
    for name, value in found.items():
        if name != "runs" and isinstance(value, Mapping):
            yield from ((f"{name}: {inner}", each) for inner, each in _plain(value))
        elif name != "runs":
            yield name, value


def _by_size(columns: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    rows = [
        (name, *(_shown(column.get(name, "")) for column in columns.values())) for name in names
    ]
    return _table(("", *columns), rows)


def _runs(runs: Mapping[str, Mapping[str, float]]) -> str:
    columns = ("median_ms", "least_ms", "worst_ms", "cpu_ms", "runs")
    rows = [
        (name, *(_shown(figures[column]) for column in columns)) for name, figures in runs.items()
    ]
    return _table(("", *columns), rows)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
