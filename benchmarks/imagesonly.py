"""What sandboxfile does up to the images, and nothing of what follows: a script, run as a process.

`imagesonly.py JOBS` in the directory of a tree plans as `sandboxfile build -j JOBS` does, asks the
same questions, and runs its jobs but those that push, publish and tag. The program has no such
mode: it stands beside loops of `docker build`, which do no more than that.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from sandboxfile import collector, commandline


def run(jobs: str) -> None:
    environ = dict(os.environ)
    commandline.Parser.environ = environ
    with collector.paused():
        _, args = commandline.parse(["build", "--jobs", jobs, "--progress", "json"])
        args.environ, args.given, args.here = environ, sys.argv, str(Path.cwd())
        args.since, args.home = time.time_ns(), Path(environ["HOME"])
        _build(args, int(jobs))


def _build(args: argparse.Namespace, builds: int) -> None:
    from sandboxfile import app, graph, planning
    from sandboxfile.opening import opened
    from sandboxfile.parts import Parts

    with opened(args) as it:
        names = tuple(it.session.workspace.templates)
        planned = planning.make(it.session, names, building=True)
        planning.check_possible(planning.findings(it.session, planned), it.session, allowed=False)
        pipeline = Parts(it.session).pipeline(planned.survey, planned.resolved)
        found = graph.run(
            [job for job in pipeline.jobs(planned.stale) if job.kind in {"generate", "build"}],
            settled=it.show.reporter.settled,
            started=it.show.reporter.started,
            cancel=it.session.cancel,
            limits=app.at_once(builds),
        )
        built = sum(o.status == "done" and o.name[:6] == "build:" for o in found.outcomes.values())
    sys.stdout.write(f"built {built}\n")


if __name__ == "__main__":
    run(sys.argv[1])
