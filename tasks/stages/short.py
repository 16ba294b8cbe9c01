"""Several short media in one task: a task run costs as much as what one of them does in it.

The stages are those of any media, called one after the other in the task that runs; keys, files and results are the
same. A media that does not come to its end here, for whatever reason, is left out: whoever asked goes through it on its
own, which finds what was made of it so far, tries again and judges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from prefect import task

from tasks.core.options import AnalyzeOptions, LimitOptions
from tasks.core.schema import BankRef, Findings, MediaInfo, MediaRef, ModelInfo, Record, StageTiming
from tasks.records.lookup import fetch_source
from tasks.records.results import read_result
from tasks.stages import media, publish, speech, vision
from tasks.stages.stage import RETRY, Meter, shares_process, within
from tasks.store import open_store

SHORT_S = 10.0
"""Media of up to this length are short."""

SHORT_BYTES = 16 * 2**20
"""What is larger is not fetched to see whether it is short."""

AT_ONCE = 4
"""Media of a task that are fetched, decoded or published at the same time."""

T = TypeVar("T")
R = TypeVar("R")


class Fetched(Record):
    """A source whose bytes are on a host."""

    media: MediaRef
    timing: StageTiming


class Begun(Fetched):
    """A short media, and what was found about it so far."""

    info: MediaInfo
    findings: Findings


@task(task_run_name="fetch several", **RETRY)
def fetch_each(sources: list[str], store: str, limits: LimitOptions) -> list[Fetched | None]:
    """The bytes of each source that is small enough, in this host's cache."""
    small = limits.model_copy(update={"max_bytes": min(limits.max_bytes, SHORT_BYTES)})

    def fetch(source: str) -> Fetched:
        meter = Meter()
        found = fetch_source(source, store, small)
        return Fetched(media=found, timing=meter.timing(bytes_in=found.bytes))

    return _side_by_side(fetch, sources)


@task(task_run_name="sound and frames of several", **RETRY)
def decode_each(fetched: list[Fetched], options: AnalyzeOptions, models: dict[str, ModelInfo]) -> list[Begun | None]:
    """All that is read from each media itself: probe, sound, speech segments, clips, frames."""

    def decode(found: Fetched) -> Begun | None:
        this = found.media
        probed = within(media.probe_media, this, options.limits, options.audio)
        info = media.load_info(probed)
        if info.duration_s > SHORT_S:
            return None
        audio = within(speech.extract_audio, this, info, options.audio.channel)
        segments = within(speech.segment_speech, this, audio, options.segments)
        clips = within(speech.cut_clips, this, info, audio, segments, options.clips) if options.clips.enabled else None
        frames = [
            within(vision.sample_frames, this, info, batch, options.frames)
            for batch in vision.plan_frames(info, options, models)
        ]
        findings = Findings(probe=probed, audio=audio, segments=segments, clips=clips, frames=frames)
        return Begun(media=this, timing=found.timing, info=info, findings=findings)

    return _side_by_side(decode, fetched)


@task(task_run_name="networks over several", tags=["gpu"], **RETRY)
def recognize_each(
    begun: list[Begun | None], options: AnalyzeOptions, models: dict[str, ModelInfo]
) -> list[Begun | None]:
    """All that takes a network: language, transcript, detections, embeddings."""

    def recognize(found: Begun) -> Begun:
        this, had = found.media, found.findings
        language, said = None, []
        if "transcript" in models:
            windows = speech.plan_windows(had.segments, found.info, options.transcript)
            model = models["transcript"]
            if first := speech.language_windows(windows, options.transcript):
                language = within(speech.detect_language, this, had.audio, first, model, options.transcript)
            said = [
                within(speech.transcribe, this, had.audio, had.segments, batch, language, model, options.transcript)
                for batch in windows
            ]
        boxes = [
            within(vision.detect_objects, this, ref, models["detections"], options.detections)
            for ref in had.frames
            if "detections" in models
        ]
        vectors = [
            within(vision.embed_frames, this, ref, models["embeddings"], options.embeddings)
            for ref in had.frames
            if "embeddings" in models
        ]
        seen = {"language": language, "transcript": said, "detections": boxes, "embeddings": vectors}
        return found.model_copy(update={"findings": had.model_copy(update=seen)})

    return _each(recognize, begun)


@task(task_run_name="publish several", **RETRY)
def publish_each(
    begun: list[Begun | None],
    bank: BankRef | None,
    options: AnalyzeOptions,
    models: dict[str, ModelInfo],
    notices: list[str],
) -> list[float | None]:
    """Scenes, tags and caption of each media, and its committed result; what the results cost, US dollars."""

    def finish(found: Begun) -> float:
        this, info, had = found.media, found.info, found.findings
        shots = had.frames if vision.has_shots(options) else []
        scenes = description = None
        if bank is not None and had.embeddings:
            vectors = had.embeddings
            description = within(vision.describe, this, info, vectors, bank, options.embeddings, options.tags)
        if shots or had.embeddings:
            scenes = within(vision.detect_scenes, this, shots, had.embeddings, options.scenes)
        findings = had.model_copy(update={"scenes": scenes, "description": description})
        publish.publish_result.fn(this, info, options, models, findings, {"fetch": found.timing}, notices)
        committed = read_result(open_store(this.store), this.media_id)
        return committed[0].cost.get("total", 0.0) if committed else 0.0

    return _side_by_side(finish, begun)


def _side_by_side(work: Callable[[T], R | None], items: Sequence[T | None]) -> list[R | None]:
    """`_each` with AT_ONCE items at a time: they wait for disks, stores and children."""
    context = copy_context()
    context.run(shares_process.set, True)

    def attempt(item: T | None) -> R | None:
        return _attempt(work, item)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="reelflow-short") as pool:
        return list(pool.map(lambda item: context.copy().run(attempt, item), items))


def _each(work: Callable[[T], R | None], items: Sequence[T | None]) -> list[R | None]:
    """What became of each item, one after the other; None for what was left out before, or fails."""
    return [_attempt(work, item) for item in items]


def _attempt(work: Callable[[T], R | None], item: T | None) -> R | None:
    if item is None:
        return None
    try:
        return work(item)
    except Exception as error:
        logging.getLogger("reelflow").info("left to a run of its own: %s", error)
        return None
