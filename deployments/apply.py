"""What deployments refer to on the server: work pools, the variable that names the pool, automations, blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit
from uuid import UUID

import yaml
from prefect.blocks.core import Block
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import Variable
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.pools import KINDS, pool, pool_name
from tasks.core.errors import SetupError

AUTOMATIONS = Path(__file__).with_name("automations.yaml")
POOL_VARIABLE = "reelflow_pool"
BLOCK = "reelflow"
"""Name of each block that is made: the store is then `s3-bucket/reelflow`."""


@dataclass(frozen=True)
class Change:
    """What became, or in a dry run would become, of one thing on the server."""

    what: str
    did: Literal["created", "updated", "unchanged", "left out"]
    detail: str = ""


def apply(
    kind: str | None = None, environment: Mapping[str, str] = os.environ, *, dry_run: bool = False
) -> Iterator[Change]:
    """Makes or updates everything, and says of each thing what it did. A second time it changes nothing.

    `kind` is the pool that deployments go to; None leaves the choice as it is, `process` at first. No other pool is
    touched.
    """
    with get_client(sync_client=True) as client:
        chosen = client.read_variable_by_name(POOL_VARIABLE)
        wanted = pool(kind or _kind(chosen), environment)
        yield _pool(client, wanted, dry_run)
        yield _variable(client, wanted.name, chosen, dry_run)
        yield from _blocks(environment, dry_run)
        webhook = yield from _webhook(environment, dry_run)
        yield from _automations(client, webhook, dry_run)


def _kind(chosen: Variable | None) -> str:
    return next((kind for kind in KINDS if chosen is not None and chosen.value == pool_name(kind)), "process")


def _pool(client: SyncPrefectClient, wanted: WorkPoolCreate, dry_run: bool) -> Change:
    what = f"work pool {wanted.name}"
    try:
        found = client.read_work_pool(wanted.name)
    except ObjectNotFound:
        if not dry_run:
            client.create_work_pool(wanted)
        return Change(what, "created", f"type {wanted.type}")
    if found.type != wanted.type:
        raise SetupError(f"The {what} is of type {found.type}, not {wanted.type}: delete it, then apply again.")
    values = {name: getattr(wanted, name) for name in ("description", "base_job_template", "concurrency_limit")}
    stale = [name for name, value in values.items() if getattr(found, name) != value]
    if stale and not dry_run:
        client.update_work_pool(wanted.name, WorkPoolUpdate(**values))
    return Change(what, "updated" if stale else "unchanged", ", ".join(stale))


def _variable(client: SyncPrefectClient, value: str, found: Variable | None, dry_run: bool) -> Change:
    what = f"variable {POOL_VARIABLE}"
    if found is not None and found.value == value:
        return Change(what, "unchanged", value)
    if not dry_run and found is None:
        client.create_variable(VariableCreate(name=POOL_VARIABLE, value=value))
    elif not dry_run:
        client.update_variable(VariableUpdate(name=POOL_VARIABLE, value=value))
    return Change(
        what, "created" if found is None else "updated", f"{value}; `prefect deploy --all` moves the deployments"
    )


def _blocks(environment: Mapping[str, str], dry_run: bool) -> Iterator[Change]:
    """Credentials and bucket of REELFLOW_STORE, so that flow runs in containers need no keys in their environment."""
    store = environment.get("REELFLOW_STORE", "")
    what = f"block s3-bucket/{BLOCK}"
    if not store.startswith("s3://"):
        yield Change(what, "left out", "REELFLOW_STORE is no s3:// address")
        return
    from prefect_aws import AwsCredentials, S3Bucket
    from prefect_aws.client_parameters import AwsClientParameters

    credentials = AwsCredentials(
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=environment.get("AWS_SESSION_TOKEN"),
        region_name=environment.get("AWS_DEFAULT_REGION"),
        aws_client_parameters=AwsClientParameters(
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        ),
    )
    yield _save(credentials, dry_run)[0]
    address = urlsplit(store)
    if not dry_run:
        credentials = cast(AwsCredentials, AwsCredentials.load(BLOCK))
    bucket = S3Bucket(bucket_name=address.netloc, bucket_folder=address.path.strip("/"), credentials=credentials)
    yield _save(bucket, dry_run)[0]


def _webhook(environment: Mapping[str, str], dry_run: bool) -> Any:
    url = environment.get("REELFLOW_NOTIFY_URL")
    if not url:
        try:
            found = cast(Webhook, Webhook.load(BLOCK))
        except ValueError:
            return None
        yield Change(f"block webhook/{BLOCK}", "unchanged")
        return found._block_document_id
    change, document = _save(Webhook(method="POST", url=url), dry_run)
    yield change
    return document


def _save(block: Block, dry_run: bool) -> tuple[Change, UUID | None]:
    kind = type(block)
    what = f"block {kind.get_block_type_slug()}/{BLOCK}"
    try:
        found = cast(Block, kind.load(BLOCK))
    except ValueError:
        found = None
    if found is not None and _content(found) == _content(block):
        return Change(what, "unchanged"), found._block_document_id
    document = None if dry_run else cast(UUID, block.save(BLOCK, overwrite=True))
    return Change(what, "updated" if found is not None else "created"), document


def _content(block: Block) -> Any:
    fields = block.model_dump(mode="json", context={"include_secrets": True}, exclude={"block_type_slug"})
    return {name: value for name, value in fields.items() if not name.startswith("_")}


def _automations(client: SyncPrefectClient, webhook: UUID | None, dry_run: bool) -> Iterator[Change]:
    for entry in yaml.safe_load(AUTOMATIONS.read_text("utf-8")):
        what = f"automation {entry['name']!r}"
        for action in entry["actions"]:
            if action["type"] == "call-webhook":
                action["block_document_id"] = webhook
        if any(action.get("block_document_id", webhook or True) is None for action in entry["actions"]):
            yield Change(what, "left out", "set REELFLOW_NOTIFY_URL to the address that gets the notice")
            continue
        wanted = AutomationCore.model_validate(entry)
        found = client.read_automations_by_name(wanted.name)
        if not found:
            if not dry_run:
                client.create_automation(wanted)
            yield Change(what, "created")
            continue
        wanted = wanted.model_copy(update={"enabled": found[0].enabled})
        fields = set(AutomationCore.model_fields)
        stale = found[0].model_dump(include=fields) != wanted.model_dump(include=fields)  # as JSON, sets have an order
        if stale and not dry_run:
            client.update_automation(found[0].id, wanted)
        yield Change(what, "updated" if stale else "unchanged")
