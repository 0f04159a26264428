"""What the answers of registries say, and the errors for those that say nothing sensible."""

import json
from collections.abc import Mapping
from typing import Any

from sandboxfile.errors import Unreachable
from sandboxfile.reference import ImageReference
from sandboxfile.web import Reply

OK, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY = 200, 401, 403, 404, 429


def json_object(body: bytes, image: ImageReference) -> Mapping[str, Any]:
    """Return the JSON object in an answer. Raises Unreachable for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise not_sensible(image, "answered with something that is not a JSON object")
    return value


def said(reply: Reply) -> str:
    """Return what a registry gives as the reason (distribution specification, error codes)."""
    try:
        first = json.loads(reply.body)["errors"][0]
        text = f"{first['code']}: {first.get('message', '')}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({''.join(filter(str.isprintable, text))[:200]})"


def not_sensible(image: ImageReference, what: str) -> Unreachable:
    """Return the error for an answer that no registry gives."""
    return Unreachable(
        f"registry `{image.registry}` {what} for `{image}`",
        hint="is it really a container registry that answers there?",
    )


def unreachable(host: str, error: Unreachable) -> Unreachable:
    """Return an error of the network with the registry that it was about."""
    return Unreachable(f"registry `{host}`: {error.message}", hint=error.hint)
