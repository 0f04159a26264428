"""Run the local template service until it is stopped."""

import argparse
import re
import signal
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

from sandboxfile import app, collector, credentials, errors
from sandboxfile.commandline import duration
from sandboxfile.engines import choose
from sandboxfile.errors import UsageError
from sandboxfile.local.builder import PARALLEL
from sandboxfile.local.faults import Faults
from sandboxfile.local.limits import LIMITS, Limits
from sandboxfile.local.service import LocalService
from sandboxfile.model import EngineChoice, Login
from sandboxfile.reference import ImageReference

_PORTS = 65_535
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PHASES = tuple(each.name for each in fields(Limits))
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")  # RFC 1123, 2.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1; 0 (the default) picks one"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where templates are kept (default: per user)"
    )
    parser.add_argument(
        "--v1-registry",
        metavar="HOST/REPOSITORY",
        help="where images of the v1 flow are pushed to, in place of the service's own registry",
    )
    parser.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="HOST",
        help="a name for this machine that clients may use besides localhost; repeatable",
    )
    parser.add_argument(
        "--strict", action="store_true", help="demand the credential kinds that E2B demands"
    )
    parser.add_argument(
        "--parallel",
        type=int,
        default=PARALLEL,
        metavar="N",
        help=f"builds that run at once (default: {PARALLEL})",
    )
    parser.add_argument(
        "--max-builds",
        type=int,
        metavar="N",
        help="builds that may wait or run, 429 beyond (default: any number)",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="PHASE=DURATION",
        help=f"how long a phase may take ({', '.join(_PHASES)}); repeatable",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[=COUNT]",
        help="fail on purpose, to test a client; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    _check(args)
    collector.resume()

    def login(host: str) -> Login | None:
        return credentials.login_for(host, environ=args.environ, home=args.home)

    network = args.environ.get("SANDBOXFILE_NETWORK") or None
    with ExitStack() as stack:
        engine = choose.choose(EngineChoice(), environ=args.environ, network=network)
        stack.callback(engine.close)
        service = LocalService(
            engine=engine,
            data=args.data or app.data(args.environ, args.home),
            logins=login,
            strict=args.strict,
            registry=args.v1_registry,
            parallel=args.parallel,
            max_builds=args.max_builds,
            faults=args.fault,
            host_names=args.host_name,
            limits=_limits(args.limit),
        )
        stack.callback(service.stop)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        url = service.start(port=args.port)
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        sys.stderr.write(f"NOVITA_API_URL={url} points an SDK here; Ctrl-C stops\n")
        stopped.wait()
    return errors.DONE


def _check(args: argparse.Namespace) -> None:
    for name in ("parallel", "max_builds"):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise UsageError(f"`--{option} {value}`: at least one build has to be possible")
    for name in args.host_name:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"`--host-name {name}`: not the name of a host",
                hint="give one whole name without port, for example `docker.sandbox.test`",
            )
    _check_registry(args.v1_registry)
    if not 0 <= args.port <= _PORTS:
        raise UsageError(f"`--port {args.port}`: ports are 0 (a free one) to {_PORTS}")
    _limits(args.limit)
    Faults(args.fault)  # before an engine is looked for


def _limits(texts: Iterable[str]) -> Limits:
    """Return the service's own limits with these in place of some. Raises UsageError."""
    given: dict[str, float] = {}
    for text in texts:
        phase, _, time = text.partition("=")
        if phase not in _PHASES:
            raise UsageError(
                f"`--limit {text}`: there is no phase `{phase}`",
                hint=f"phases are {', '.join(_PHASES)}",
            )
        try:
            given[phase] = duration(time)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"`--limit {text}`: {error}") from None
    return replace(LIMITS, **given)


def _check_registry(text: str | None) -> None:
    if text is None:
        return
    try:
        host = ImageReference.parse(f"{text}/name").registry
    except ValueError:
        host = ""
    if not host or not text.startswith(host):
        shown = text.rpartition("@")[2]  # what stands before may be a password
        raise UsageError(
            f"`--v1-registry {shown}`: not a registry",
            hint="write its host, perhaps with port and path: `registry.test:5000/team`",
        )
