"""Start a build at a service at most once, whatever becomes of the answer."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from sandboxfile.declined import Busy, Failing, Rejected
from sandboxfile.targets.follow import Following, left
from sandboxfile.targets.patience import Patience
from sandboxfile.web import AnswerLost

AGAIN = frozenset({429, 503})


class Trigger:
    """The trigger of one build.

    A second one can destroy a healthy build (docs/protocol.md, 5.3), so nothing is repeated
    before the status was asked for.
    """

    def __init__(self, following: Following, patience: Patience, fire: Callable[[], None]) -> None:
        """`fire` sends the trigger and returns when it was accepted."""
        self._following = following
        self._patience = patience
        self._fire = fire

    def start(self, *, doubtful: bool) -> bool:
        """Trigger until the build runs; False when it waits for ever.

        After a trigger whose outcome is not known (`doubtful`: an earlier run's) the status
        decides, and only a build that is still waiting after a while is triggered again. Raises
        Gone, Rejected, Unreachable.
        """
        if not doubtful and self._accepted():
            return True
        for seconds in (self._patience.settle, self._patience.resettle):
            if self._leaves_waiting(seconds):
                return True
            if self._accepted():
                break  # it said yes: a third one could only do harm
        return self._leaves_waiting(self._patience.resettle)

    def _accepted(self) -> bool:
        """Send the trigger; True when the build runs, False when nobody can know."""
        deadline, pause = self._now() + self._patience.no_builder, self._patience.poll_first
        while True:
            try:
                return self._answered()
            except AnswerLost:
                return False
            except (Busy, Failing) as error:
                if error.status not in AGAIN:
                    return False
                if self._now() > deadline:
                    raise
            except Rejected as error:
                if error.says("not in waiting state"):
                    return True
                raise self._following.gone() if error.is_gone else error from None
            self._following.sleep(pause)
            pause = self._following.longer(pause)
            if self._following.poll().state != "waiting":
                return True

    def _answered(self) -> bool:
        """Wait for the answer, or for the status to say that there is no need to.

        Some services answer when the build is done. Hanging up may stop what they do for us.
        """
        answer: Future[None] = Future()
        threading.Thread(target=_keep, args=(answer, self._fire), daemon=True).start()
        pause = self._patience.answer
        while not wait({answer}, pause).done:
            pause = self._patience.poll_most
            if self._following.poll().state != "waiting":
                self._following.is_held = lambda: not answer.done()
                return True
            if self._patience.is_over:
                raise left(self._following.ids, self._patience)
        answer.result()
        return True

    def _leaves_waiting(self, seconds: float) -> bool:
        deadline, pause = self._now() + seconds, self._patience.poll_first
        while self._following.poll().state == "waiting":
            if self._now() >= deadline:
                return False
            self._following.sleep(pause)
            pause = self._following.longer(pause)
        return True

    def _now(self) -> float:
        return self._patience.clock()


def _keep(answer: "Future[None]", fire: Callable[[], None]) -> None:
    try:
        fire()
    except BaseException as error:  # noqa: BLE001 - carried over to who waits for the answer
        answer.set_exception(error)
    else:
        answer.set_result(None)
