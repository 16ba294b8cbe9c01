"""Sources that are read over a network: http(s) with httpx, S3 with boto3, as a stream with a validator.

Credentials never leave: exceptions of the libraries hold URLs with their queries, so they are not chained.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from tasks.core.errors import (
    CredentialsRefused,
    NetworkError,
    PermissionDenied,
    ReelflowError,
    SourceChanged,
    SourceNotFound,
    StoreUnavailable,
    Throttled,
    UnsupportedSource,
)
from tasks.core.s3 import (
    BAD_CREDENTIALS,
    NO_PERMISSION,
    S3Options,
    credential_failures,
    error_code,
    error_status,
    get_object,
    is_throttling,
    is_transient,
    object_chunks,
    s3_client,
)
from tasks.core.source_names import display_source, hide_credentials

CHUNK_BYTES = 2**20
CONNECT_S = 10.0
READ_S = 60.0
"""Longest silence of a server."""
MOST_REDIRECTS = 5


@dataclass(frozen=True)
class Remote:
    """An open source. `chunks` is None where it is still the version that the given validator names."""

    validator: dict[str, str]
    size: int | None
    chunks: Iterator[bytes] | None


@contextmanager
def open_http(url: str, validator: dict[str, str], *, allow_private_hosts: bool, deadline: float) -> Iterator[Remote]:
    """GET, following at most 5 redirects, each to a public address only unless `allow_private_hosts`.

    The address that was checked is the one that is connected to, whatever the name resolves to a moment later; for that
    reason proxies are used only with `allow_private_hosts`.  `deadline` is a time.monotonic().
    """
    import httpx

    for library in ("httpx", "httpcore"):  # at INFO and DEBUG they log whole URLs
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger(library).level))
    shown = display_source(url)
    headers = {"Accept-Encoding": "identity", "User-Agent": "reelflow"}
    if "etag" in validator:
        headers["If-None-Match"] = validator["etag"]
    elif "last_modified" in validator:
        headers["If-Modified-Since"] = validator["last_modified"]
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    try:
        with httpx.Client(timeout=timeout, verify=_tls(), trust_env=allow_private_hosts) as client:
            for _ in range(MOST_REDIRECTS + 1):
                request = _request(client, url, headers, allow_private_hosts)
                response = client.send(request, stream=True)
                try:
                    if response.has_redirect_location:
                        url = urljoin(url, response.headers["location"])
                        continue
                    yield _answer(response, validator, shown, deadline)
                    return
                finally:
                    response.close()
        raise UnsupportedSource(f"{shown}: more than {MOST_REDIRECTS} redirects")
    except ReelflowError:
        raise
    except httpx.HTTPError as error:
        raise NetworkError(f"{shown}: {type(error).__name__} while reading it; it is tried again") from None
    except OSError as error:
        if isinstance(error, socket.gaierror | TimeoutError | ConnectionError):
            raise NetworkError(f"{shown}: its host cannot be reached ({error.strerror}); it is tried again") from None
        raise


def _request(client: Any, url: str, headers: dict[str, str], allow_private_hosts: bool) -> Any:
    import httpx

    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise UnsupportedSource(f"{display_source(url)}: it is no http(s) address") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise UnsupportedSource(f"{display_source(url)}: it is no http(s) address")
    if allow_private_hosts:
        return client.build_request("GET", target, headers=headers)
    address = _public_address(target.host, target.port or (443 if target.scheme == "https" else 80))
    return client.build_request(
        "GET",
        target.copy_with(host=address),
        headers={**headers, "Host": target.netloc.decode("ascii")},
        extensions={"sni_hostname": target.raw_host.decode("ascii")},
    )


def _public_address(host: str, port: int) -> str:
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for address in found:
        if not is_public(address):
            raise UnsupportedSource(
                f"{host} is {address}, a private or local address; such hosts are refused unless allowed"
            )
    return sorted(found, key=lambda address: ":" in address)[0]


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, also one wrapped into IPv6 (mapped, 6to4, Teredo, NAT64)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def _answer(response: Any, validator: dict[str, str], shown: str, deadline: float) -> Remote:
    status = response.status_code
    if status == 304 and validator:
        return Remote(validator, None, None)
    if status in (404, 410):
        raise SourceNotFound(f"{shown}: the server has no such file ({status})")
    if status in (401, 403, 407):
        raise PermissionDenied(f"{shown}: the server refuses access ({status}); a signed link may have expired")
    if status == 429:
        raise Throttled(f"{shown}: the server asks to slow down ({status})")
    if status in (408, 425) or status >= 500:
        raise NetworkError(f"{shown}: the server failed ({status}); it is tried again")
    if status != 200:
        raise UnsupportedSource(f"{shown}: the server answered {status}")
    found: dict[str, str] = {}
    etag, modified = response.headers.get("etag", ""), response.headers.get("last-modified", "")
    if etag and not etag.startswith("W/"):
        found["etag"] = etag
    elif modified:
        found["last_modified"] = modified
    plain = response.headers.get("content-encoding", "identity") == "identity"
    length = response.headers.get("content-length", "") if plain else ""
    return Remote(
        found, int(length) if length.isdigit() else None, _until(response.iter_bytes(CHUNK_BYTES), deadline, shown)
    )


def _until(chunks: Iterator[bytes], deadline: float, shown: str) -> Iterator[bytes]:
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise NetworkError(f"{shown}: it comes too slowly; it is tried again")
        yield chunk


@functools.cache
def _tls() -> ssl.SSLContext:
    import certifi

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


@contextmanager
def open_s3(
    bucket: str, key: str, validator: dict[str, str], *, deadline: float, options: S3Options
) -> Iterator[Remote]:
    """GetObject, conditional on the validator's ETag; endpoint, region and credentials as boto3 finds them.

    One request for any size, read as a stream; where the connection breaks, the rest is asked for again (If-Match).
    """
    shown = f"s3://{hide_credentials(bucket)}/{display_source(key)}"
    with _s3_failures(hide_credentials(bucket), shown):
        client = s3_client(options, options.source_owner)
        answer = _get_if_changed(client, bucket, key, validator, options.max_attempts)
        if answer is None:
            yield Remote(validator, None, None)
            return
        found = {name: str(answer[field]) for name, field in _S3_VALIDATOR.items() if answer.get(field)}
        with closing(object_chunks(client, bucket, key, answer, options.max_attempts)) as chunks:
            yield Remote(found, int(answer["ContentLength"]), _until(chunks, deadline, shown))


_S3_VALIDATOR = {"etag": "ETag", "version": "VersionId", "last_modified": "LastModified"}


def _get_if_changed(
    client: Any, bucket: str, key: str, validator: dict[str, str], max_attempts: int
) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": validator["etag"]} if "etag" in validator else {}
    try:
        return get_object(client, max_attempts, Bucket=bucket, Key=key, **condition)
    except ClientError as error:
        if error_status(error) == 304 and condition:
            return None
        raise


def list_s3(prefix: str, options: S3Options) -> Iterator[tuple[str, str, int, float, str]]:
    """Source, name below the prefix, bytes, Unix time and ETag of each object, a page of them in memory at a time."""
    shown = display_source(prefix)
    bucket, _, start = prefix.removeprefix("s3://").partition("/")
    if not bucket:
        raise UnsupportedSource(f"{shown}: it names no bucket; write s3://bucket/prefix")
    with _s3_failures(hide_credentials(bucket), shown):
        client = s3_client(options, options.source_owner)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
            for item in page.get("Contents", ()):
                key = item["Key"]
                if item["Size"] or not key.endswith("/"):
                    name = key[len(start) :].lstrip("/") or key
                    yield f"s3://{bucket}/{key}", name, item["Size"], item["LastModified"].timestamp(), item["ETag"]


@contextmanager
def _s3_failures(bucket: str, shown: str) -> Iterator[None]:
    from botocore import exceptions as failures

    try:
        yield
    except failures.ClientError as error:
        raise _s3_failure(error, bucket, shown) from None
    except credential_failures():
        raise CredentialsRefused(
            f"{shown}: there are no AWS credentials that can be used; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role"
        ) from None
    except failures.ParamValidationError:
        raise SourceNotFound(f"{shown}: {bucket!r} is no valid bucket name") from None
    except failures.InvalidEndpointConfigurationError:
        raise StoreUnavailable(f"{shown}: AWS_ENDPOINT_URL is no valid address; write http(s)://host:port") from None
    except failures.BotoCoreError as error:
        raise NetworkError(
            f"{shown}: {type(error).__name__} while reading it; it is tried again. "
            "If this stays, check AWS_ENDPOINT_URL and the network"
        ) from None


def _s3_failure(error: Any, bucket: str, shown: str) -> ReelflowError:
    code, status = error_code(error), error_status(error)
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return SourceNotFound(f"{shown}: there is no bucket {bucket!r}")
    if code == "InvalidObjectState":
        return UnsupportedSource(f"{shown}: the object is archived; restore it first")
    if is_throttling(error):
        return Throttled(f"{shown}: S3 asks to slow down ({code})")
    if code in BAD_CREDENTIALS:
        return CredentialsRefused(f"{shown}: S3 refuses the credentials ({code}); renew or correct them, and try again")
    if code in NO_PERMISSION or status in (401, 403):
        return PermissionDenied(f"{shown}: S3 refuses access ({code}); check the credentials and the bucket's policy")
    if status == 404:
        return SourceNotFound(f"{shown}: there is no such object")
    if status == 412:
        return SourceChanged(f"{shown}: the object was replaced while it was read; it is tried again")
    if is_transient(error):
        return NetworkError(f"{shown}: S3 failed ({code}); it is tried again")
    return UnsupportedSource(f"{shown}: S3 answered {status} {code}")
