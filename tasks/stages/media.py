"""The source: fetched once per host, and probed."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from tasks.core import probe
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.records import load_records, save_records
from tasks.core.schema import ArtifactRef, MediaInfo, MediaRef
from tasks.records.artifacts import artifact_file, reading
from tasks.records.lookup import fetch_source, source_file
from tasks.stages.stage import RETRY, stage

INFO = "media.json"


@task(task_run_name="fetch", **RETRY)
def fetch_media(source: str, store: str, limits: LimitOptions) -> MediaRef:
    """The source's bytes in this host's cache, and the digest that names them."""
    return fetch_source(source, store, limits)


@stage("probe", version=3)
def probe_media(media: MediaRef, limits: LimitOptions, audio: AudioOptions, out: Path) -> None:
    """What the media holds, or why it cannot be analysed."""
    with source_file(media) as path:
        save_records(probe.probe(path, limits, audio), out / INFO)


def load_info(ref: ArtifactRef) -> MediaInfo:
    """Streams and duration of a `probe` artifact."""
    with reading([ref]):
        return load_records(MediaInfo, artifact_file(ref, INFO))
