"""What a backfill came to."""

from __future__ import annotations

from pydantic import BaseModel


class BackfillReport(BaseModel):
    """What a backfill came to."""

    prefix: str
    store: str
    listed: int
    bytes: int
    done: int
    cached: int
    quarantined: int
    failed: int
    skipped: int = 0
    """What stands below the prefix and cannot be listed, such as a folder that may not be read."""
    handed_over: int
    seconds: float
    cost_usd: float
    notices: list[str] = []
    """Stages that every result lacks, and why."""

    def sentence(self) -> str:
        """The outcome for a person."""
        parts = {
            "done": self.done,
            "analysed before": self.cached,
            "handed over": self.handed_over,
            "set aside": self.quarantined,
            "skipped (cannot be listed)": self.skipped,
            "failed (run it again)": self.failed,
        }
        counts = ", ".join(f"{count} {name}" for name, count in parts.items() if count) or "nothing to do"
        return (
            f"{self.listed} objects in {duration(self.seconds)}: {counts}; {self.cost_usd:.4f} USD. Store: {self.store}"
        )


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
