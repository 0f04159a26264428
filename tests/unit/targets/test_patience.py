"""How long is waited for what."""

from sandboxfile.cancel import Cancel
from sandboxfile.targets.patience import Patience


def test_runs_that_began_together_do_not_go_on_asking_together() -> None:
    slept: list[float] = []
    drawn = iter((0.0, 0.5, 1.0))
    patience = Patience(sleep=lambda _, seconds: slept.append(seconds), random=lambda: next(drawn))
    for _ in range(3):
        patience.pause(Cancel(), 10.0)
    assert slept == [8.0, 9.0, 10.0]
