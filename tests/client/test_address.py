"""Where the service is and who asks; secrets stay secret."""

import warnings

import pytest
from stn_client import AsyncClient, Client, InvalidInput
from stn_client.address import API_KEY_VARIABLE, Address

KEY = "a-very-secret-key"


@pytest.fixture(autouse=True)
def no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


def test_without_a_key_there_is_no_authorization() -> None:
    assert "authorization" not in Address.of("http://127.0.0.1:8000", None, None).headers


def test_the_key_is_sent_as_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Address.of("https://host", KEY, None).headers["authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv(API_KEY_VARIABLE, "of-the-environment")
    assert Address.of("https://host", None, None).headers["authorization"] == "Bearer of-the-environment"
    assert Address.of("https://host", KEY, None).headers["authorization"] == f"Bearer {KEY}"


def test_a_key_of_the_environment_gives_way_to_what_the_call_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    assert Address.of("https://host", None, {"Authorization": "Basic abc"}).headers["authorization"] == "Basic abc"
    assert Address.of("https://me:word@host", None, None).headers["authorization"] == "Basic bWU6d29yZA=="
    monkeypatch.setenv(API_KEY_VARIABLE, "")
    assert "authorization" not in Address.of("https://host", None, None).headers


def test_headers_are_added_and_replace_the_usual_ones() -> None:
    headers = Address.of("http://localhost", None, {"X-Team": "digits", "User-Agent": "mine"}).headers
    assert headers["x-team"] == "digits"
    assert headers["user-agent"] == "mine"
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("key", ["", "two words", "a line\n", "schlüssel", 7])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="api_key: expected a key of visible ASCII characters") as raised:
        Address.of("https://host", key, None)
    assert not key or str(key) not in str(raised.value)
    if key and isinstance(key, str):
        monkeypatch.setenv(API_KEY_VARIABLE, key)
        with pytest.raises(InvalidInput, match="STN_API_KEY: expected a key") as raised:
            Address.of("https://host", None, None)
        assert key not in str(raised.value)


def test_two_answers_to_who_asks_are_one_too_many() -> None:
    for url, headers in (("https://me:word@host", None), ("https://host", {"Authorization": "Basic abc"})):
        with pytest.raises(InvalidInput, match="the url or the headers hold credentials too") as raised:
            Address.of(url, KEY, headers)
        assert KEY not in str(raised.value)
        assert "word" not in str(raised.value)


@pytest.mark.parametrize("headers", [{"x": "two\nlines"}, {"x": 7}, {"é": "x"}, {"x": "\x00"}])
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="headers: expected lines of ASCII text by name, got another .* at '"):
        Address.of("https://host", None, headers)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_secret_is_shown(kind: type) -> None:
    client = kind("https://me:word@host:8000/below")
    assert repr(client) == f"{kind.__name__}('https://host:8000/below')"
    for shown in (repr(kind("https://host", api_key=KEY)), repr(Address.of("https://me:word@host", None, None))):
        assert KEY not in shown
        assert "word" not in shown
    for url in ("ftp://me:word@host", "http://me:word@host:port"):
        with pytest.raises(InvalidInput, match="url: expected http://host:port, got '...@host") as raised:
            kind(url)
        assert "word" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("http://10.0.0.7:8000", True),
        ("http://stn.example", True),
        ("https://stn.example", False),
        ("http://localhost:8000", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_a_key_for_all_to_read_is_warned_of_where_the_client_is_made(url: str, warns: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Client(url, api_key=KEY)
        Client(url)
    assert len(caught) == warns
    for warning in caught:
        assert "travels unencrypted" in str(warning.message)
        assert KEY not in str(warning.message)
        assert warning.filename == __file__
