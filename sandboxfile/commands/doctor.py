"""Say what was found on this machine, and what is missing for what."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from sandboxfile import __version__, account, app, counts, credentials, errors, fidelity, pulling
from sandboxfile.config import finding
from sandboxfile.engines import choose
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.model import EngineChoice, Target, Workspace

Row = tuple[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    rows = [("sandboxfile", f"{__version__}, Python {sys.version.split()[0]}")]
    workspace, said = _workspace(args)
    rows.append(("novita.yaml", said))
    choice = workspace.engine if workspace else EngineChoice()
    network = args.environ.get("SANDBOXFILE_NETWORK") or None
    rows += [
        (f"engine: {what}", verdict)
        for what, verdict in choose.describe(choice, environ=args.environ, network=network)
    ]
    rows += _rest(args, workspace)
    if args.json:
        found = [{"what": what, "verdict": verdict} for what, verdict in rows]
        sys.stdout.write(json.dumps({"found": found}, indent=2) + "\n")
        return errors.DONE
    width = max(len(what) for what, _ in rows)
    for what, verdict in rows:
        sys.stdout.write(f"{what:<{width}}  {verdict}\n")
    return errors.DONE


def _workspace(args: argparse.Namespace) -> tuple[Workspace | None, str]:
    try:
        path = finding.find(Path.cwd(), args.file)
    except SandboxfileError as error:
        return None, error.message
    try:
        workspace = app.workspace(args)
    except ConfigError as error:
        return None, f"{counts.of(len(error.problems), 'problem')}; run `sandboxfile validate`"
    except SandboxfileError as error:
        return None, error.message
    return workspace, f"{counts.of(len(workspace.templates), 'template')} in {path}"


def _registry(args: argparse.Namespace, target: Target) -> str:
    """Say of which kind the credentials for the target's registry are, and where they are from."""
    host = str(target.registry).partition("/")[0]
    if args.environ.get("SANDBOXFILE_REGISTRY_USERNAME"):
        return f"{host}: registry, from SANDBOXFILE_REGISTRY_USERNAME"
    docker = partial(credentials.login_for, host, environ=args.environ, home=args.home)
    try:
        found = pulling.find(
            host,
            environ=args.environ,
            home=args.home,
            login=docker,
            is_novita=fidelity.service_of(target) == "novita",
        )
    except SandboxfileError as error:
        return f"{host}: {error.message.splitlines()[0]}"
    return f"{host}: {found.kind}, from {found.source}" if found else f"{host}: no credentials"


def _no_key(args: argparse.Namespace, workspace: Workspace | None) -> str:
    if workspace is not None:
        with suppress(SandboxfileError):
            target, _ = app.target(args, workspace)
            if target.provider != "local":
                return f"none: target `{target.name}` needs one, in `NOVITA_API_KEY`"
    return "none: target `local` needs none"


def _rest(args: argparse.Namespace, workspace: Workspace | None) -> Iterator[Row]:
    try:
        found = account.find(args.environ, args.home)
        yield "API key", f"from {found.source}" if found else _no_key(args, workspace)
    except SandboxfileError as error:
        yield "API key", error.message
    if workspace is not None:
        try:
            target, why = app.target(args, workspace)
            where = target.api_url or "a service on loopback, started when needed"
            yield "target", f"{target.name} ({why}): {where}"
            if target.registry:
                yield "registry", _registry(args, target)
        except SandboxfileError as error:
            yield "target", error.message
    made = shutil.which("mmdebstrap")
    yield "mmdebstrap", made or "absent: needed for `base: {debian: …}` only"
    yield "local templates", str(app.data(args.environ, args.home))
