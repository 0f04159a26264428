"""Holds exchanges of the template API against its description, docs/templates.openapi.yaml."""

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse
from openapi_spec_validator.readers import read_from_filename

OURS = Path(__file__).parents[2] / "docs" / "templates.openapi.yaml"
# What else the local service answers is another protocol: a registry's, a storage's.
_OTHERS = re.compile(r"/storage/|/health$|/v2/?$|/v2/(?!templates)")
_TRIGGER = re.compile(r"/(v2/)?templates/[^/]+/builds/[^/]+")
_ACCEPTED, _NO_CONTENT = 202, 204


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and its answer as they were on the wire; names of headers in lower case.

    The status 0 stands for an answer that is not known.
    """

    method: str
    target: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    answer: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.target} -> {self.status}"

    @property
    def content(self) -> tuple[object, ...]:
        """All that two exchanges must have in common to be the same to the description."""
        given = frozenset(self.headers)
        return self.method, self.target, given, self.body, self.status, self.answer

    @property
    def is_covered(self) -> bool:
        return _OTHERS.match(self.path) is None

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def is_empty_by_contract(self) -> bool:
        """Whether the answer has no body: those to triggers and deletions (3.6, 4.2)."""
        triggered = self.status == _ACCEPTED and _TRIGGER.fullmatch(self.path)
        return self.status == _NO_CONTENT or bool(triggered)


@functools.cache
def described() -> tuple[OpenAPI, ...]:
    """Return the descriptions that hold: ours, and what SF_TEST_OPENAPI names.

    Of somebody else's it is known that refusals go beyond those it lists. Zeros in answers of the
    v1 flow and in lists (2.3, 2.6), and tokens where E2B takes keys alone (1.6), remain faults.
    """
    ours = read(OURS)
    named = os.environ.get("SF_TEST_OPENAPI")
    theirs = [_completed(read(named), ours)] if named else []
    return tuple(OpenAPI.from_dict(each) for each in (ours, *theirs))


def read(path: Path | str) -> dict[str, Any]:
    return {str(name): part for name, part in read_from_filename(str(path))[0].items()}


def _completed(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Let a description hold for every address, and for every refusal."""
    refused = {"application/json": {"schema": ours["components"]["schemas"]["Error"]}}
    for operations in theirs["paths"].values():
        for operation in operations.values():
            if "responses" in operation:
                operation["responses"]["default"] = {"description": "", "content": refused}
    return {**theirs, "servers": ours["servers"]}


def faults(exchanges: Iterable[Exchange], *, requests: bool = True) -> list[str]:
    """Return what is wrong with answers, a line each, and with `requests` what was asked, too."""
    # Who polls hears the same again and again.
    different = {each.content: each for each in exchanges if each.is_covered}.values()
    return [
        f"{exchange}: {each}"
        for exchange in different
        for each in _faults(exchange, requests=requests)
    ]


def _faults(exchange: Exchange, *, requests: bool) -> Iterator[str]:
    for description in described():
        request, answer = _request(exchange), _answer(exchange)
        try:
            if requests:
                description.validate_request(request)
            if exchange.status and not exchange.is_empty_by_contract:
                description.validate_response(request, answer)
        except OpenAPIError as error:
            yield _told(error)
    if exchange.is_empty_by_contract and exchange.answer:
        yield f"the answer has a body: {exchange.answer!r}"


def _told(error: BaseException) -> str:
    """Write an error of openapi-core with its causes, the errors of the schema among them."""
    said = [f"{type(error).__name__}: {error}"]
    cause = error.__cause__
    while cause is not None:
        details = getattr(cause, "schema_errors", None) or [cause]
        said += [str(getattr(each, "message", each)) for each in details]
        cause = cause.__cause__
    return "; ".join(said)


def _request(exchange: Exchange) -> MockRequest:
    query = urlsplit(exchange.target).query
    return MockRequest(
        "http://127.0.0.1",
        exchange.method.lower(),
        exchange.path,
        args=dict(parse_qsl(query, keep_blank_values=True)),
        headers=dict(exchange.headers),
        data=exchange.body or None,
        content_type=_content_type(exchange.headers),
    )


def _answer(exchange: Exchange) -> MockResponse:
    return MockResponse(
        data=exchange.answer,
        status_code=exchange.status,
        headers=dict(exchange.answer_headers),
        content_type=_content_type(exchange.answer_headers),
    )


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip()
