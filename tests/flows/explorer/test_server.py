import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flows.explorer import serve
from flows.explorer.server import address
from tasks.core.errors import SetupError
from tests.source_tree import ROOT


def test_the_address_is_what_a_browser_opens() -> None:
    assert address("127.0.0.1", 8710, None) == "http://127.0.0.1:8710/"
    assert address("::1", 1, None) == "http://[::1]:1/"
    assert address("192.168.1.4", 80, "a&b") == "http://192.168.1.4:80/?token=a%26b"
    assert address("::", 80, None) == f"http://{socket.gethostname()}:80/"


def test_a_short_token_and_a_port_that_is_taken_are_explained(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="at least 16"):
        serve(str(tmp_path), lambda query: [], token="short", port=0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SetupError, match="--port"):
            serve(str(tmp_path), lambda query: [], port=taken.getsockname()[1])
    with pytest.raises(SetupError, match="another --host"):
        serve(str(tmp_path), lambda query: [], host="203.0.113.1", token="a-long-enough-token", port=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_it_serves_until_it_is_interrupted(tmp_path: Path, host: str) -> None:
    script = f"from flows.explorer import serve\nserve({str(tmp_path)!r}, lambda query: [], port=0, host={host!r})"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        assert httpx.get(found[0] + "api/media").json() == {"media": [], "more": False, "cameras": []}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stdout.read() == ""


def test_beyond_loopback_a_token_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said, and what is served, without opening a port to the network."""
    import uvicorn

    from flows.explorer import server

    heard: list[str] = []
    monkeypatch.setattr(server, "_listen", lambda host, port: socket.create_server(("127.0.0.1", 0)))
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    serve(str(tmp_path), lambda query: [], host="192.168.1.4", say=heard.append)
    assert re.search(r"http://192\.168\.1\.4:\d+/\?token=[\w-]{32} ", heard[0])
    assert "unencrypted" in heard[1]
