import pytest

from sandboxfile.local.clients import runs_as_root


@pytest.mark.parametrize(
    ("user_agent", "as_root"),
    [
        ("e2b-js-sdk/2.2.9", True),
        ("e2b-python-sdk/1.0.0", True),
        ("e2b-python-sdk/2.3.0-rc.1", True),
        ("e2b-python-sdk/2.3.0", False),
        ("e2b-python-sdk/2.3.0+build.5", False),
        ("e2b-js-sdk/10.0.0", False),
        ("httpx/1 e2b-js-sdk/2.0.0 other", True),
        ("novita-sandbox-python-sdk/2.1.1", False),
        ("novita-e2b-js-sdk/1.0.0", False),
        ("curl/8", False),
        ("", False),
    ],
)
def test_old_clients_of_e2b_run_their_steps_as_root(user_agent: str, *, as_root: bool) -> None:
    assert runs_as_root(user_agent) is as_root


@pytest.mark.parametrize("version", ["", "2", "2.x.0", "2.3.0_1", "latest", "2.3.0-"])
def test_a_version_that_is_none_is_told(version: str) -> None:
    with pytest.raises(ValueError, match=f"^'{version}' is not a version$"):
        runs_as_root(f"e2b-js-sdk/{version}")
