"""Calls to a template service that users make, but this program does not: listing, deleting."""

import json
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

Template = dict[str, Any]


def templates(url: str, key: str) -> list[Template]:
    """Return all templates of the service."""
    found: list[Template] = json.loads(_call(url, key, "GET", "/templates"))
    return found


def builds(url: str, key: str, template: str) -> list[Template]:
    """Return all builds that a template ever had, the newest first."""
    found: list[Template] = json.loads(_call(url, key, "GET", f"/templates/{template}"))["builds"]
    return found


def delete(url: str, key: str, template: str) -> None:
    """Delete a template, by its ID or name."""
    _call(url, key, "DELETE", f"/templates/{template}")


def _call(url: str, key: str, method: str, path: str) -> bytes:
    headers = {"X-API-Key": key, "Authorization": f"Bearer {key}"}
    direct = build_opener(ProxyHandler({}))
    with direct.open(Request(url + path, method=method, headers=headers)) as answer:
        body: bytes = answer.read()
        return body
