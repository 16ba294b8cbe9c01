"""Which weights a run will use, found where they are: on the host that runs the models."""

from __future__ import annotations

from prefect import task

from tasks.core.options import AnalyzeOptions
from tasks.core.schema import ModelInfo
from tasks.records.lookup import find_models
from tasks.stages.stage import RETRY


@task(task_run_name="models", tags=["gpu"], **RETRY)
def resolve_models(options: AnalyzeOptions) -> tuple[dict[str, ModelInfo], list[str]]:
    """Name and digest of each stage's model, and a notice for each stage that is left out for want of weights."""
    return find_models(options)
