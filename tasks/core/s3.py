"""S3 by boto3: one client per process and configuration, its retries, and reads that go on where they broke.

Integrity on the way in is the signature's: a body without a checksum header is signed with its SHA-256 by every
botocore, and every server checks that. The newer CRC trailers, which boto3 would send by itself, are refused by some
S3-compatible servers, so they are sent only where S3 requires them (AWS_REQUEST_CHECKSUM_CALCULATION says otherwise).
"""

from __future__ import annotations

import functools
import os
import random
import ssl
import threading
import time
from collections.abc import Generator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.core.redaction import keep_quiet

MIB = 2**20
CHUNK_BYTES = MIB
SPARE_CONNECTIONS = 8
"""Connections of a client beside those of one multipart transfer."""

BACKOFF_S = 0.1
THROTTLED_BACKOFF_S = 0.5
MOST_BACKOFF_S = 10.0
"""The n-th pause is random between 0 and BACKOFF_S * 2**(n-1), at most this: full jitter."""

THROTTLED = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "429", "503"}
)
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
NO_PERMISSION = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess"})
BAD_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
"""Faults of the installation, not of one bucket."""
_TRY_AGAIN = frozenset({"RequestTimeout", "RequestTimeoutException", "InternalError", "ServiceUnavailable"})
_TRY_AGAIN_STATUS = frozenset({429, 500, 502, 503, 504})


class S3Options(BaseModel):
    """How buckets are spoken to; credentials, region and endpoint are boto3's own (AWS_*, profile, role) or a block's.

    Set as REELFLOW_S3__ENCRYPTION and so on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encryption: Literal["none", "AES256", "aws:kms"] = Field(
        "none", description="Server-side encryption asked for with every write; none: as the bucket is set up"
    )
    kms_key_id: str | None = Field(None, description="KMS key of aws:kms; default: the account's aws/s3 key")
    expected_bucket_owner: str | None = Field(
        None, pattern=r"^\d{12}$", description="AWS account that must own the store's bucket"
    )
    source_bucket_owner: str | None = Field(
        None, pattern=r"^(\d{12}|any)$", description="The same for the buckets of sources; default: as the store's"
    )
    max_attempts: int = Field(8, ge=1, le=20, description="Attempts of one request, with jittered pauses between")
    connect_timeout_s: float = Field(10.0, gt=0, le=300, description="Longest wait for a connection")
    read_timeout_s: float = Field(60.0, gt=0, le=3600, description="Longest silence of the server")
    multipart_threshold_bytes: int = Field(
        16 * MIB, ge=5 * MIB, le=5 * 2**30, description="Larger files are written in parts"
    )
    multipart_chunk_bytes: int = Field(8 * MIB, ge=5 * MIB, le=5 * 2**30, description="Size of a part")
    multipart_concurrency: int = Field(4, ge=1, le=64, description="Parts of one file written at the same time")

    @model_validator(mode="after")
    def _key_needs_kms(self) -> S3Options:
        if self.kms_key_id and self.encryption != "aws:kms":
            raise ValueError("kms_key_id needs encryption=aws:kms")
        return self

    @property
    def source_owner(self) -> str | None:
        """The account that must own a source's bucket, or None for any."""
        return None if self.source_bucket_owner == "any" else self.source_bucket_owner or self.expected_bucket_owner


_making = threading.Lock()


def s3_client(options: S3Options, owner: str | None) -> Any:
    """The client that boto3 finds credentials for in this process' environment; made once, safe for threads."""
    environment = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))
    with _making:
        return _client(environment, options, owner)


@functools.lru_cache(maxsize=8)
def _client(_environment: tuple[tuple[str, str], ...], options: S3Options, owner: str | None) -> Any:
    import boto3

    return make_client(boto3.session.Session(), options, owner)


def make_client(session: Any, options: S3Options, owner: str | None, **arguments: Any) -> Any:
    """A client of a boto3 session that sends the options with every request they are for."""
    from botocore.config import Config
    from botocore.exceptions import InvalidEndpointConfigurationError

    keep_quiet()
    checksums = {name: "when_required" for name in _CHECKSUMS if f"AWS_{name.upper()}" not in os.environ}
    config = Config(
        # botocore's own retries stop when a quota is used up, and an answer such as 404 never gives quota back.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        max_pool_connections=options.multipart_concurrency + SPARE_CONNECTIONS,
        signature_version="s3v4",
        tcp_keepalive=True,
        **checksums,
    )
    given = arguments.pop("config", None)
    try:
        client = session.client("s3", config=config.merge(given) if given else config, **arguments)
    except ValueError as error:
        if "endpoint" not in str(error):
            raise
        raise InvalidEndpointConfigurationError(msg="no valid address") from None
    client.meta.events.register("provide-client-params.s3", _adds(options, owner))
    client.meta.events.register("needs-retry.s3", _retries(options.max_attempts))
    client.meta.events.register_first("needs-retry.s3.HeadBucket", _do_not_redirect)
    return client


_CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")


def _adds(options: S3Options, owner: str | None) -> Any:
    encryption: dict[str, str] = {}
    if options.encryption != "none":
        encryption["ServerSideEncryption"] = options.encryption
    if options.kms_key_id:
        encryption["SSEKMSKeyId"] = options.kms_key_id

    def add(params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> dict[str, Any]:
        # A header of a presigned link would have to be sent by whoever opens it.
        if context.get("is_presign_request"):
            return params
        added: dict[str, str] = {}
        if owner and "ExpectedBucketOwner" in model.input_shape.members:
            added["ExpectedBucketOwner"] = owner
        if model.name in ("PutObject", "CreateMultipartUpload"):
            added |= encryption
        return {**added, **params}

    return add


def _retries(max_attempts: int) -> Any:
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError

    def pause(attempts: int, response: Any, caught_exception: Any, **_: Any) -> float | None:
        if attempts >= max_attempts:
            return None
        if caught_exception is not None:
            again = isinstance(caught_exception, NoConnection | HTTPClientError) and not _is_untrusted(caught_exception)
            return pause_s(attempts) if again else None
        code = str(response[1].get("Error", {}).get("Code", ""))
        if code in THROTTLED:
            return pause_s(attempts, THROTTLED_BACKOFF_S)
        if code in _TRY_AGAIN or response[0].status_code in _TRY_AGAIN_STATUS:
            return pause_s(attempts)
        return None

    return pause


def _do_not_redirect(request_dict: dict[str, Any], **_: Any) -> None:
    """botocore asks HeadBucket where a redirect leads, and, where that is redirected too, again without end."""
    request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def pause_s(attempts: int, base_s: float = BACKOFF_S) -> float:
    """A random pause after the n-th attempt (1 is the first) has failed."""
    return random.random() * min(MOST_BACKOFF_S, base_s * 2.0 ** (attempts - 1))  # noqa: S311


def _is_untrusted(error: Exception) -> bool:
    """Does the server's certificate fail the check? That does not pass by itself."""
    cause = getattr(error, "kwargs", {}).get("error")
    return isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(cause)


def get_object(client: Any, max_attempts: int, **arguments: str) -> dict[str, Any]:
    """GetObject, tried again also where the connection breaks within the answer that says why there is no object.

    That one case botocore neither tries again nor reports as its own exception.
    """
    from botocore.exceptions import ConnectionClosedError
    from urllib3.exceptions import HTTPError

    for attempt in range(1, max_attempts + 1):
        try:
            return dict(client.get_object(**arguments))
        except HTTPError:
            time.sleep(pause_s(attempt))
    raise ConnectionClosedError(endpoint_url=client.meta.endpoint_url)


def object_chunks(client: Any, bucket: str, key: str, answer: dict[str, Any], max_attempts: int) -> Generator[bytes]:
    """The body of a GetObject answer. A read that breaks goes on where it stopped, of the same version (If-Match).

    Raises what the last of `max_attempts` reads without progress raised, a ClientError 412 where the object has changed
    meanwhile.
    """
    from botocore.exceptions import BotoCoreError

    size, done, failures = int(answer["ContentLength"]), 0, 0
    while True:
        body = answer["Body"]
        try:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                done, failures = done + len(chunk), 0
                yield chunk
            return
        except BotoCoreError:
            failures += 1
            if failures >= max_attempts:
                raise
        finally:
            body.close()
        if done == size:
            return
        time.sleep(pause_s(failures))
        rest = {"Range": f"bytes={done}-", "IfMatch": str(answer["ETag"])}
        answer = get_object(client, max_attempts, Bucket=bucket, Key=key, **rest)


@functools.cache
def credential_failures() -> tuple[type[Exception], ...]:
    """What botocore raises when it finds no credentials, or cannot get or renew them."""
    from botocore import exceptions as failures

    return (
        failures.NoCredentialsError,
        failures.PartialCredentialsError,
        failures.CredentialRetrievalError,
        failures.MetadataRetrievalError,
        failures.ProfileNotFound,
        failures.ConfigParseError,
        failures.NoAuthTokenError,
        failures.TokenRetrievalError,
        failures.SSOError,
        failures.LoginError,
    )


def error_code(error: Any) -> str:
    """S3's name of a ClientError, or the status where the answer had no body (HEAD)."""
    return str(error.response.get("Error", {}).get("Code", "")) or str(error_status(error))


def error_status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_throttling(error: Any) -> bool:
    return error_code(error) in THROTTLED or error_status(error) == 429


def is_transient(error: Any) -> bool:
    """Did the server fail, rather than refuse? 507 is a store that is full."""
    status = error_status(error)
    return error_code(error) in _TRY_AGAIN or (status >= 500 and status not in (501, 507))
