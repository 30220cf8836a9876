"""What tells the requests of the page from those of other sites, and where a login leads."""

from __future__ import annotations

import pytest

from blemish.serve.login import is_own_request, own_address


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


@pytest.mark.parametrize("address", ["/", "/parts?product=a&lot=7"])
def test_after_the_login_it_goes_on_where_it_was(address: str) -> None:
    assert own_address(address) == address


@pytest.mark.parametrize(
    "address", ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", ""]
)
def test_after_the_login_it_does_not_go_elsewhere(address: str) -> None:
    assert own_address(address) == "/"
