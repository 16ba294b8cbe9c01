"""Does this host do its part? Stages tried on the good file, as tasks: on a worker of each kind."""

from __future__ import annotations

from prefect import task

from tasks.core.options import AnalyzeOptions
from tasks.core.schema import ModelInfo
from tasks.stages import canary


@task(task_run_name="canary")
def try_cpu_stages(options: AnalyzeOptions, models: dict[str, ModelInfo]) -> None:
    """Raises what a stage on the good file raises."""
    canary.try_stages(("probe", "audio", "segments", "clips", "frames"), options, models)


@task(task_run_name="canary", tags=["gpu"])
def try_gpu_stages(options: AnalyzeOptions, models: dict[str, ModelInfo]) -> None:
    """The same for the stages with a network."""
    canary.try_stages(("language", "transcript", "detections", "embeddings"), options, models)
