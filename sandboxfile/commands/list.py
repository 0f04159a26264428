"""List the templates of the workspace with their bases."""

import argparse
import json
import sys

from sandboxfile import app, errors
from sandboxfile.model import (
    Base,
    BootstrapBase,
    DockerfileBase,
    ImageBase,
    RemoteBase,
    TemplateBase,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="names or globs")


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    names = app.select(workspace, args.templates, everything=True)
    rows = [
        {
            "name": name,
            "base": base_text(workspace.templates[name].base),
            "tags": list(workspace.templates[name].tags),
        }
        for name in names
    ]
    if args.json:
        sys.stdout.write(json.dumps({"templates": rows}, indent=2) + "\n")
        return errors.DONE
    width = max((len(name) for name in names), default=0)
    for row in rows:
        sys.stdout.write(f"{row['name']:<{width}}  {row['base']}\n")
    return errors.DONE


def base_text(base: Base) -> str:
    """Say in a few words what a template is built on."""
    match base:
        case ImageBase():
            return base.image
        case TemplateBase():
            return f"template {base.template}"
        case RemoteBase():
            return f"remote template {base.remote}"
        case DockerfileBase():
            return base.dockerfile.name + (f" ({base.stage})" if base.stage else "")
        case BootstrapBase():
            return f"{base.distribution} {base.suite}"
