"""What a backfill would do: counts of a listing, and an estimate from what this store's results took."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import BaseModel

from flows.backfill.report import duration
from flows.backfill.tally import Tally
from flows.runtime.local_cluster import planned_workers
from flows.summary import plain
from tasks.core.errors import PermanentError, ReelflowError
from tasks.core.fetch import display_source
from tasks.core.listing import Listed, Selection, list_media
from tasks.core.options import AnalyzeOptions
from tasks.records.lookup import find_models
from tasks.records.results import read_result
from tasks.records.sources import recall
from tasks.settings import settings
from tasks.store import Store, own_objects

MOST_NAMED = 20
"""Of what cannot be listed."""

MOST_MEASURED = 20
"""Results that an estimate is made from."""

ASSUMED_S_PER_BYTE = 4.2e-6
"""Where nothing is measured: 103 s of work for 25 MB, the shared test media with YOLO11n and a tiny Whisper."""


class Plan(BaseModel):
    """Counts of one listing."""

    prefix: str
    listed: int
    bytes: int
    committed: int
    quarantined: int
    to_do: int
    to_do_bytes: int
    skipped: int = 0
    """What stands below the prefix and cannot be listed."""
    measured: int
    """Results that the estimate rests on; 0: on an assumption."""
    work_s: float
    """Estimated seconds of work, of all workers together."""
    cost_usd: float
    workers: int
    wall_s: float
    """Estimated time with that many workers."""
    notices: list[str] = []
    """Stages that every result would lack and why, and what cannot be listed."""

    def markdown(self) -> str:
        """The plan for the Prefect UI."""
        return "\n\n".join([f"# {plain(self.prefix)}", plain(self.sentence()), *map(plain, self.notices)])

    def sentence(self) -> str:
        """The plan for a person, in one paragraph."""
        basis = (
            f"by {self.measured} results in this store" if self.measured else "a rough guess: no results to go by yet"
        )
        return (
            f"{self.listed} objects ({self.bytes / 1e9:.3f} GB): {self.committed} analysed, {self.quarantined} set "
            f"aside, {self.to_do} to do ({self.to_do_bytes / 1e9:.3f} GB). About {duration(self.work_s)} of work, "
            f"{duration(self.wall_s)} with {self.workers} workers, {self.cost_usd:.4f} USD ({basis})."
        )


def make_plan(
    prefix: str, root: Store, options: AnalyzeOptions, select: Selection, *, retry_quarantined: bool = False
) -> Plan:
    """Lists the prefix and looks every object up, changing nothing."""
    models, notices = find_models(options)
    counts = {"cached": 0, "quarantined": 0, "to do": 0}
    sizes = dict.fromkeys(counts, 0)
    measured_bytes, measured_s, measured_usd, measured = 0, 0.0, 0.0, 0
    skips: list[str] = []

    def skip(_: str, reason: PermanentError) -> None:
        skips.append(reason.message)

    for found in list_media(prefix, select, settings().s3, leave_out=own_objects(root), skipped=skip):
        report = recall(root, found.source, found.version, options, models, retry_quarantined=retry_quarantined)
        status = report.status if report else "to do"
        counts[status] += 1
        sizes[status] += found.bytes
        if report and report.media_id and status == "cached" and measured < MOST_MEASURED:
            committed = read_result(root, report.media_id)
            if committed:
                measured += 1
                measured_bytes += found.bytes
                measured_s += sum(timing.wall_s for timing in committed[0].timing.values())
                measured_usd += committed[0].cost.get("total", 0.0)
    to_do = sizes["to do"]
    work_s = to_do * (measured_s / measured_bytes if measured_bytes else ASSUMED_S_PER_BYTE)
    cost = to_do * measured_usd / measured_bytes if measured_bytes else work_s * settings().prices.cpu_second
    workers = planned_workers()
    return Plan(
        prefix=display_source(prefix),
        listed=sum(counts.values()),
        bytes=sum(sizes.values()),
        committed=counts["cached"],
        quarantined=counts["quarantined"],
        to_do=counts["to do"],
        to_do_bytes=to_do,
        skipped=len(skips),
        measured=measured,
        work_s=work_s,
        cost_usd=cost,
        workers=workers,
        wall_s=work_s / workers,
        notices=[*notices, *(f"Skipped: {why}" for why in skips[:MOST_NAMED])],
    )


@contextmanager
def counting(listing: Callable[[], Iterator[Listed]], tally: Tally) -> Iterator[None]:
    """Counts a listing beside the work of the block, which goes through it much more slowly."""
    ended = threading.Event()

    def count() -> None:
        total = 0
        try:
            for _ in listing():
                total += 1
                if ended.is_set():
                    return
        except ReelflowError:
            return  # the block lists the same and says what is wrong
        tally.total = total

    thread = threading.Thread(target=count, name="reelflow-count", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
