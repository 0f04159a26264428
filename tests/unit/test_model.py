"""A secret shows nothing of itself; places default to the template's own."""

import pickle

import pytest

from sandboxfile.model import Secret


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("canary")

    assert (str(secret), repr(secret), f"{secret}") == ("***", "Secret(***)", "***")
    assert secret.reveal() == "canary"
    assert (bool(secret), bool(Secret(""))) == (True, False)


def test_a_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("canary"))
