"""Which certificates Prefect's clients read: all, unless the API is not behind TLS."""

from __future__ import annotations

import ssl

import pytest
from prefect.settings import Settings

from tasks.workers.api_certificates import FILE, file_for, spared

PLAIN, TLS = "http://127.0.0.1:4200/api", "https://prefect.example/api"


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


@pytest.mark.parametrize(
    ("url", "named", "wanted"),
    [
        (PLAIN, None, str(FILE)),
        (PLAIN, "/chosen/bundle.pem", "/chosen/bundle.pem"),
        (PLAIN, f"/other/host/{FILE.name}", str(FILE)),
        (TLS, None, None),
        (TLS, "/chosen/bundle.pem", "/chosen/bundle.pem"),
        (None, None, None),
        ("", None, None),
    ],
)
def test_only_an_api_without_tls_is_spared_certificates(url: str | None, named: str | None, wanted: str | None) -> None:
    assert file_for(url, named) == wanted
    settings = Settings()
    given = settings.model_copy(update={"api": settings.api.model_copy(update={"url": url, "ssl_cert_file": named})})
    assert spared(given).api.ssl_cert_file == wanted
    assert spared(given).api.url == url


def test_the_host_s_own_default_was_chosen_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/all.pem")
    assert file_for(PLAIN, "/etc/ssl/all.pem") == str(FILE)
    assert file_for(TLS, "/etc/ssl/all.pem") == "/etc/ssl/all.pem"


def test_the_file_can_be_read_and_holds_one_certificate() -> None:
    context = ssl.create_default_context(cafile=str(FILE))
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode is ssl.CERT_REQUIRED
