"""Spares Prefect's HTTP clients the reading of certificates where the API is not behind TLS.

Each client that Prefect makes reads certifi's bundle of authorities, 25 ms of CPU, be its API at https or not. A flow
run makes six, and so does a Dask worker in its first task: for events, logs, versions and more.
"""

from __future__ import annotations

import os
from pathlib import Path

from prefect.settings import Settings

VARIABLE = "PREFECT_API_SSL_CERT_FILE"

FILE = Path(__file__).with_name("no_authority.crt")
"""A certificate whose key was never kept: what reads it trusts nobody."""


def file_for(url: str | None, named: str | None) -> str | None:
    """Where clients of the API at `url` find their authorities: `named`, or FILE where there is no TLS to check.

    `named` stays where somebody chose it. Prefect's own default is SSL_CERT_FILE; FILE may be that of another host,
    whose settings were sent.
    """
    chosen = named not in (None, os.environ.get("SSL_CERT_FILE")) and Path(str(named)).name != FILE.name
    return named if chosen or not (url or "").startswith("http://") else str(FILE)


def spared(values: Settings) -> Settings:
    """These settings with `file_for` their API."""
    file = file_for(values.api.url, values.api.ssl_cert_file)
    if file == values.api.ssl_cert_file:
        return values
    return values.model_copy(update={"api": values.api.model_copy(update={"ssl_cert_file": file})})
