"""A bucket as a saved Prefect block names it: `s3-bucket/NAME` of prefect-aws, with its folder and its credentials.

The block is loaded from the Prefect API of this process: in the flow, and again on every worker. Neither it nor its
credentials are ever shown or stored.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Any, cast

import httpx
from botocore.exceptions import BotoCoreError

from tasks.core.errors import NetworkError, ReelflowError, StoreUnavailable
from tasks.core.s3 import S3Options, make_client
from tasks.store import BLOCK
from tasks.store.s3_failures import explained

RELOAD_S = 600
"""A worker lives for weeks: a block's new credentials are seen after this time, and a role it assumes stays fresh."""

_loading = threading.Lock()


def bucket_and_folder(name: str) -> tuple[str, str]:
    block = _load(name)
    return str(block.bucket_name), str(block.bucket_folder).strip("/")


def block_client(name: str, options: S3Options) -> Any:
    """A client with the block's credentials, endpoint and further settings."""
    with _loading:
        return _client(name, options, int(time.monotonic() // RELOAD_S))


@functools.lru_cache(maxsize=4)
def _client(name: str, options: S3Options, _period: int) -> Any:
    block = _load(name)
    credentials = block.credentials
    with explained(BLOCK + name, str(block.bucket_name)):
        return make_client(
            credentials.get_boto3_session(),
            options,
            options.expected_bucket_owner,
            **credentials.aws_client_parameters.get_params_override(),
        )


def _load(name: str) -> Any:
    # Both take over a second to import, so only who names a block does.
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect_aws.s3 import S3Bucket

    failure: ReelflowError
    try:
        return cast(Any, S3Bucket).load(name, _sync=True)
    except PrefectHTTPStatusError as error:
        failure = StoreUnavailable(
            f"The Prefect API answers {error.response.status_code} when asked for the block {BLOCK}{name}; "
            "check PREFECT_API_URL and PREFECT_API_KEY."
        )
        if error.response.status_code >= 500:
            failure = NetworkError(f"The Prefect API fails when asked for the block {BLOCK}{name}; it is tried again.")
    except (httpx.HTTPError, RuntimeError, OSError) as error:
        failure = NetworkError(
            f"The Prefect API cannot be reached ({type(error).__name__}), so the block {BLOCK}{name} of the store "
            "cannot be loaded; check PREFECT_API_URL."
        )
    except BotoCoreError:
        raise
    except ValueError:
        failure = StoreUnavailable(
            f"There is no usable block {BLOCK}{name} at the Prefect API; save an S3 Bucket block of that name "
            "(prefect block register -m prefect_aws, then Blocks in the UI), or give the store as s3://bucket/prefix."
        )
    raise failure from None
