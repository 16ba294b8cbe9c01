"""The audio branch: track, speech segments, clips, language, transcript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.core import audio as track
from tasks.core import clips, segments, windows
from tasks.core.models import weights
from tasks.core.models.device import choose_device, choose_precision
from tasks.core.options import Channel, ClipOptions, SegmentOptions, TranscriptOptions
from tasks.core.records import load_records, save_records
from tasks.core.schema import (
    ArtifactRef,
    Clip,
    Heard,
    Interval,
    MediaInfo,
    MediaRef,
    ModelInfo,
    Pause,
    SpeechWindow,
    SpokenLanguage,
)
from tasks.records.artifacts import artifact_file, reading
from tasks.records.lookup import same_weights, source_file
from tasks.settings import settings
from tasks.stages.stage import stage
from tasks.workers.threads import threads_per_task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.core.models.whisper import WhisperModel

AUDIO = "audio.flac"
HEARD = "heard.json"
SEGMENTS = "segments.json"
PAUSES = "pauses.json"
VOICE = "voice.u8"
"""Probability of speech for each 32 ms, one byte each."""
CLIPS = "clips.json"
LANGUAGE = "language.json"
TRANSCRIPT = "transcript.json"

LANGUAGE_WINDOWS = 3
"""Windows that the language is detected on: one may be music or a foreign quotation."""


@stage("audio", version=2, tags=["leads"])
def extract_audio(media: MediaRef, info: MediaInfo, channel: Channel, out: Path) -> None:
    """The chosen audio stream as 16 kHz mono, or silence of the media's length; and what of it was heard."""
    with source_file(media) as path:
        save_records(track.extract_audio(path, info, out / AUDIO, channel), out / HEARD)


@stage("segments", version=2, tags=["leads"])
def segment_speech(media: MediaRef, audio: ArtifactRef, options: SegmentOptions, out: Path) -> None:
    """Where someone speaks, and where they pause."""
    found = segments.find_speech(track.load_audio(artifact_file(audio, AUDIO)), options)
    save_records(found.segments, out / SEGMENTS)
    save_records(found.pauses, out / PAUSES)
    found.voice.tofile(out / VOICE)


@stage("clips", version=2)
def cut_clips(
    media: MediaRef, info: MediaInfo, audio: ArtifactRef, segments: ArtifactRef, options: ClipOptions, out: Path
) -> None:
    """One small, frame-accurate clip for each stretch of speech."""
    planned = clips.plan_clips(load_segments(segments), load_heard(audio).duration_s, options)
    with source_file(media) as path:
        files = clips.cut_clips(path, info, artifact_file(audio, AUDIO), planned, out, options, threads_per_task())
    cut = [Clip(start=clip.start, end=clip.end, uri=file.name) for clip, file in zip(planned, files, strict=True)]
    save_records(cut, out / CLIPS)


@stage("language", version=2, tags=["gpu", "first", "leads"])
def detect_language(
    media: MediaRef,
    audio: ArtifactRef,
    windows: list[SpeechWindow],
    model: ModelInfo,
    options: TranscriptOptions,
    out: Path,
) -> None:
    """The language spoken, heard once for the whole media."""
    from tasks.core.models import whisper

    heard = [_samples(audio, window) for window in windows]
    save_records(whisper.detect_language(load_model(model, options), heard), out / LANGUAGE)


@stage("transcript", version=3, tags=["gpu", "first"], label="{media.name} from {windows[0].start:.0f} s")
def transcribe(
    media: MediaRef,
    audio: ArtifactRef,
    segments: ArtifactRef,
    windows: list[SpeechWindow],
    language: ArtifactRef | None,
    model: ModelInfo,
    options: TranscriptOptions,
    out: Path,
) -> None:
    """What is said in one batch of windows.  (N windows of up to 30 s in, N records in media time out.)"""
    from tasks.core.models import whisper

    heard = [_samples(audio, window) for window in windows]
    spoken = load_records(SpokenLanguage, artifact_file(language, LANGUAGE)).code if language else options.language
    said = whisper.transcribe(load_model(model, options), windows, heard, options, spoken, load_speech(segments))
    save_records(said, out / TRANSCRIPT)


def load_heard(ref: ArtifactRef) -> Heard:
    """What became of the sound, of an `audio` artifact."""
    with reading([ref]):
        return load_records(Heard, artifact_file(ref, HEARD))


def load_segments(ref: ArtifactRef) -> list[Interval]:
    """Speech intervals of a `segments` artifact."""
    with reading([ref]):
        return load_records(list[Interval], artifact_file(ref, SEGMENTS))


def load_speech(ref: ArtifactRef) -> segments.Speech:
    """All that a `segments` artifact says."""
    with reading([ref]):
        voice = np.fromfile(artifact_file(ref, VOICE), np.uint8)
        return segments.Speech(load_segments(ref), load_pauses(ref), voice)


def load_pauses(ref: ArtifactRef) -> list[Pause]:
    """Where the speech of a `segments` artifact can be cut."""
    with reading([ref]):
        return load_records(list[Pause], artifact_file(ref, PAUSES))


def plan_windows(ref: ArtifactRef, info: MediaInfo, options: TranscriptOptions) -> list[list[SpeechWindow]]:
    """Neighbouring speech in windows of up to 30 s, and those in the batches that are decoded together."""
    packed = windows.pack_windows(load_segments(ref), load_pauses(ref), options.window_s, info.duration_s)
    return windows.batch_windows(packed, options.batch_size)


def language_windows(windows: list[list[SpeechWindow]], options: TranscriptOptions) -> list[SpeechWindow]:
    """Those of a media's windows that its language is detected on; none where it is given or nobody speaks."""
    return windows[0][:LANGUAGE_WINDOWS] if windows and options.language is None else []


def _samples(audio: ArtifactRef, window: SpeechWindow) -> NDArray[np.float32]:
    return track.load_audio(artifact_file(audio, AUDIO), window.start, window.end)


def load_model(model: ModelInfo, options: TranscriptOptions) -> WhisperModel:
    """The network, loaded by this process's first call and kept."""
    from tasks.core.models import whisper

    file = weights.resolve_whisper(options.model, settings().models, language=options.language)
    device = choose_device(options.device, "transcript")
    return whisper.load(same_weights(file, model), device, choose_precision(options.precision, device, "transcript"))
