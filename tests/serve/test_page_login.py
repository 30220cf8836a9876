"""The session of the page, and what tells its own requests from those of other sites."""

from __future__ import annotations

import pytest

from blemish.serve.login import (
    SESSION_S,
    is_own_request,
    is_session,
    is_this_machine,
    is_token,
    new_session,
    own_address,
)


def test_a_session_is_valid_with_its_token_until_it_ends() -> None:
    value = new_session("secret", 1000.0)
    assert "secret" not in value
    assert is_session(value, "secret", 1001.0)
    assert not is_session(value, "another", 1001.0)
    assert not is_session(value, "secret", 1000.0 + SESSION_S)


@pytest.mark.parametrize("change", ["", "0", "99999999999999999999.00", ".", "٣.00", None])
def test_what_was_not_signed_is_no_session(change: str | None) -> None:
    assert not is_session(change, "secret", 1001.0)


def test_the_end_of_a_session_cannot_be_put_off() -> None:
    ends, _, signature = new_session("secret", 1000.0).partition(".")
    assert not is_session(f"{int(ends) + 1}.{signature}", "secret", 1001.0)


def test_tokens_are_compared_whole() -> None:
    assert is_token("grün", "grün")
    assert not is_token("grü", "grün")


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://line:8000", "host": "line:8000"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://line:8000", "host": "line:8000"}, True),
        ({"origin": "http://line:8001", "host": "line:8000"}, False),
        ({"origin": "null", "host": "line:8000"}, False),
        ({"origin": "null", "host": ""}, False),
        ({"host": "line:8000"}, False),
    ],
)
def test_a_request_of_another_site_is_told(headers: dict[str, str], is_own: bool) -> None:
    assert is_own_request(headers) == is_own


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1:8000", True), ("localhost", True), ("[::1]:8000", True), ("127.0.0.1.evil.example:8000", False),
        ("evil.example", False), ("", False), ("[", False),
    ],
)  # fmt: skip
def test_only_its_own_names_are_this_machine(host: str, is_here: bool) -> None:
    assert is_this_machine(host) == is_here


@pytest.mark.parametrize("address", ["/", "/parts?product=a&lot=7"])
def test_after_the_login_it_goes_on_where_it_was(address: str) -> None:
    assert own_address(address) == address


@pytest.mark.parametrize("address", ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", ""])
def test_after_the_login_it_does_not_go_elsewhere(address: str) -> None:
    assert own_address(address) == "/"
