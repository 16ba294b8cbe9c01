"""Mutual TLS of Dask clusters: Dask runs code for whoever may speak to a scheduler or worker, on loopback too.

A cluster has one certificate, which is its own authority: who holds its key may do everything, nobody else anything.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tasks.core.errors import SetupError

DAYS = 365
"""How long a certificate is valid."""

NAMES = {"ca-file": "ca.crt", "cert": "tls.crt", "key": "tls.key"}
"""Files of a folder with a cluster's certificate, by Dask's setting; cert-manager gives its Secrets the same names."""

_ROLES = ("scheduler", "worker", "client")
_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM."""

    certificate: str
    key: str = field(repr=False)


def new_certificate(name: str = "reelflow-dask", address: str | None = None) -> Certificate:
    """A certificate that nobody has seen (ECDSA on P-256, which shakes hands in a tenth of RSA's time).

    `address` is the IP address that those are told to expect who check it; Dask does not.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(issuer_name=subject, subject_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)  # clocks of hosts differ
        .not_valid_after(now + timedelta(days=DAYS))
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def temporary_security() -> Any:
    """Dask's `Security` with a certificate of its own that is kept in memory only."""
    from distributed import Security

    made = new_certificate()
    roles: dict[str, str] = {}
    for role in _ROLES:
        roles |= {f"tls_{role}_cert": made.certificate, f"tls_{role}_key": made.key}
    return Security(
        require_encryption=True, tls_ca_file=made.certificate, tls_min_version=ssl.TLSVersion.TLSv1_3, **roles
    )


def write_certificate(folder: Path) -> bool:
    """Makes `ca.crt`, `tls.crt` and `tls.key` in a folder that only this user may open; False where they are there.

    Raises SetupError where only some are: a cluster whose parts have different certificates falls apart.
    """
    found = [name for name in NAMES.values() if (folder / name).exists()]
    if len(found) == len(NAMES):
        return False
    if found:
        raise SetupError(f"{folder} holds {', '.join(found)} of {', '.join(NAMES.values())}: remove or complete them.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = new_certificate()
    for name, text in zip(NAMES.values(), (made.certificate, made.certificate, made.key), strict=True):
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    return True


def tls_environment(folder: Path) -> dict[str, str]:
    """What makes Dask's programs and clients use the certificate in a folder, and refuse to speak without TLS."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    found = {f"{prefix}REQUIRE_ENCRYPTION": "True", f"{prefix}TLS__CA_FILE": str(folder / NAMES["ca-file"])}
    for role in _ROLES:
        for part in ("cert", "key"):
            found[f"{prefix}TLS__{role.upper()}__{part.upper()}"] = str(folder / NAMES[part])
    return found
