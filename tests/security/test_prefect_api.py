"""A page in the user's browser, or another user of the host, speaks to a Prefect API of ours and creates nothing."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow, task
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows.runtime.api_guard import Guard, is_ours, sign_in_link
from flows.task_runner import ClusterTaskRunner
from tests.browser import Page, browser, chromium
from tests.prefect_home import DATABASE
from tests.security.conftest import Server

ELSEWHERE = "http://elsewhere.example"


def _body() -> bytes:
    return json.dumps({"name": "attack"}).encode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json"},
        {"Content-Type": "text/plain", "Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Authorization": "Basic cmVlbGZsb3c6Z3Vlc3M="},
    ],
)
def test_who_does_not_know_the_auth_string_creates_nothing(server: Server, headers: dict[str, str]) -> None:
    before = server.count()
    answer = httpx.post(f"{server.url}/api/flows/", content=_body(), headers=headers, timeout=30)
    assert answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
    assert server.count() == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "rebound.example:4200", "Origin": "http://rebound.example:4200"},
        {"Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_a_page_of_another_site_creates_nothing_with_the_auth_string(server: Server, headers: dict[str, str]) -> None:
    """A browser may have it: what it sends along for one page, it may send for another."""
    before = server.count()
    answer = httpx.post(f"{server.url}/api/flows/", content=_body(), headers=headers, auth=server.basic, timeout=30)
    assert answer.status_code == httpx.codes.FORBIDDEN
    assert server.count() == before


def test_no_other_origin_is_told_that_it_may_ask(server: Server) -> None:
    asked = {"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    for origin in (ELSEWHERE, server.url):
        answer = httpx.options(f"{server.url}/api/flows/", headers=asked | {"Origin": origin}, timeout=30)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/api/events/in", "/api/events/out", "/api/logs/out"])
def test_a_websocket_of_another_page_is_refused(server: Server, path: str) -> None:
    """Browsers ask nobody before they open one."""
    address = server.url.replace("http", "ws") + path
    with pytest.raises(InvalidStatus), connect(address, origin=ELSEWHERE, subprotocols=["prefect"], proxy=None):  # type: ignore[arg-type,list-item]
        pass
    with pytest.raises(InvalidStatus), connect(address, proxy=None):
        pass


@pytest.mark.parametrize(
    ("hosts", "origins", "ours"),
    [
        (["127.0.0.1:4200"], [], True),
        (["LOCALHOST"], ["http://localhost"], True),
        (["localhost:4200"], ["https://localhost:4200"], True),
        (["localhost:4200"], ["http://127.0.0.1:4200"], False),
        (["localhost.example"], [], False),
        (["localhost", "elsewhere.example"], [], False),
        ([], [], False),
        ([""], [], False),
        (["localhost"], ["null"], False),
        (["localhost"], ["http://localhost", ELSEWHERE], False),
        (["localhost"], ["http://localhost.example"], False),
        (["localhost"], [""], False),
    ],
)
def test_hosts_and_origins(hosts: list[str], origins: list[str], ours: bool) -> None:
    assert is_ours(hosts, origins, {"127.0.0.1", "localhost"}) is ours


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _site(folder: Path, page: str) -> Iterator[str]:
    """Another site: the address of a page on another port."""
    (folder / "index.html").write_text(page)
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{site.server_address[1]}/"
    finally:
        site.shutdown()
        site.server_close()


PAGE = """<!doctype html><title>waits</title><script>
const to = path => '%s' + path, body = JSON.stringify({name: 'attack'}), tries = [
  fetch(to('/api/flows/'), {method: 'POST', mode: 'no-cors', credentials: 'include', body: new Blob([body])}),
  fetch(to('/api/flows/'), {method: 'POST', mode: 'no-cors', body: new Blob([body], {type: 'text/plain'})}),
  fetch(to('/api/flows/'), {method: 'POST', headers: {'Content-Type': 'application/json'}, body}),
  new Promise(ended => {
    const socket = new WebSocket(to('/api/events/in').replace('http', 'ws'));
    socket.onopen = () => { document.body.append('socket open'); ended(); };
    socket.onerror = ended;
  }),
];
Promise.allSettled(tries).then(() => { document.title = 'tried'; });
</script><body></body>"""


def _go(page: Page, url: str) -> None:
    for domain in ("Page", "Runtime", "Network"):
        page.call(f"{domain}.enable")
    page.call("Page.navigate", url=url)


def test_in_a_browser_the_link_opens_prefects_pages_and_other_pages_do_nothing(server: Server, tmp_path: Path) -> None:
    binary = chromium()
    if binary is None:
        pytest.skip("no Chromium here")
    before = server.count()
    rebound = server.url.replace("127.0.0.1", "rebound.example")
    (tmp_path / "site").mkdir()
    with (
        browser(binary, tmp_path / "profile", flags=["--host-resolver-rules=MAP rebound.example 127.0.0.1"]) as page,
        _site(tmp_path / "site", PAGE % server.url) as site,
    ):
        _go(page, server.url)
        page.wait("document.body?.innerText.includes('Login')")
        _go(page, sign_in_link(server.url, server.auth))
        page.wait("document.body?.innerText.includes('Logout')")
        assert server.auth.partition(":")[2] not in page.run("location.href")
        page.wait("!document.body?.innerText.includes('Login')")
        _go(page, site)
        page.wait("document.title === 'tried'")
        assert "socket open" not in page.run("document.body.innerText")
        _go(page, f"{rebound}/api/admin/version")
        page.wait("document.body?.innerText.includes('Another site')")
    assert server.count() == before


def test_the_server_of_a_run_asks_for_its_auth_string(engine: None) -> None:
    url, auth = os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
    for path in ("/flows/", "/deployments/", "/variables/"):
        assert httpx.post(f"{url}{path}", content=_body(), timeout=30).status_code == httpx.codes.UNAUTHORIZED
    user, _, password = auth.partition(":")
    basic = {"auth": (user, password), "timeout": 30.0}
    assert httpx.post(f"{url}/flows/count", json={}, **basic).status_code == httpx.codes.OK  # type: ignore[arg-type]
    elsewhere = {"Host": "rebound.example"}
    assert httpx.get(f"{url}/health", headers=elsewhere, timeout=30).status_code == httpx.codes.FORBIDDEN


@task
def _fails() -> None:
    raise ValueError("as it was asked to")


@flow(task_runner=ClusterTaskRunner())
def _failing() -> None:
    _fails.submit().result()


def test_what_a_run_leaves_and_what_its_processes_show_names_no_secret(
    engine: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The command lines of processes are for every user of the host to read, logs and database for later."""
    from flows.runtime.local_cluster import local_scheduler, local_security
    from tasks.workers.worker import flush

    _failing(return_state=True)
    flush()
    key = local_security(local_scheduler()).tls_client_key.splitlines()[1]
    secrets = [os.environ["PREFECT_API_AUTH_STRING"].partition(":")[2].encode(), key.encode()]
    home = Path(os.environ["PREFECT_HOME"])
    left = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert any(b"as it was asked to" in content for content in left), f"{DATABASE} has the run"
    shown = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()]
    for secret in secrets:
        assert not [1 for content in (*left, *shown, caplog.text.encode()) if secret in content]


def test_a_server_without_auth_string_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.runtime import embedded_server

    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    with pytest.raises(SystemExit, match="PREFECT_SERVER_API_AUTH_STRING"):
        embedded_server.main(["0"])


def test_the_page_to_sign_in_runs_its_own_script_only() -> None:
    from starlette.testclient import TestClient

    async def never(*_: Any) -> None:
        raise AssertionError

    answer = TestClient(Guard(never, ["localhost"]), base_url="http://localhost").get("/sign-in")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert answer.headers["cache-control"] == "no-store"
