"""What an analysis costs: pure arithmetic over stage timings and a price table."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.schema import StageTiming

GIB = 2**30
"""AWS bills a GB-month as 2**30 bytes."""

REQUESTS_PER_RUN = 2
"""A task run reads its input (GET) and writes its output (PUT)."""


class Prices(BaseModel):
    """A price table in US dollars. The defaults are AWS list prices of us-east-1, on demand, Linux x86."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu_second: float = Field(
        (0.04048 + 2 * 0.004445) / 3600,
        ge=0,
        le=1,
        description="USD per CPU-second; default: Fargate, a vCPU (0.04048 an hour) with 2 GB (0.004445 an hour each)",
    )
    gpu_second: float = Field(
        1.006 / 3600, ge=0, le=1, description="USD per GPU-second; default: EC2 g5.xlarge, one A10G (1.006 an hour)"
    )
    gb_month: float = Field(0.023, ge=0, le=10, description="USD per GB stored for a month; default: S3 Standard")
    request: float = Field(
        0.005,
        ge=0,
        le=10,
        description="USD per 1000 requests to the store; default: S3 Standard PUT, reads counted alike",
    )


def storage_cost(size_bytes: int, prices: Prices, months: float = 1.0) -> float:
    """USD for keeping `size_bytes`: size_bytes / 2**30 * months * gb_month."""
    return size_bytes / GIB * months * prices.gb_month


def stage_cost(timing: StageTiming, prices: Prices) -> float:
    """USD for making one stage's output and keeping it for one month.

        cpu_s * cpu_second + gpu_s * gpu_second + 2 * runs / 1000 * request + bytes_out / 2**30 * gb_month

    Time that was used is priced, not time that was reserved. A stage that was found in the store has the timing of
    the run that made it, and so its cost: equal results cost the same, whoever paid.
    """
    compute = timing.cpu_s * prices.cpu_second + timing.gpu_s * prices.gpu_second
    requests = REQUESTS_PER_RUN * timing.runs / 1000 * prices.request
    return compute + requests + storage_cost(timing.bytes_out, prices)


def total_cost(timings: Mapping[str, StageTiming], prices: Prices) -> float:
    """USD of all stages: the sum of `stage_cost`."""
    return sum(stage_cost(timing, prices) for timing in timings.values())


def cost_table(timings: Mapping[str, StageTiming], prices: Prices) -> dict[str, float]:
    """`Result.cost`: USD per stage in the order of `timings`, then `total`."""
    return {name: stage_cost(timing, prices) for name, timing in timings.items()} | {
        "total": total_cost(timings, prices)
    }
