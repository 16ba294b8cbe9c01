"""The source: fetched once per host, and probed."""

from __future__ import annotations

from prefect import task

from tasks.core import probe
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.schema import MediaInfo, MediaRef
from tasks.lookup import fetch_source, source_file
from tasks.stage import RETRY


@task(task_run_name="fetch", **RETRY)
def fetch_media(source: str, store: str, limits: LimitOptions) -> MediaRef:
    """The source's bytes in this host's cache, and the digest that names them."""
    return fetch_source(source, store, limits)


@task(task_run_name="probe · {media.name}", **RETRY)
def probe_media(media: MediaRef, limits: LimitOptions, audio: AudioOptions) -> MediaInfo:
    """What the media holds, or why it cannot be analysed."""
    return probe.probe(source_file(media), limits, audio)
