"""The end of a run: everything found about a media becomes one committed result, and the views of it."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task

from tasks.core.cost import cost_table
from tasks.core.errors import DamagedArtifact
from tasks.core.fetch import display_source
from tasks.core.options import AnalyzeOptions
from tasks.core.publish import assemble
from tasks.core.records import load_records
from tasks.core.schema import (
    ArtifactRef,
    Clip,
    Description,
    Findings,
    FrameDetections,
    HeardWindow,
    MediaInfo,
    MediaRef,
    ModelInfo,
    Result,
    SceneChange,
    SpokenLanguage,
    StageTiming,
    Transcript,
)
from tasks.records.artifacts import artifact_file, check_found, reading
from tasks.records.results import VIEWS, commit_result, release, result_key, result_path
from tasks.settings import settings
from tasks.stages.speech import CLIPS, LANGUAGE, TRANSCRIPT, load_heard
from tasks.stages.stage import RETRY, Meter
from tasks.stages.vision import DESCRIPTION, DETECTIONS, SCENES
from tasks.store import Store, open_store

BUNDLED_NOTICE = (
    "Made with the small demonstration models that come with Reelflow. They know {what} and nothing else: on real "
    "recordings these results mean nothing."
)

ENGLISH_NOTICE = (
    "The language was not checked: {name} knows English only. Multilingual weights (base, small, large-v3) detect it; "
    "transcript.language=en says that it is English."
)
UNKNOWN_SPEECH_NOTICE = (
    "Most of the speech is not like what {name} knows: its text failed every check for likelihood or repetition. It "
    "may be another language."
)
MOSTLY = 0.5
"""Share of the speech whose text is unsure or missing from which the weights plainly do not know it."""


@task(task_run_name="publish: {media.name}", **RETRY)
def publish_result(
    media: MediaRef,
    info: MediaInfo,
    options: AnalyzeOptions,
    models: dict[str, ModelInfo],
    findings: Findings,
    timing: dict[str, StageTiming],
    notices: list[str],
) -> str:
    """Commits result.json in one conditional write, then makes its views; returns the result's URI."""
    from tasks.records.views import write_views

    meter = Meter()
    store = open_store(media.store)
    with reading(findings.named().values()):
        check_found(findings.named().values())
        found = assemble_result(store, media, info, options, models, findings, timing, notices, meter)
        result = commit_result(store, found)
        write_views(store, media, result, findings)
    release(store, media.media_id)
    return store.uri(result_path(media.media_id))


def assemble_result(
    store: Store,
    media: MediaRef,
    info: MediaInfo,
    options: AnalyzeOptions,
    models: dict[str, ModelInfo],
    findings: Findings,
    timing: dict[str, StageTiming],
    notices: list[str],
    meter: Meter,
) -> Result:
    """What the artifacts say, as one record."""
    language = load_records(SpokenLanguage, artifact_file(findings.language, LANGUAGE)) if findings.language else None
    named = findings.named()
    stages = timing | assemble.stage_timings(named.values()) | {"publish": meter.timing()}
    views = {
        name: store.uri(f"media/{media.media_id}/{file}")
        for name, file in VIEWS.items()
        if findings.frames or not name.startswith("storyboard")
    }
    heard = load_heard(findings.audio)
    info = assemble.checked(info, heard)
    said = assemble.transcript(
        [load_records(list[HeardWindow], artifact_file(ref, TRANSCRIPT)) for ref in findings.transcript],
        language.code if language else options.transcript.language,
        language_checked=language.checked if language else True,
        words=options.transcript.words,
        channels=heard.channels,
    )
    described = (
        load_records(Description, artifact_file(findings.description, DESCRIPTION))
        if findings.description
        else Description()
    )
    return Result(
        media_id=media.media_id,
        key=result_key(media.media_id, options, models),
        source=display_source(media.source),
        media=info,
        options=options.model_dump(mode="json"),
        models=models,
        transcript=said,
        clips=_clips(findings.clips),
        detections=assemble.detections(
            (load_records(list[FrameDetections], artifact_file(ref, DETECTIONS)) for ref in findings.detections),
            options.frames.fps if options.frames.mode == "uniform" else None,
        ),
        scenes=load_records(list[SceneChange], artifact_file(findings.scenes, SCENES)) if findings.scenes else [],
        tags=described.tags,
        caption=described.caption,
        chunks=described.chunks,
        artifacts={name: ref.uri for name, ref in named.items()} | views,
        timing=stages,
        cost=cost_table(stages, settings().prices),
        created=datetime.now(UTC),
        notice=" ".join([*_bundled_notice(models), *speech_notices(said, models), *info.notices, *notices]) or None,
    )


def _clips(ref: ArtifactRef | None) -> list[Clip]:
    if ref is None:
        return []
    cut = load_records(list[Clip], artifact_file(ref, CLIPS))
    if not {clip.uri for clip in cut} <= ref.sha256.keys():
        raise DamagedArtifact(f"{ref.uri}: it names clips that are none of its own; it is made again")
    return [clip.model_copy(update={"uri": f"{ref.uri}/{clip.uri}"}) for clip in cut]


def speech_notices(said: Transcript, models: dict[str, ModelInfo]) -> list[str]:
    """What a reader of the transcript must know before believing it."""
    model = models.get("transcript")
    if model is None or model.bundled or not (said.segments or said.gaps):
        return []
    notices, name = [], model.name
    if not said.language_checked:
        notices.append(ENGLISH_NOTICE.format(name=name))
    if assemble.unsure_share(said) > MOSTLY:
        notices.append(UNKNOWN_SPEECH_NOTICE.format(name=name))
    return notices


def _bundled_notice(models: dict[str, ModelInfo]) -> list[str]:
    known = {
        "transcript": "a closed vocabulary of 38 synthetic words",
        "detections": "six drawn shapes",
        "embeddings": "drawn pictures of coloured shapes",
    }
    what = [known[name] for name, model in models.items() if model.bundled]
    return [BUNDLED_NOTICE.format(what=" and ".join(what))] if what else []
