"""Cameras recorded by a flow run: the same as `python -m flows ingest`, for ever or for a time."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows import parameters
from flows.ingest.cameras import CameraOptions, IngestOptions
from flows.ingest.run import IngestReport
from flows.ingest.run import ingest as run
from flows.summary import plain
from tasks.core.options import AnalyzeOptions


@flow(name="ingest-stream", flow_run_name="ingest: {to}", validate_parameters=True)
def ingest_stream(
    to: str,
    cameras: dict[str, CameraOptions],
    duration: Annotated[float | None, Field(gt=0)] = None,
    spool_bytes: Annotated[int, Field(ge=2**20)] = 2 * 2**30,
    uploads: Annotated[int, Field(ge=1, le=32)] = 6,
) -> IngestReport:
    """Records cameras: their streams become time-stamped windows under a prefix, until the run is cancelled.

    Args:
        to: Root of the recordings: a folder, s3://bucket/prefix or s3-bucket/NAME. A deployment's run writes inside
            REELFLOW_ALLOWED_STORES only.
        cameras: By name: where each is and how it is cut. An address with a password is written as secret://NAME,
            never as itself: parameters can be read by all. A deployment's run reads REELFLOW_ALLOWED_SOURCES only.
        duration: End after so many seconds. Default: never.
        spool_bytes: Most that the windows of one camera may take on this host while the store takes none, in bytes.
        uploads: Windows sent at the same time.
    """
    log = get_run_logger()
    parameters.check([camera.url for camera in cameras.values()], to, AnalyzeOptions())
    limited: dict[str, Any] = {"duration": duration} if duration else {}
    chosen = {name: camera.model_copy(update=limited) for name, camera in cameras.items()}
    options = IngestOptions(to=to, cameras=chosen, spool_bytes=spool_bytes, uploads=uploads)
    report = run(options, say=log.warning, stopping=threading.Event())
    create_markdown_artifact(plain(report.sentence()), key="ingest", description=f"Ingest to {to}")
    return report
