"""What a bucket's refusal means and what to do about it, as one sentence; credentials never stand in it.

Exceptions of botocore are not chained: they hold what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as failures

from tasks.core.errors import NetworkError, ReelflowError, StoreUnavailable, Throttled
from tasks.core.s3 import credential_failures, error_code, error_status, is_throttling, is_transient

_SECRET = "check AWS_SECRET_ACCESS_KEY, or the profile or block that is used"  # noqa: S105
_SESSION = "sign in again, or renew AWS_SESSION_TOKEN"
_CREDENTIALS = {
    "InvalidAccessKeyId": (
        "does not know the access key",
        "check AWS_ACCESS_KEY_ID, the profile or the block that is used, and that AWS_ENDPOINT_URL is the right server",
    ),
    "InvalidClientTokenId": ("does not know the access key", "check AWS_ACCESS_KEY_ID"),
    "AuthFailure": ("refuses the credentials", "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "SignatureDoesNotMatch": ("says that the secret key does not belong to the access key", _SECRET),
    "ExpiredToken": ("says that the session token has expired", _SESSION),
    "ExpiredTokenException": ("says that the session token has expired", _SESSION),
    "TokenRefreshRequired": ("says that the session token has expired", _SESSION),
    "InvalidToken": ("says that the session token is invalid", _SESSION),
    "RequestTimeTooSkewed": ("says that this host's clock is wrong", "set it (timedatectl, chrony)"),
}
_ACTIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
}
"""Every other request that is made is a write."""
_ELSEWHERE_REGION = frozenset(
    {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "Redirect"}
)
_FULL = frozenset(
    {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
)


@contextmanager
def explained(root: str, bucket: str, owner: str | None = None) -> Iterator[None]:
    """Turns what boto3 raises in the block into errors of ours. `owner`: the account that was demanded."""
    try:
        yield
    except failures.ClientError as error:
        raise client_failure(error, root, bucket, owner) from None
    except credential_failures() as error:
        raise StoreUnavailable(
            f"There are no credentials for the store {root} ({type(error).__name__}); set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a role, or name a block (s3-bucket/NAME)."
        ) from None
    except failures.ParamValidationError:
        raise StoreUnavailable(f"{bucket!r} is no valid bucket name; write the store as s3://bucket/prefix.") from None
    except failures.InvalidEndpointConfigurationError:
        raise StoreUnavailable(
            f"The endpoint of the store {root} is no valid address; write AWS_ENDPOINT_URL as http(s)://host:port."
        ) from None
    except failures.SSLError:
        raise StoreUnavailable(
            f"The certificate of the endpoint of {root} is not trusted; set AWS_CA_BUNDLE, or correct AWS_ENDPOINT_URL."
        ) from None
    except failures.BotoCoreError as error:
        raise NetworkError(
            f"The store {root} cannot be reached ({type(error).__name__}); check AWS_ENDPOINT_URL, "
            "AWS_DEFAULT_REGION and the network."
        ) from None


def client_failure(error: Any, root: str, bucket: str, owner: str | None) -> ReelflowError:
    """The error of ours for a ClientError."""
    code = error_code(error)
    message = str(error.response.get("Error", {}).get("Message", ""))
    if is_throttling(error):
        return Throttled(f"The store {root} asks to slow down ({code}); it is tried again.")
    if is_transient(error):
        return NetworkError(f"The store {root} failed ({code}) at every attempt; it is tried again.")
    if code in _CREDENTIALS:
        what, advice = _CREDENTIALS[code]
        return StoreUnavailable(f"The store {root} {what} ({code}); {advice}.")
    if code == "NoSuchBucket":
        return StoreUnavailable(
            f"The bucket {bucket!r} of the store {root} does not exist; create it, or set --store or REELFLOW_STORE."
        )
    if code == "InvalidBucketName":
        return StoreUnavailable(f"{bucket!r} is no valid bucket name; write the store as s3://bucket/prefix.")
    if "kms" in f"{code} {message}".lower():
        return StoreUnavailable(
            f"The store {root} may not use its KMS key ({code}); allow kms:GenerateDataKey and kms:Decrypt on it, "
            "or set REELFLOW_S3__KMS_KEY_ID to a key that is enabled."
        )
    if code in _ELSEWHERE_REGION:
        region = _region(error)
        return StoreUnavailable(
            f"The bucket {bucket!r} of the store {root} lies in another region{f', {region}' if region else ''}; set "
            f"AWS_DEFAULT_REGION to {region or 'that one'}, or correct AWS_ENDPOINT_URL."
        )
    if code in _FULL:
        return StoreUnavailable(f"The store {root} is full ({code}); free some space there, or raise its quota.")
    if error_status(error) in (401, 403):
        action = _ACTIONS.get(error.operation_name, "s3:PutObject")
        other = f", and that the bucket belongs to account {owner}" if owner else ""
        return StoreUnavailable(
            f"The store {root} does not permit {action} ({code}); allow it in the policy of the user, role or bucket"
            f"{other}."
        )
    return StoreUnavailable(f"The store {root} refused {error.operation_name} ({code}); look up this code of S3.")


def _region(error: Any) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region", "")
    return str(found) if str(found).replace("-", "").isalnum() else ""
