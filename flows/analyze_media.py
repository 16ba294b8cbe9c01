"""One media, end to end: audio and pictures side by side, in mapped batches, into one committed result."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import parameters, summary
from flows.progress import Progress
from flows.task_runner import ClusterTaskRunner
from tasks.core.errors import (
    DamagedArtifact,
    PermanentError,
    ReelflowError,
    SourceChanged,
    StoreUnavailable,
    ToolFailed,
    Unprocessable,
    WorkerLost,
)
from tasks.core.fetch import display_source
from tasks.core.options import AnalyzeOptions
from tasks.core.schema import AnalyzeReport, Findings, MediaRef, ModelInfo, StageTiming
from tasks.models import resolve_models
from tasks.records.lease import Lease, exclusive
from tasks.records.lookup import quarantined
from tasks.records.results import forget_name, read_result, result_key, result_path, views_are_fresh, whole_result
from tasks.records.sources import remember
from tasks.settings import settings
from tasks.stages import host_check, media, publish, speech, text_bank, vision
from tasks.stages.stage import Meter
from tasks.store import Store, open_store

LAST_WRITER_NOTICE = (
    "This store ignores conditional writes: of two runs on two hosts that commit at the same time, the last one stays."
)

SETTLE_S = (1.0, 4.0, 10.0)
"""A source that changes while it is read is read anew after these pauses; one that then still changes is set aside."""

MOST_DAMAGED = 3
"""Times that a media is gone through again because an artifact of it is damaged."""


def _run_name() -> str:
    return f"analyze: {summary.label(flow_run.parameters.get('source', ''))}"


@flow(name="analyze-media", flow_run_name=_run_name, task_runner=ClusterTaskRunner(), validate_parameters=True)
def analyze_media(
    source: parameters.Sources,
    store: parameters.Store = None,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
    versions: parameters.Versions = {},  # noqa: B006
) -> Any:
    """Turns one video or audio file into a transcript, detections and a report.

    A source that is set aside as bad ends its run as Quarantined, which is a kind of Failed.

    Args:
        source: A path, file:///..., s3://bucket/key or https://... URL; or a list of them, each a run of its own. No
            credentials: for these secret://NAME, or https://...#secret=NAME.
        store: Root of the store: a folder, file:///... or s3://bucket/prefix. Default: REELFLOW_STORE of the worker.
        options: What to do, by stage.
        versions: Of sources, as backfill-prefix has listed them; it skips such a version once it is set aside.
    """
    parameters.check(source if isinstance(source, list) else [source], store, options)
    if isinstance(source, list):
        from flows.backfill.batch import analyze_list

        return analyze_list(source, store or settings().store, options, versions)
    started = time.monotonic()
    root = open_store(store or settings().store)
    for pause_s in SETTLE_S:
        try:
            return _state(_settle(source, root, options, versions, started))
        except SourceChanged:
            time.sleep(pause_s)
    try:
        return _state(_settle(source, root, options, versions, started))
    except SourceChanged as error:
        return _state(_set_aside(source, root, None, options, versions, error, started))


def _settle(
    source: str, root: Store, options: AnalyzeOptions, versions: dict[str, str], started: float
) -> AnalyzeReport:
    """Analyses the source or sets it aside. Raises SourceChanged where it does not hold still."""
    found: MediaRef | None = None
    try:
        found, models, notices, timing = _prepare(source, root, options)
        key = result_key(found.media_id, options, models)
        if is_done(root, found, key):
            return _settled(source, root, found, options, "cached", started)
        with exclusive(root, found.media_id, waiting=_say_who_works):
            if is_done(root, found, key):
                return _settled(source, root, found, options, "cached", started)
            _judge_lost_workers(
                partial(_make_again_what_is_damaged, root, found, options, models, notices, timing),
                display_source(source),
                options,
                models,
            )
        return _settled(source, root, found, options, "done", started)
    except PermanentError as error:
        return _set_aside(source, root, found, options, versions, error, started)


def _judge_lost_workers(
    work: Callable[[], None], shown: str, options: AnalyzeOptions, models: dict[str, ModelInfo]
) -> None:
    """Does the work, and once more where it ended its workers and a good file does not; see tasks/stages/canary.py.

    Raises Unprocessable where workers end again, ToolFailed where they do with the good file.
    """
    try:
        work()
        return
    except WorkerLost as error:
        lost = error
    try:
        for check in (host_check.try_cpu_stages, host_check.try_gpu_stages):
            check.submit(options, models).result()
    except Exception as failed:
        said = getattr(failed, "message", type(failed).__name__)
        raise ToolFailed(f"{lost.message} So it is with the bundled sample: {said}") from lost
    try:
        work()
    except WorkerLost as again:
        raise Unprocessable(
            f"{shown}: it ends the workers that it is given to, and a good file does not; convert it to MP4 or FLAC",
            detail=again.message,
        ) from again


def _make_again_what_is_damaged(
    root: Store,
    found: MediaRef,
    options: AnalyzeOptions,
    models: dict[str, ModelInfo],
    notices: list[str],
    timing: dict[str, StageTiming],
) -> None:
    damaged = ""
    for _ in range(MOST_DAMAGED):
        try:
            _analyze(found, options, models, notices, timing)
            return
        except DamagedArtifact as error:
            get_run_logger().warning("%s", error.message)
            damaged = error.message
    raise StoreUnavailable(f"{damaged}, {MOST_DAMAGED} times in a row: check what {root.root} lies on.")


def _prepare(
    source: str, root: Store, options: AnalyzeOptions
) -> tuple[MediaRef, dict[str, ModelInfo], list[str], dict[str, StageTiming]]:
    """The source's bytes and the models, on this host or, with a cluster elsewhere, on one of its workers."""
    meter = Meter()
    fetched, resolved = near(media.fetch_media, source, root.address, options.limits), near(resolve_models, options)
    found: MediaRef = fetched.result()
    timing = {"fetch": meter.timing(bytes_in=found.bytes)}
    models, notices = resolved.result()
    return found, models, notices_of(root, notices), timing


def notices_of(root: Store, notices: list[str]) -> list[str]:
    """Notices of a result, with those that its store gives cause for."""
    return notices if root.guarantee == "atomic" else [*notices, LAST_WRITER_NOTICE]


def near(task: Any, *arguments: Any) -> Any:
    """Something with a `result()`: on this host, or at once on a worker of a cluster elsewhere."""
    return task.submit(*arguments) if settings().dask_address else task(*arguments, return_state=True)


def _analyze(
    found: MediaRef,
    options: AnalyzeOptions,
    models: dict[str, ModelInfo],
    notices: list[str],
    timing: dict[str, StageTiming],
) -> None:
    progress = Progress(f"Analysing {found.name}")
    probed = near(media.probe_media, found, options.limits, options.audio).result()
    info = media.load_info(probed)

    audio = speech.extract_audio.submit(found, info, options.audio.channel)
    segments = speech.segment_speech.submit(found, audio, options.segments)
    progress.expect("audio")
    progress.expect("segments")
    batches, shots = vision.plan_frames(info, options, models), vision.has_shots(options)
    frames = [vision.sample_frames.submit(found, info, batch, options.frames) for batch in batches]
    progress.expect("frames", len(frames))

    progress.gather("audio", [audio])
    [heard] = progress.gather("segments", [segments])
    windows = speech.plan_windows(heard, info, options.transcript) if "transcript" in models else []
    clips = [speech.cut_clips.submit(found, info, audio, segments, options.clips)] if options.clips.enabled else []
    language = []
    if first := speech.language_windows(windows, options.transcript):
        language = [speech.detect_language.submit(found, audio, first, models["transcript"], options.transcript)]
    spoken = language[0] if language else None
    said = [
        speech.transcribe.submit(found, audio, heard, batch, spoken, models["transcript"], options.transcript)
        for batch in windows
    ]
    for stage, futures in (("clips", clips), ("language", language), ("transcript", said)):
        progress.expect(stage, len(futures))

    # The batches' other tasks come after those of speech, which is the longer branch and would wait for one of them.
    boxes, vectors, scenes, described = [], [], [], []
    for sampled in frames:
        if "detections" in models:
            boxes.append(vision.detect_objects.submit(found, sampled, models["detections"], options.detections))
        if "embeddings" in models:
            vectors.append(vision.embed_frames.submit(found, sampled, models["embeddings"], options.embeddings))
    for stage, futures in (("detections", boxes), ("embeddings", vectors)):
        progress.expect(stage, len(futures))
    if vectors:
        bank = bank_of(found.store, options, models)
        described = [vision.describe.submit(found, info, vectors, bank, options.embeddings, options.tags)]
        progress.expect("description")
    if frames and (shots or vectors):
        compared = frames if shots else []
        scenes = [vision.detect_scenes.submit(found, compared, vectors, options.scenes)]
        progress.expect("scenes")

    progress.expect("publish")

    findings = Findings(
        probe=probed,
        audio=audio.result(),
        segments=heard,
        clips=next(iter(progress.gather("clips", clips)), None),
        language=next(iter(progress.gather("language", language)), None),
        transcript=progress.gather("transcript", said),
        frames=progress.gather("frames", frames),
        detections=progress.gather("detections", boxes),
        embeddings=progress.gather("embeddings", vectors),
        scenes=next(iter(progress.gather("scenes", scenes)), None),
        description=next(iter(progress.gather("description", described)), None),
    )
    published = publish.publish_result.submit(found, info, options, models, findings, timing, notices)
    progress.gather("publish", [published])
    progress.finish()


def bank_of(store: str, options: AnalyzeOptions, models: dict[str, ModelInfo]) -> Any:
    """The text bank's vectors: those in the store, or the future of a task that makes them."""
    bank = text_bank.bank_ref(models)
    if open_store(store).size(bank.path) is not None:
        return bank
    return text_bank.embed_text_bank.submit(store, bank, models["embeddings"], options.tags, options.embeddings)


def is_done(root: Store, found: MediaRef, key: str) -> bool:
    """Is there a whole result with this key, and are its views?"""
    done = whole_result(root, found.media_id, key)
    return done is not None and views_are_fresh(root, done)


def _say_who_works(holder: Lease) -> None:
    get_run_logger().info(
        "Another run analyses this media (process %d on %s); waiting for it", holder.pid, holder.host.partition("/")[0]
    )


def _settled(
    source: str,
    root: Store,
    found: MediaRef,
    options: AnalyzeOptions,
    status: Literal["done", "cached"],
    started: float,
) -> AnalyzeReport:
    """The report of a source that has a result, noted for backfills; a new result is shown with the run."""
    cost = _summarize(root, found) if status == "done" else 0.0
    report = AnalyzeReport(
        source=display_source(source),
        media_id=found.media_id,
        status=status,
        result=root.uri(result_path(found.media_id)),
        seconds=round(time.monotonic() - started, 3),
        cached=status == "cached",
        cost_usd=cost,
    )
    remember(root, source, found.version, options, report)
    forget_name(root, source)
    return report


def _set_aside(
    source: str,
    root: Store,
    found: MediaRef | None,
    options: AnalyzeOptions,
    versions: dict[str, str],
    error: ReelflowError,
    started: float,
) -> AnalyzeReport:
    """The report of a source that cannot be analysed, noted for backfills and shown with the run."""
    report = quarantined(source, root.address, found, error, started)
    remember(root, source, found.version if found else versions.get(source, ""), options, report)
    get_run_logger().error("%s is set aside: %s", report.source, error.message)
    create_markdown_artifact(summary.quarantined(report), key="quarantined", description="Why it was set aside")
    return report


def _summarize(root: Store, found: MediaRef) -> float:
    """Leaves the summary with the run; what the result cost, US dollars."""
    committed = read_result(root, found.media_id)
    if committed is None:
        return 0.0
    result = committed[0]
    create_markdown_artifact(summary.markdown(result), key="summary", description=f"What {found.name} shows")
    create_table_artifact(summary.stage_rows(result), key="stages", description="Time and cost by stage")
    return result.cost.get("total", 0.0)


def _state(report: AnalyzeReport) -> State[dict[str, Any]]:
    kind = Completed if report.status in ("done", "cached") else Failed
    return kind(
        name=report.status.capitalize(),
        message=(report.error or {}).get("message") or f"{report.status} in {report.seconds:.1f} s",
        data=report.model_dump(),
    )
