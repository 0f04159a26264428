"""Diagnostics for us and for operators, on stderr: console text or JSON. The only structlog."""

import logging
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

from sandboxfile.events import Emit, Event
from sandboxfile.redact import Redactor

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["console", "json"]

ROOT = "sandboxfile"
# These tell the world about URLs, signed ones too; nothing of theirs is ever shown.
FOREIGN = ("httpx", "httpcore", "urllib3", "docker", "asyncio")


def silence() -> None:
    """Keep other people's loggers quiet, also while ours are off."""
    for name in FOREIGN:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def configure(
    *,
    stream: TextIO,
    level: Level = "warning",
    form: Format = "console",
    redactor: Redactor | None = None,
    colour: bool = False,
) -> None:
    """Send what `bind` loggers and `logging.getLogger("sandboxfile…")` say to a stream.

    Every text is defused and redacted before it is rendered, and redacted again afterwards.
    """
    import structlog

    redactor = redactor or Redactor()
    silence()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _safe(redactor),
    ]
    renderer: Any = structlog.processors.JSONRenderer(sort_keys=True)
    if form == "console":
        # Plain tracebacks: rich's would show local variables, and what is in them.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=colour, exception_formatter=plain)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Redacting(formatter, redactor))
    ours = logging.getLogger(ROOT)
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        cache_logger_on_first_use=False,
    )


def bind(name: str, **values: object) -> Any:
    """Return a logger of ours that says `values` with every message."""
    import structlog

    return structlog.get_logger(f"{ROOT}.{name}", **values)


def tap(emit: Emit) -> Emit:
    """Return an `emit` that also logs every event, at level debug."""
    logger = bind("events")

    def both(event: Event) -> None:
        fields = {slot: getattr(event, slot) for slot in event.__slots__}
        logger.debug(type(event).__name__, **fields)
        emit(event)

    return both


class _Redacting(logging.Formatter):
    """Redacts what another formatter makes, whatever its form."""

    def __init__(self, inner: logging.Formatter, redactor: Redactor) -> None:
        super().__init__()
        self._inner = inner
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(self._inner.format(record))


def _safe(redactor: Redactor) -> Any:
    """Return a processor that defuses and redacts every text before it is rendered."""

    def process(
        _logger: object, _method: str, values: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return {
            name: redactor.lines(value) if isinstance(value, str) else value
            for name, value in values.items()
        }

    return process
