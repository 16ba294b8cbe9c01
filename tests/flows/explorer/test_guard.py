from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from flows.explorer.guard import POLICY, is_loopback
from tasks.core.schema import Result

Open = Callable[..., TestClient]
TOKEN = "a-long-enough-token"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(open_client: Open, host: str) -> None:
    assert is_loopback(host)
    assert open_client(host=host).get("/api/media").status_code == 200


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.4", "example.org", "127.evil.example", ""])
def test_any_other_address_needs_a_token(open_client: Open, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ValueError, match="token is needed"):
        open_client(host=host)


def test_a_short_token_is_refused(open_client: Open) -> None:
    with pytest.raises(ValueError, match="16"):
        open_client(token="0123456789abcde")


@pytest.mark.parametrize(
    "path", ["/", "/media/{id}", "/api/media", "/api/search?q=hello", "/api/media/{id}", "/api/media/{id}/source",
             "/api/media/{id}/clips/0", "/api/media/{id}/picture", "/api/media/{id}/files/result.json", "/nowhere",
             "/alerts", "/api/alerts", "/api/visits", "/api/alerts/{id}/picture", "/api/media/{id}/frame"],
)  # fmt: skip
@pytest.mark.parametrize("given", [{}, {"token": "a-long-enough-tokem"}, {"token": ["x", TOKEN]}, {"token": ""}])
def test_without_the_token_nothing_is_told(
    open_client: Open, shown: Result, path: str, given: dict[str, str | list[str]]
) -> None:
    client = open_client(token=TOKEN)
    answer = client.get(path.format(id=shown.media_id), params=given or None)
    assert answer.status_code == 401
    assert "needs its token" in answer.text
    assert "talk" not in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("header", [{"authorization": "Bearer nonsense"}, {"cookie": "reelflow=1; a"}, {"cookie": ";"},
                                    {"authorization": "Basic " + TOKEN}, {"cookie": f"reelflow={TOKEN}"}])  # fmt: skip
def test_other_credentials_are_refused(open_client: Open, header: dict[str, str]) -> None:
    assert open_client(token=TOKEN).get("/api/media", headers=header).status_code == 401


def test_the_token_is_given_once(open_client: Open) -> None:
    client = open_client(token=TOKEN)
    answer = client.get("/", params={"token": TOKEN, "q": "hello"})
    [cookie] = answer.headers.get_list("set-cookie")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert TOKEN not in cookie + answer.text
    assert client.get("/api/media").status_code == 200
    client.cookies.clear()
    assert client.get("/api/media").status_code == 401
    assert client.get("/api/media", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_over_tls_the_cookie_is_for_tls_only(open_client: Open) -> None:
    client = open_client("https://127.0.0.1", token=TOKEN)
    assert "Secure" in client.get("/", params={"token": TOKEN}).headers["set-cookie"]


def test_the_page_that_asks_for_a_token_has_its_style(open_client: Open) -> None:
    client = open_client(token=TOKEN)
    assert client.get("/static/explorer.css").status_code == 200
    assert client.get("/static/../api/media").status_code == 401
    assert client.get("/static/%2e%2e/api/media").status_code == 404


@pytest.mark.parametrize("host", ["127.0.0.1:8710", "localhost:1", "[::1]:8710", "127.9.9.9", "reels.example:80"])
def test_its_own_addresses_are_answered(open_client: Open, host: str) -> None:
    client = open_client(names=["Reels.example"])
    assert client.get("/api/media", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8710", "10.0.0.1",
                                  "", "localhost:x", "a b", "user@localhost", "[::1", "127.0.0.1:8710:1"])  # fmt: skip
def test_a_rebound_name_is_refused(open_client: Open, host: str) -> None:
    answer = open_client().get("/api/media", headers={"host": host})
    assert answer.status_code == 400
    assert "talk" not in answer.text


def test_with_a_token_addresses_pass_and_unknown_names_do_not(open_client: Open) -> None:
    client = open_client(host=EVERYWHERE, token=TOKEN)
    proof = {"authorization": f"Bearer {TOKEN}"}
    assert client.get("/api/media", headers={"host": "192.168.1.4:8710", **proof}).status_code == 200
    assert client.get("/api/media", headers={"host": "evil.example", **proof}).status_code == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_but_not_load(open_client: Open, shown: Result, site: str) -> None:
    client = open_client()
    for path in ("/api/search?q=hello", f"/api/media/{shown.media_id}/source"):
        assert client.get(path, headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/nowhere", "/api/media", "/api/media/{id}/source", "/static/search.js",
                                  "/alerts", "/api/alerts", "/api/alerts/{id}/picture"])  # fmt: skip
def test_every_answer_has_the_headers(client: TestClient, shown: Result, path: str) -> None:
    headers = client.get(path.format(id=shown.media_id)).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "unsafe" not in POLICY


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client: TestClient, shown: Result, method: str) -> None:
    for path in ("/", "/api/media", f"/api/media/{shown.media_id}", f"/api/media/{shown.media_id}/files/result.json"):
        assert client.request(method, path).status_code == 405
