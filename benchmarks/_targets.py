"""Whom requests are sent to: a deployment over the API, or the flow in this process; and sending them by a pattern."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import httpx

from benchmarks._clip import OPTIONS, clip
from benchmarks._workload import Workload
from tasks.store import Store

DEPLOYMENT = "analyze-media/default"
POLL_S = 0.25


@dataclass
class Ticket:
    """A request that was taken; `ended` is set with its flow run's end."""

    run_id: UUID | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Sent:
    """A request on its way. Times are Unix seconds."""

    number: int
    media_id: str
    source: str
    arrived: float = 0.0
    accepted: float | None = None
    ticket: Ticket | None = None
    refusal: str = ""


class Target(Protocol):
    """Takes requests."""

    async def send(self, source: str) -> Ticket:
        """Returns when the request is taken. Raises httpx.HTTPError or Prefect's errors when it is refused."""

    async def give_up(self, tickets: Iterable[Ticket]) -> None:
        """Sees to it that these requests are no load any more."""


def prepare(store: Store, count: int) -> list[Sent]:
    """Puts as many different clips into the store's folder `in`."""
    made = []
    for number in range(count):
        content = clip()
        media_id = hashlib.sha256(content).hexdigest()[:32]
        path = f"in/{media_id}.mp4"
        store.write(path, content)
        made.append(Sent(number, media_id, store.uri(path)))
    return made


async def offer(
    workload: Workload,
    target: Target,
    clips: Sequence[Sent],
    heard: Callable[[int], None],
    *,
    seconds: float,
    patience_s: float,
) -> list[Sent]:
    """Sends the workload and waits for it; returns what was sent.

    `heard` is told how many have ended. A closed loop sends nothing after `seconds`; who has not ended `patience_s`
    after the last request was due is given up.
    """
    ended = 0
    begun = time.time()
    sent: list[Sent] = []

    async def request(one: Sent, arrived: float) -> None:
        nonlocal ended
        one.arrived = arrived
        sent.append(one)
        try:
            one.ticket = await target.send(one.source)
        except Exception as error:  # what a caller would see, whatever it is, is a failed request
            one.refusal = f"{type(error).__name__}: {error}"[:200]
        else:
            one.accepted = time.time()
            await one.ticket.ended.wait()
        ended += 1
        heard(ended)

    async def user(left: Iterator[Sent]) -> None:
        for one in left:
            if time.time() - begun > seconds:
                return
            await request(one, time.time())

    async def at(one: Sent, offset: float) -> None:
        await asyncio.sleep(begun + offset - time.time())
        await request(one, begun + offset)

    if workload.pattern == "closed":
        shared = iter(clips)
        work, last = [user(shared) for _ in range(workload.concurrency)], seconds
    else:
        arrivals = workload.arrivals()
        work, last = [at(one, offset) for one, offset in zip(clips, arrivals, strict=True)], arrivals[-1]
    try:
        await asyncio.wait_for(asyncio.gather(*work), last + patience_s)
    except TimeoutError:
        await target.give_up([one.ticket for one in sent if one.ticket and not one.ticket.ended.is_set()])
    return sent


class Deployment:
    """Creates flow runs of the deployment, as `prefect deployment run` does, and asks the API which have ended."""

    def __init__(self, client: Any, deployment_id: UUID, store: str, job_variables: dict[str, Any] | None) -> None:
        self._client = client
        self._id = deployment_id
        self._store = store
        self._job_variables = job_variables
        self._waiting: dict[UUID, Ticket] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, api_url: str, auth: str, store: str, job_variables: dict[str, Any] | None
    ) -> AsyncIterator[Target]:
        """The deployment on the server at this address, which asks for the auth string."""
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: api_url, PREFECT_API_AUTH_STRING: auth}):
            async with get_client() as client:
                found = await client.read_deployment_by_name(DEPLOYMENT)
                made = cls(client, found.id, store, job_variables)
                watching = asyncio.create_task(made._watch())
                try:
                    yield made
                finally:
                    watching.cancel()

    async def send(self, source: str) -> Ticket:
        parameters = {"source": source, "store": self._store, "options": OPTIONS}
        run = await self._client.create_flow_run_from_deployment(
            self._id, parameters=parameters, job_variables=self._job_variables
        )
        ticket = self._waiting[run.id] = Ticket(run.id)
        return ticket

    async def give_up(self, tickets: Iterable[Ticket]) -> None:
        from prefect.states import Cancelled

        for ticket in tickets:
            if ticket.run_id is not None:
                self._waiting.pop(ticket.run_id, None)
                await self._client.set_flow_run_state(ticket.run_id, Cancelled(message="Given up"), force=True)

    async def _watch(self) -> None:
        """Asks for all of them at once: a question each would be a load of its own."""
        from prefect.client.schemas.filters import FlowRunFilter
        from prefect.client.schemas.objects import TERMINAL_STATES

        ended = {"type": {"any_": [state.value for state in TERMINAL_STATES]}}
        while True:
            await asyncio.sleep(POLL_S)
            if not self._waiting:
                continue
            wanted = FlowRunFilter.model_validate({"id": {"any_": list(self._waiting)}, "state": ended})
            try:
                found = await self._client.read_flow_runs(flow_run_filter=wanted)
            except httpx.HTTPError:  # a server that is too busy to say so is asked again
                continue
            for run in found:
                if ticket := self._waiting.pop(run.id, None):
                    ticket.ended.set()


class InProcess:
    """Calls the flow, in a thread for each request."""

    def __init__(self, store: str) -> None:
        self._store = store

    @classmethod
    @asynccontextmanager
    async def open(cls, store: str) -> AsyncIterator[Target]:
        """The flow on the server and cluster of this process."""
        yield cls(store)

    async def send(self, source: str) -> Ticket:
        ticket = Ticket()
        loop, context = asyncio.get_running_loop(), copy_context()

        def call() -> None:
            try:
                ticket.run_id = context.run(self._run, source)
            finally:
                loop.call_soon_threadsafe(ticket.ended.set)

        threading.Thread(target=call, name="load", daemon=True).start()
        return ticket

    async def give_up(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:  # a thread cannot be ended
            await ticket.ended.wait()

    def _run(self, source: str) -> UUID:
        from flows.analyze_media import analyze_media
        from tasks.core.options import AnalyzeOptions

        options = AnalyzeOptions.model_validate(OPTIONS)
        state: Any = analyze_media(source=source, store=self._store, options=options, return_state=True)
        return UUID(str(state.state_details.flow_run_id))
