"""Hostile web servers as sources: each is given up within documented seconds and memory, with a reason."""

from __future__ import annotations

import datetime
import functools
import gzip
import ipaddress
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import NetworkError, ReelflowError, UnsupportedSource
from tasks.core.fetch import Fetched
from tests.core.sources import get
from tests.security.hostile import MIB, Script, answer, asked, drip, measured, serving

DEADLINE_S = 0.5
SLACK_S = 3.0
MOST_MIB = 32.0
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True, scope="module")
def _imported() -> None:
    """What the client imports at its first use is no server's doing."""
    import httpx

    httpx.Client().close()


def _get(port: int, cache: Path, scheme: str = "http", timeout_s: float = DEADLINE_S) -> Fetched:
    return get(f"{scheme}://127.0.0.1:{port}/a.mp4", cache, allow_private_hosts=True, timeout_s=timeout_s)


@functools.cache
def _bomb(layers: int) -> bytes:
    """150 MiB of zeros, deflated again and again."""
    packer = zlib.compressobj(1, wbits=31)
    found = b"".join(packer.compress(bytes(MIB)) for _ in range(150)) + packer.flush()
    for _ in range(layers - 1):
        found = gzip.compress(found)
    return found


@pytest.mark.parametrize(
    "coding",
    [
        "gzip",
        "gzip, gzip",
        "GZIP,identity",
        "identity,deflate",
        "br",
        "zstd",
        "x-gzip",
        "identity\r\nContent-Encoding: gzip",
    ],
)
def test_what_was_compressed_is_refused(cache: Path, coding: str) -> None:
    body = _bomb(2 if coding == "gzip, gzip" else 1)
    with (
        serving(answer(body, f"Content-Encoding: {coding}")) as port,
        measured() as cost,
        pytest.raises(UnsupportedSource, match="compressed"),
    ):
        _get(port, cache)
    assert cost.mib < MOST_MIB
    assert cost.seconds < SLACK_S


@pytest.mark.parametrize("coding", ["", "identity", "Identity, identity"])
def test_what_was_not_compressed_is_kept_as_it_came(cache: Path, coding: str) -> None:
    body = gzip.compress(b"a film" * 100)
    headers = [f"Content-Encoding: {coding}"] if coding else []
    with serving(answer(body, *headers)) as port:
        assert _get(port, cache).path.read_bytes() == body


def _silent(connection: socket.socket) -> None:
    time.sleep(30)


def _mute_after_request(connection: socket.socket) -> None:
    asked(connection)
    time.sleep(30)


def _tls_drip(connection: socket.socket) -> None:
    """A handshake record of 16 kB, a byte at a time."""
    connection.recv(65536)
    for byte in b"\x16\x03\x03\x40\x00" + bytes(16384):
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def _slow_redirects(connection: socket.socket) -> None:
    asked(connection)
    time.sleep(0.4)
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /a.mp4\r\nContent-Length: 0\r\n\r\n")
    _slow_redirects(connection)


SLOW: dict[str, tuple[str, Script]] = {
    "never_answers": ("http", _mute_after_request),
    "no_handshake": ("https", _silent),
    "handshake_by_bytes": ("https", _tls_drip),
    "header_by_bytes": ("http", drip(b"a", 0.05, OK + b"X-Long: ")),
    "headers_one_by_one": ("http", drip(b"A: b\r\n", 0.05, OK)),
    "informational_for_ever": ("http", drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)),
    "body_by_bytes": ("http", drip(b"a", 0.05, OK + b"Content-Length: 100000\r\n\r\n")),
    "body_without_length_by_bytes": ("http", drip(b"a", 0.05, OK + b"\r\n")),
    "chunks_by_bytes": ("http", drip(b"1\r\na\r\n", 0.05, OK + b"Transfer-Encoding: chunked\r\n\r\n")),
    "chunk_extension_for_ever": ("http", drip(b"x", 0.05, OK + b"Transfer-Encoding: chunked\r\n\r\n1;")),
    "trailers_for_ever": ("http", drip(b"A: b\r\n", 0.05, OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")),
    "body_stops": ("http", drip(b"", 1.0, OK + b"Content-Length: 100000\r\n\r\nsome")),
    "slow_redirects": ("http", _slow_redirects),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_server_is_given_up_at_the_deadline(cache: Path, kind: str) -> None:
    scheme, script = SLOW[kind]
    with serving(script) as port, measured() as cost, pytest.raises(NetworkError, match="too slowly"):
        _get(port, cache, scheme)
    assert cost.seconds < DEADLINE_S + SLACK_S
    assert cost.mib < MOST_MIB
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize("kind", ["headers_one_by_one", "handshake_by_bytes", "slow_redirects", "body_by_bytes"])
def test_nobody_needs_six_hours_to_answer(cache: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of a whole source is long; an answer, and each step of a body, have bounds of their own."""
    from tasks.core import web

    monkeypatch.setattr(web, "ANSWER_S", 0.8)
    monkeypatch.setattr(web, "STEP_S", 0.8)
    scheme, script = SLOW[kind]
    started = time.monotonic()
    with serving(script) as port, pytest.raises(NetworkError, match="too slowly"):
        _get(port, cache, scheme, timeout_s=6 * 3600)
    assert time.monotonic() - started < 2 * 0.8 + SLACK_S


def test_a_server_that_keeps_the_pace_is_not_cut_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps, each within its time, together longer than one."""
    from tasks.core import web

    monkeypatch.setattr(web, "STEP_S", 0.5)
    monkeypatch.setattr(web, "STEP_BYTES", 1000)
    content = bytes(5000)

    def script(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(OK + b"Content-Length: 5000\r\n\r\n")
        for _ in range(5):
            time.sleep(0.2)
            connection.sendall(bytes(1000))

    with serving(script) as port:
        assert _get(port, cache, timeout_s=60).path.read_bytes() == content


def test_a_resolver_that_does_not_answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.core import web

    monkeypatch.setattr(web, "RESOLVE_S", 0.3)

    def look_up(*_: object, **__: object) -> list[object]:
        time.sleep(2)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    started = time.monotonic()
    with pytest.raises(NetworkError, match="cannot be reached"):
        get("http://films.example/a.mp4", cache)
    assert time.monotonic() - started < 1.5


FAST: dict[str, Script] = {
    "head_of_a_megabyte": answer(b"", "X-Long: " + "a" * MIB),
    "ten_thousand_headers": answer(b"", *(f"X-{number}: b" for number in range(10_000))),
    "cookies": answer(b"", "Set-Cookie: a=" + '"' * 90_000),
    "cookie_dates": answer(b"", "Set-Cookie: a=b; expires=" + "1-" * 45_000, status="500 No"),
    "length_of_5000_digits": answer(b"", "Content-Length: " + "9" * 5000, length=False),
    "two_lengths": answer(b"abc", "Content-Length: 7"),
    "negative_length": answer(b"abc", "Content-Length: -1", length=False),
    "compressed_transfer": answer(_bomb(1), "Transfer-Encoding: gzip, chunked", length=False),
    "chunk_of_an_exabyte": answer(b"fffffffffffffff\r\n", "Transfer-Encoding: chunked", length=False),
    "chunk_length_of_a_megabyte": answer(b"0" * MIB, "Transfer-Encoding: chunked", length=False),
    "not_http": answer(status="\x00\xff nothing of the kind"),
    "http_0_9": lambda connection: connection.sendall(b"<html>" * 10_000),
    "status_999999": answer(status="999999 Far out"),
    "switching_protocols": answer(status="101 Switching Protocols"),
    "location_no_address": answer(b"", "Location: http://[::1", status="302 Found"),
    "location_bad_port": answer(b"", "Location: http://host:99999999/", status="302 Found"),
    "location_long_label": answer(b"", f"Location: http://{'a' * 70}.example/", status="302 Found"),
    "location_binary": answer(b"", "Location: //\xff\xfe\x80/", status="302 Found"),
    "location_of_90_kB": answer(b"", "Location: /" + "a" * 90_000, status="302 Found"),
    "location_file": answer(b"", "Location: file:///etc/passwd", status="302 Found"),
}


@pytest.mark.parametrize("kind", FAST)
def test_a_lying_server_is_refused_with_a_reason(cache: Path, kind: str) -> None:
    with serving(FAST[kind]) as port, measured() as cost, pytest.raises(ReelflowError) as caught:
        _get(port, cache, timeout_s=10)
    assert len(str(caught.value)) < 1000
    assert cost.cpu_s < 1.5
    assert cost.mib < MOST_MIB


@pytest.mark.parametrize("private", [True, False])
def test_a_name_that_no_resolver_takes(cache: Path, private: bool) -> None:
    with pytest.raises(UnsupportedSource, match="no name that can be looked up"):
        get(f"http://{'a' * 70}.example/", cache, allow_private_hosts=private)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """Of a server that the client trusts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from tasks.core import web

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    web._tls.cache_clear()
    yield context
    web._tls.cache_clear()


def test_https_is_read(cache: Path, tls: ssl.SSLContext) -> None:
    with serving(answer(b"a film"), tls) as port:
        assert _get(port, cache, "https").path.read_bytes() == b"a film"


@pytest.mark.parametrize("location", ["http://127.0.0.1:{plain}/a.mp4?token=secret", "HTTP://127.0.0.1:{plain}/"])
def test_https_never_leads_to_http(cache: Path, tls: ssl.SSLContext, location: str) -> None:
    reached = []

    def plain(connection: socket.socket) -> None:
        reached.append(asked(connection))
        connection.sendall(OK + b"Content-Length: 1\r\n\r\na")

    with serving(plain) as plain_port:
        redirect = answer(b"", f"Location: {location.format(plain=plain_port)}", status="302 Found")
        with serving(redirect, tls) as port, pytest.raises(UnsupportedSource, match="redirects to http") as caught:
            _get(port, cache, "https")
    assert not reached
    assert "secret" not in str(caught.value)


def test_a_slow_handshake_leaves_no_connection_behind(cache: Path) -> None:
    closed = []

    def script(connection: socket.socket) -> None:
        try:
            _tls_drip(connection)
        finally:
            closed.append(time.monotonic())

    with serving(script) as port:
        started = time.monotonic()
        with pytest.raises(NetworkError):
            _get(port, cache, "https")
        while not closed and time.monotonic() - started < 10:
            time.sleep(0.05)
    assert closed
    assert closed[0] - started < DEADLINE_S + SLACK_S
