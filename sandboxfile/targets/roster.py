"""The account's templates by name, listed once when many are looked for."""

import threading
from collections.abc import Mapping
from itertools import islice

from sandboxfile.declined import Denied, Failing, Rejected
from sandboxfile.listing import ListedTemplate
from sandboxfile.service import PAGE, TemplateService


class Roster:
    """Lists when that is less work for the service than to look up each name by itself.

    A list costs a request for every hundred templates of the account and tells the IDs of all; a
    look-up costs several requests for each template of ours.
    """

    def __init__(self, service: TemplateService) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._expected = 0
        self._is_read = False
        self._rows: Mapping[str, ListedTemplate] | None = None

    def expect(self, count: int) -> None:
        """Take note that so many templates are about to be looked for, all as they are now."""
        with self._lock:
            self._expected, self._is_read, self._rows = count, False, None

    def rows(self) -> Mapping[str, ListedTemplate] | None:
        """Return the account's templates by name; None where names are better looked up singly.

        Raises Unreachable, Busy, Cancelled.
        """
        with self._lock:
            if not self._is_read:
                self._rows = self._listed() if self._expected > 1 else None
                self._is_read = True
            return self._rows

    def _listed(self) -> Mapping[str, ListedTemplate] | None:
        most = self._expected * PAGE
        try:
            rows = [*islice(self._service.templates(), most + 1)]
        except (Denied, Rejected, Failing):
            return None  # looked up singly, the service says what is wrong, if anything is
        if len(rows) > most:
            return None
        return {name: row for row in rows for name in row.names}
