import base64

import pytest

from sandboxfile.local.tokens import Denied, Tokens

TEMPLATE = "abcdefghij0123456789"
SCOPE = f"repository:e2b/custom-envs/{TEMPLATE}:pull,push"


class Ticker:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticker() -> Ticker:
    return Ticker()


@pytest.fixture
def tokens(ticker: Ticker) -> Tokens:
    return Tokens(is_valid="good".__eq__, is_waiting=TEMPLATE.__eq__, now=ticker)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


GOOD = basic("_e2b_access_token:good")


def test_a_token_opens_the_template_of_its_scope_for_two_hours(
    tokens: Tokens, ticker: Ticker
) -> None:
    token = tokens.issue(GOOD, [SCOPE])
    assert len(token) == 128
    assert tokens.template(f"Bearer {token}") == TEMPLATE
    assert tokens.template(f"bearer  {token} ") == TEMPLATE
    assert tokens.template(f"Basic {token}") is None
    assert tokens.template("Bearer another") is None
    ticker.now = 2 * 3600
    assert tokens.template(f"Bearer {token}") is None
    tokens.issue(GOOD, [SCOPE])


def test_a_login_gets_a_token_that_opens_nothing(tokens: Tokens) -> None:
    assert tokens.template(f"Bearer {tokens.issue(GOOD, [])}") == ""


def test_of_several_scopes_the_one_that_pushes_is_meant(tokens: Tokens) -> None:
    """A client that would mount layers asks to pull from where they are, too."""
    other = "repository:e2b/custom-envs/aaaa:pull"
    assert tokens.template(f"Bearer {tokens.issue(GOOD, [other, SCOPE])}") == TEMPLATE


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (basic('_e2b_access_token: "good" '), 0),
        (basic("_e2b_access_token:bad"), 403),
        (basic("_e2b_access_token:"), 403),
        (basic("_e2b_access_token:go:od"), 400),
        (basic("somebody:good"), 400),
        (basic("good"), 400),
        ("Basic %%%", 400),
        ("Basic " + base64.b64encode(b"\xff:").decode(), 400),
        ("Bearer good", 400),
        ("", 400),
    ],
)
def test_credentials(tokens: Tokens, authorization: str, status: int) -> None:
    if not status:
        assert tokens.issue(authorization, [])
        return
    with pytest.raises(Denied) as caught:
        tokens.issue(authorization, [])
    assert caught.value.status == status
    assert (caught.value.message == "invalid access token") == (status == 403)


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (f"repository:e2b/custom-envs/{TEMPLATE}:pull", 0),
        (f"repository:e2b/custom-envs/{TEMPLATE}:push,pull", 0),
        (f"repository:e2b/custom-envs/{TEMPLATE}:delete", 403),
        (f"repository:e2b/custom-envs/{TEMPLATE}:push,delete", 403),
        ("repository:e2b/custom-envs/another:push", 403),
        (f"repository:library/{TEMPLATE}:push", 400),
        (f"repository:e2b/custom-envs/{TEMPLATE}/x:push", 400),
        (f"registry:e2b/custom-envs/{TEMPLATE}:push", 400),
        ("nonsense", 400),
    ],
)
def test_scopes(tokens: Tokens, scope: str, status: int) -> None:
    if not status:
        assert tokens.issue(GOOD, [scope])
        return
    with pytest.raises(Denied) as caught:
        tokens.issue(GOOD, [scope])
    assert caught.value.status == status
