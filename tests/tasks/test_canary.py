"""A failure that nobody foresaw is the source's, an artifact's or the host's, and never taken for one of the others."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tasks.core import ffmpeg
from tasks.core.errors import DamagedArtifact, LimitExceeded, SourceChanged, ToolFailed, Unprocessable
from tasks.core.frame_plan import plan_batches
from tasks.core.options import AnalyzeOptions, parse_options
from tasks.core.sandbox.children import Bounds, Finished, run_program
from tasks.core.schema import ArtifactRef, MediaInfo, MediaRef
from tasks.records import artifacts
from tasks.records.lookup import fetch_source, find_models
from tasks.stages import canary, media, speech
from tasks.store import open_store

OPTIONS = AnalyzeOptions()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """`tool(script)` puts a shell script before ffmpeg; "$@" are its arguments."""
    real = ffmpeg.binary()

    def use(script: str) -> None:
        path = tmp_path / "ffmpeg.sh"
        path.write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
        path.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        ffmpeg.binary.cache_clear()

    yield use
    ffmpeg.binary.cache_clear()


def _open(path: Path, tmp_path: Path) -> tuple[MediaRef, MediaInfo]:
    found = fetch_source(str(path), open_store(str(tmp_path / "store")).address, OPTIONS.limits)
    return found, media.load_info(_made(media.probe_media, found, OPTIONS.limits, OPTIONS.audio))


def _made(task: Any, *arguments: Any) -> ArtifactRef:
    done = task.fn(*arguments)
    return done if isinstance(done, ArtifactRef) else done.data


@pytest.fixture
def opened(talk: Path, tmp_path: Path) -> tuple[MediaRef, MediaInfo]:
    source = tmp_path / "killer.mp4"
    source.write_bytes(talk.read_bytes())
    return _open(source, tmp_path)


@pytest.mark.parametrize("fault", ["kill -9 $$", "echo 'something new' >&2; exit 1"])
def test_a_tool_that_fails_on_one_source_only_is_that_sources_fault(
    opened: tuple[MediaRef, MediaInfo], tool: Callable[[str], None], fault: str
) -> None:
    tool(f'case "$*" in *killer.mp4*) {fault};; esac')
    with pytest.raises(Unprocessable, match=r"killer\.mp4: audio fails on it, and not on a good file"):
        _made(speech.extract_audio, *opened, "auto")


def test_a_tool_that_fails_on_a_good_file_too_is_the_hosts_fault(
    opened: tuple[MediaRef, MediaInfo], tool: Callable[[str], None]
) -> None:
    tool("echo 'libx.so: cannot open shared object file' >&2; exit 127")
    with pytest.raises(ToolFailed, match=r"on the bundled sample as well.*cannot open shared object file"):
        _made(speech.extract_audio, *opened, "auto")


def test_a_child_that_is_killed_once_is_nobodys_fault(
    opened: tuple[MediaRef, MediaInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, killed = run_program, list[bool]()

    def once(*command: Any, **more: Any) -> Finished:
        if not killed:
            killed.append(True)
            return Finished(-signal.SIGKILL, b"", "", 1.0, 1.0)
        return run(*command, **more)

    monkeypatch.setattr("tasks.core.ffmpeg.run_program", once)
    assert _made(speech.extract_audio, *opened, "auto").stage == "audio"


def test_a_library_that_fails_on_one_source_only_is_that_sources_fault(
    opened: tuple[MediaRef, MediaInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.core import clips

    cut = clips.cut_clips

    def fragile(path: Path, *arguments: Any) -> Any:
        if path.name == "killer.mp4":
            raise ZeroDivisionError("float division by zero")
        return cut(path, *arguments)

    audio = _made(speech.extract_audio, *opened, "auto")
    segments = _made(speech.segment_speech, opened[0], audio, OPTIONS.segments)
    monkeypatch.setattr(clips, "cut_clips", fragile)
    with pytest.raises(Unprocessable, match="ZeroDivisionError"):
        _made(speech.cut_clips, *opened, audio, segments, OPTIONS.clips)


def test_a_large_child_that_is_killed_is_the_sources_fault_and_a_small_one_is_not() -> None:
    bounds = Bounds(60, 60, memory_bytes=4 * 2**30)

    def killed(peak_bytes: int) -> Finished:
        return Finished(-signal.SIGKILL, b"", "", 1.0, 1.0, None, peak_bytes)

    assert isinstance(ffmpeg._failure(killed(2 * 2**30), bounds, Path("x.mp4")), LimitExceeded)
    assert isinstance(ffmpeg._failure(killed(2**26), bounds, Path("x.mp4")), ToolFailed)


@pytest.mark.parametrize("damage", ["zeros", "cut", "gone"])
def test_a_damaged_artifact_is_taken_away_and_made_again(opened: tuple[MediaRef, MediaInfo], damage: str) -> None:
    audio = _made(speech.extract_audio, *opened, "auto")
    file = artifacts.artifact_file(audio, speech.AUDIO)
    good = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(bytes(len(good)) if damage == "zeros" else good[: len(good) // 2])
    with pytest.raises(DamagedArtifact, match="made again"):
        _made(speech.segment_speech, opened[0], audio, OPTIONS.segments)
    again = _made(speech.extract_audio, *opened, "auto")
    assert not again.cached
    assert artifacts.artifact_file(again, speech.AUDIO).read_bytes() == good
    assert _made(speech.segment_speech, opened[0], again, OPTIONS.segments).stage == "segments"


def test_a_damaged_manifest_is_none(opened: tuple[MediaRef, MediaInfo]) -> None:
    audio = _made(speech.extract_audio, *opened, "auto")
    Path(audio.uri.removeprefix("file://"), artifacts.MANIFEST).write_bytes(b'{"files": ')
    assert not _made(speech.extract_audio, *opened, "auto").cached


def test_a_source_that_grows_meanwhile_has_changed_and_is_not_bad(
    opened: tuple[MediaRef, MediaInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, run = Path(opened[0].source), run_program

    def grown(*command: Any, **more: Any) -> Finished:
        with source.open("ab") as file:
            file.write(b"more")
        return run(*command, **more)

    monkeypatch.setattr("tasks.core.ffmpeg.run_program", grown)
    with pytest.raises(SourceChanged, match=r"killer\.mp4 has changed"):
        _made(speech.extract_audio, *opened, "auto")
    with pytest.raises(SourceChanged, match=r"killer\.mp4 has changed"):
        _made(speech.extract_audio, *opened, "auto")


@pytest.mark.slow
def test_every_stage_does_well_on_the_good_file(opened: tuple[MediaRef, MediaInfo]) -> None:
    """Else any failure of it would be the host's."""
    named = ("transcript.model=bundled", "detections.weights=bundled", "embeddings.model=bundled")
    options = parse_options([*named, "detections.image_size=320"])
    models, _ = find_models(options)
    canary.try_stages(("probe", "audio", "segments", "clips", "frames"), options, models)
    canary.try_stages(("language", "transcript", "detections", "embeddings", "scenes"), options, models)
    found, info = opened
    batch = plan_batches(info, options.frames, embed_fps=Fraction(1), shots=True)[0]
    with canary._good_file() as good:
        good.run("frames", {"media": found, "info": info, "batch": batch, "options": options.frames})
    assert set(canary.STAGES) == {
        *("probe", "audio", "segments", "clips", "frames", "language", "transcript", "detections", "embeddings"),
        *("scenes", "description"),
    }


def test_nothing_of_the_canary_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    canary.try_stages(("audio",), OPTIONS, {})
    assert not list(tmp_path.glob("reelflow-canary-*"))
