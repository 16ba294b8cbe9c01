"""Flow runs that exist before they begin: made once for what is asked, by an idempotency key of the Prefect API."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import FlowRunCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed, Pending, to_state_create
from pydantic import ValidationError

from tasks.core.listing import Listed
from tasks.core.options import AnalyzeOptions
from tasks.records.artifacts import content_key
from tasks.records.lease import Holder
from tasks.records.sources import request_key
from tasks.store import Store

FLOW: Final = "analyze-media"
GRACE: Final = timedelta(minutes=15)
"""A run of a watcher on another host that is not over by then no longer keeps anyone from trying; its lease does."""


class Row(NamedTuple):
    """A flow run that nobody else was given."""

    run: FlowRun
    attempt: int


class Rows:
    """Makes flow runs; one client for the threads of a watcher."""

    def __init__(self, client: SyncPrefectClient, root: Store, asked: AnalyzeOptions) -> None:
        """`asked` is in the key: the same object sampled less, because the machine is behind, is asked for once."""
        self._client = client
        self._flow_id = client.create_flow_from_name(FLOW)
        self._root = root
        self._request = request_key(asked)
        self._labels: dict[str, Any] = {f"reelflow.{k}": str(v) for k, v in Holder.me().model_dump().items()}

    def make(self, found: Listed, options: AnalyzeOptions, attempt: int = 0) -> Row | None:
        """A run of the object's version, not begun; None where a run of another watcher is at it.

        The first attempt is made that nobody has been given; what a watcher that is gone has left is marked Crashed.
        """
        what = content_key(FLOW, self._root.root, self._request, found.source, found.version)
        while True:
            mine = f"watch-{uuid.uuid4().hex}"
            run = self._post(f"{what}-{attempt}", mine, found, options)
            if run.name == mine:
                return Row(run, attempt)
            if run.state is None or not run.state.is_final():
                if not _is_dead(run):
                    return None
                left: State[None] = Crashed(message="Its watcher had ended without it")
                self._client.set_flow_run_state(run.id, left, force=True)
            attempt += 1

    def _post(self, key: str, name: str, found: Listed, options: AnalyzeOptions) -> FlowRun:
        wanted = FlowRunCreate(
            flow_id=self._flow_id,
            name=name,
            parameters={
                "source": found.source,
                "store": self._root.address,
                "options": options.model_dump(mode="json"),
                "versions": {found.source: found.version},
            },
            state=to_state_create(Pending()),
            tags=["watch"],
            labels=self._labels,
            idempotency_key=key,
        )
        answer = self._client.request("POST", "/flow_runs/", json=wanted.model_dump(mode="json", exclude_unset=True))
        return FlowRun.model_validate(answer.json())


@contextmanager
def rows(root: Store, asked: AnalyzeOptions) -> Iterator[Rows]:
    """Makes flow runs for the block."""
    with get_client(sync_client=True) as client:
        yield Rows(client, root, asked)


def _is_dead(run: FlowRun) -> bool:
    try:
        named = {name: run.labels.get(f"reelflow.{name}") for name in Holder.model_fields}
        if Holder.model_validate(named).is_gone():
            return True
    except ValidationError:
        pass
    return run.created is None or datetime.now(UTC) - run.created > GRACE
