"""Who may use the service."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from services import GOOD, Running, running

from blemish.serve.guard import COOKIE, LOCAL_HOSTS, cookie_value

TOKEN = "correct horse"


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), token=TOKEN) as each:
        yield each


def test_who_has_the_token_may(line: Running) -> None:
    assert line.inspect(GOOD).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"{COOKIE}={TOKEN}"},
        {"Cookie": f"{COOKIE}={cookie_value('wrong')}"},
        {"Cookie": ";;=,"},
    ],
)
@pytest.mark.parametrize(
    "path", ["/verdicts", "/products", "/metrics", "/events", "/openapi.json", "/v2", "/nowhere"]
)
def test_who_has_not_may_not(line: Running, headers: dict[str, str], path: str) -> None:
    answer = httpx.get(line.url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["error"]


def test_a_photograph_without_token_has_no_row(line: Running) -> None:
    n_before = len(line.rows())
    answer = httpx.post(line.url + "/products/gasket/inspect", content=GOOD, headers={"Content-Type": "image/png"})
    assert answer.status_code == 401
    assert len(line.rows()) == n_before


def test_a_browser_may_with_its_cookie_and_is_led_to_the_login_without(line: Running) -> None:
    cookie = {"Cookie": f"{COOKIE}={cookie_value(TOKEN)}"}
    assert httpx.get(line.url + "/products", headers=cookie).status_code == 200
    answer = httpx.get(line.url + "/", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=%2F")
    assert httpx.get(line.url + "/v2/health/live").status_code == 200


def test_without_a_token_it_is_called_by_no_other_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("service"), hosts=LOCAL_HOSTS) as line:
        assert line.inspect(GOOD).status_code == 200
        for host in ("127.0.0.1:80", "localhost", "[::1]:8000"):
            assert line.http.get("/products", headers={"Host": host}).status_code == 200
        answer = line.http.get("/products", headers={"Host": "evil.example:8000"})
        assert answer.status_code == 400
        assert "evil.example" in answer.json()["error"]
