"""Regular expressions that are compiled when they are first used.

`re` compiles in Python: a quarter of a millisecond each, as long as it takes to import the module
that has it. A run imports a hundred of them and asks less than a third.
"""

import re
from typing import Any, AnyStr

_METHODS = ("fullmatch", "match", "search", "sub", "finditer")


def regex(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return what `re.compile` does, but later; `re.error` is raised then, at the first use."""
    later: Any = _Later(text, flags)
    return later  # type: ignore[no-any-return]


class _Later:
    """Looks like a compiled pattern, and has its methods from the first use on: no call is lost."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self.pattern = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(self.pattern, self._flags)
        vars(self).update({method: getattr(compiled, method) for method in _METHODS})
        return getattr(compiled, name)
