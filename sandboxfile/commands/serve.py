"""Run the local template service until it is stopped."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from sandboxfile import app, credentials, errors
from sandboxfile.engines import choose
from sandboxfile.local.service import LocalService
from sandboxfile.model import EngineChoice, Login


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1; 0 (the default) picks one"
    )
    parser.add_argument("--data", type=Path, help="where templates are kept (default: per user)")
    parser.add_argument(
        "--v1-registry",
        metavar="HOST/REPOSITORY",
        help="where images of the v1 flow are pushed to and read from",
    )
    parser.add_argument(
        "--strict", action="store_true", help="demand the credential kinds that E2B demands"
    )


def run(args: argparse.Namespace) -> int:
    def login(host: str) -> Login | None:
        return credentials.login_for(host, environ=args.environ, home=args.home)

    engine = choose.choose(
        EngineChoice(),
        environ=args.environ,
        network=args.environ.get("SANDBOXFILE_NETWORK") or None,
    )
    service = LocalService(
        engine=engine,
        data=args.data or app.data(args.environ, args.home),
        logins=login,
        strict=args.strict,
        registry=args.v1_registry,
    )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    url = service.start(port=args.port)
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    sys.stderr.write(f"NOVITA_API_URL={url} points an SDK here; Ctrl-C stops\n")
    stopped.wait()
    service.stop()
    engine.close()
    return errors.DONE
