"""Short ratios of CPU seconds, bare reference over Reelflow, that `check` holds against its floors."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imageio_ffmpeg import get_ffmpeg_exe

from benchmarks._corpus import WITHOUT_SCENES, tiny
from benchmarks.backfill import settled_cpu
from tasks.core.models import bundled

ROUNDS = 4
"""Of the bundled sample (25 s) in the recording that is analysed and cut."""

OBJECTS = 48
WARM = 24
"""Small files, and those before them that let each worker do each stage once."""

TASKS = 60
VECTORS, SEGMENTS, SIZE, QUESTIONS = 40_000, 4_000, 256, 40
WINDOW_S, CUTS = 3.0, 4

MODELS = ("transcript.model=bundled", "detections.weights=bundled", "clips.enabled=false", *WITHOUT_SCENES)
PIPELINE = (*MODELS, *bundled.SAMPLE_OPTIONS)
SMALL = (*MODELS, "transcript.enabled=false", "detections.image_size=320")

LEAST_RECALL = 0.9


@dataclass(frozen=True)
class Ratio:
    """CPU seconds for the same work."""

    bare_s: float
    ours_s: float
    look: str
    """Benchmark that tells more."""

    @property
    def value(self) -> float:
        return self.bare_s / self.ours_s


@contextmanager
def warm_engine(names: Collection[str], folder: Path) -> Iterator[None]:
    """Server and cluster for those ratios that need them; each worker has done every stage."""
    with ExitStack() as stack:
        if {"pipeline", "small files", "task overhead"} & set(names):
            from flows.runtime.run import engine

            stack.enter_context(engine())
            for number in range(2):
                _analyze(bundled.SAMPLE_CLIP, folder / f"warm-{number}", PIPELINE)
            _backfill(_small(folder / "warm", WARM, first=10_000), folder / "warm-small")
        yield


def pipeline(folder: Path) -> Ratio:
    """One run of a recording against its engines, called one after the other in this process."""
    source = recording(folder)
    bare_s, (words, boxes) = _bare(source, PIPELINE)
    before = _spent()
    result = _analyze(source, folder / "pipeline", PIPELINE)
    ours_s = _spent() - before
    heard = " ".join(segment.text for segment in result.transcript.segments).split()
    assert abs(len(heard) - words) <= 0.05 * words, f"{len(heard)} words, the engines heard {words}"
    seen = sum(result.detections.classes.values())
    assert abs(seen - boxes) <= 0.05 * boxes, f"{seen} boxes, the engines saw {boxes}"
    return Ratio(bare_s, ours_s, "pipeline")


def small_files(folder: Path) -> Ratio:
    """A backfill of small files against their engines."""
    sources = _small(folder / "small", OBJECTS)
    _bare(next(sources.iterdir()), SMALL)
    bare_s = sum(_bare(source, SMALL)[0] for source in sorted(sources.iterdir()))
    before = _spent()
    _backfill(sources, folder / "small-store")
    return Ratio(bare_s, _spent() - before, "backfill --objects 40")


def task_overhead(_: Path) -> Ratio:
    """Empty tasks: Reelflow's Dask runner against prefect-dask's own on the same cluster."""
    from prefect import flow
    from prefect_dask import DaskTaskRunner

    from benchmarks.task_overhead import PARTS, measure, ours, submit_all
    from flows.runtime.local_cluster import local_scheduler, local_security

    address = local_scheduler()
    runner: Any = DaskTaskRunner(address=address, client_kwargs={"security": local_security(address)})
    stock: Any = flow(name="overhead-prefect-dask", task_runner=runner)(submit_all)

    def spent(run: Any) -> float:
        measure(run, 10)
        taken = measure(run, TASKS)
        return sum(taken[f"{part}, CPU ms/task"] for part in PARTS) * TASKS / 1000

    return Ratio(spent(stock), spent(ours), "task_overhead")


def search(folder: Path) -> Ratio:
    """Questions by meaning: the index against comparison with every vector. Raises AssertionError for bad answers."""
    import numpy as np
    import pyarrow.parquet as pq

    from benchmarks._search_corpus import MODEL, large_corpus, large_parts
    from tasks.core.search.build import build
    from tasks.core.search.corpus import Scope
    from tasks.core.search.lance import open_index

    made = large_corpus(folder / "search", VECTORS, SEGMENTS, SIZE, QUESTIONS)
    build(folder / "search" / "index", *large_parts(folder / "search"))
    index = open_index(folder / "search" / "index")
    assert index is not None, "there is no index"
    parts = sorted((folder / "search" / "tables" / "embeddings").glob("*/part.parquet"))
    columns = [pq.read_table(part, columns=["vector"])["vector"].combine_chunks().values for part in parts]
    vectors = np.concatenate([column.to_numpy() for column in columns]).reshape(-1, SIZE)
    assert len(vectors) == VECTORS, f"{len(vectors)} vectors"
    index.frames(made.questions[0], MODEL, 400, Scope())
    found = []
    before = time.process_time()
    for question in made.questions:
        found.append(index.frames(question, MODEL, 400, Scope())[0][:10])
    ours_s, before = time.process_time() - before, time.process_time()
    for question in made.questions:
        np.argpartition(-(vectors @ question), 400)
    bare_s = time.process_time() - before
    pairs = zip(found, made.nearest, strict=True)
    recall = sum(len({(one.media_id, one.time) for one in some} & nearest) for some, nearest in pairs) / len(found) / 10
    assert recall >= LEAST_RECALL, f"recall {recall:.3f}"
    return Ratio(bare_s, ours_s, "search --frames 40000 --segments 4000 --copies 0")


def ingest(folder: Path) -> Ratio:
    """Windows of a recording, read as fast as it goes, against its packets copied into one file."""
    from tasks.core.live import camera
    from tasks.core.live.address import Address
    from tasks.core.live.capture import Task

    source = recording(folder)
    ours_s = bare_s = 0.0
    for number in range(1 + CUTS):
        spool = folder / f"spool-{number}"
        asked = Task(
            camera="check", spool=str(spool), spool_bytes=2**30, window_s=WINDOW_S, keep_time=True, health=False
        )
        before = time.process_time()
        status, _ = camera.run(asked, Address(str(source)), lambda *_: None, threading.Event())
        between = time.process_time()
        copied_s = _copy(source, folder / f"copied-{number}.mp4")
        if number:  # the first one warms up
            ours_s, bare_s = ours_s + between - before, bare_s + time.process_time() - between
        assert status == camera.OK, f"ended with {status}"
        kept_s = sum(_seconds(window) for window in (spool / "ready").glob("*.mp4"))
        assert abs(kept_s - copied_s) < 1.0, f"windows of {kept_s:.1f} s of {copied_s:.1f} s"
    return Ratio(bare_s, ours_s, "check --only ingest")


MEASURES: dict[str, Callable[[Path], Ratio]] = {
    "pipeline": pipeline,
    "small files": small_files,
    "task overhead": task_overhead,
    "search": search,
    "ingest": ingest,
}


def recording(folder: Path) -> Path:
    """The bundled sample several times, one after the other."""
    made = folder / "recording.mp4"
    if not made.is_file():
        again = ["-stream_loop", str(ROUNDS - 1), "-i", str(bundled.SAMPLE_CLIP), "-c", "copy", str(made)]
        subprocess.run([get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *again], check=True)
    return made


def _bare(source: Path, assignments: tuple[str, ...]) -> tuple[float, tuple[int, int]]:
    """CPU seconds of the engines, one thread each, and the words and boxes that they give."""
    import torch

    from tasks.core import frames, probe, windows
    from tasks.core.audio import extract_audio, load_audio
    from tasks.core.frame_plan import plan_batches
    from tasks.core.models import whisper, yolo
    from tasks.core.options import parse_options
    from tasks.core.sandbox.children import child_cpu_s
    from tasks.core.segments import find_speech
    from tasks.records.lookup import find_models
    from tasks.stages.speech import load_model as load_whisper
    from tasks.stages.vision import load_model as load_yolo

    options = parse_options(assignments)
    models, _ = find_models(options)
    detector = load_yolo(models["detections"], options.detections)
    listener = load_whisper(models["transcript"], options.transcript) if "transcript" in models else None
    torch.set_num_threads(1)
    words = boxes = 0
    before = time.process_time() + child_cpu_s()
    info = probe.probe(source, options.limits, options.audio)
    with tempfile.TemporaryDirectory() as work:
        track = Path(work) / "audio.flac"
        extract_audio(source, info, track, options.audio.channel)
        sound = load_audio(track)
        spoken = find_speech(sound, options.segments)
        if listener is not None:
            packed = windows.pack_windows(spoken.segments, spoken.pauses, options.transcript.window_s, info.duration_s)
            language = whisper.detect_language(listener, [load_audio(track, w.start, w.end) for w in packed[:3]]).code
            for batch in windows.batch_windows(packed, options.transcript.batch_size):
                heard = [load_audio(track, window.start, window.end) for window in batch]
                said = whisper.transcribe(listener, batch, heard, options.transcript, language, spoken)
                words += sum(len(segment.text.split()) for window in said for segment in window.segments)
    for spec in plan_batches(info, options.frames):
        taken = frames.sample_frames(source, info, spec, options.frames, threads=1)
        found = yolo.detect(detector, taken.images, (taken.width, taken.height), options.detections)
        boxes += sum(map(len, found))
    return time.process_time() + child_cpu_s() - before, (words, boxes)


def _analyze(source: Path, store: Path, assignments: tuple[str, ...]) -> Any:
    from flows.analyze_media import analyze_media
    from tasks.core.options import parse_options
    from tasks.records.results import read_result
    from tasks.store import open_store

    state: Any = analyze_media(
        source=str(source), store=str(store), options=parse_options(assignments), return_state=True
    )
    report = state.result(_sync=True)
    assert report["status"] == "done", report
    found = read_result(open_store(str(store)), report["media_id"])
    assert found is not None, "there is no result"
    return found[0]


def _backfill(sources: Path, store: Path) -> None:
    from flows.backfill_prefix import backfill_prefix
    from tasks.core.options import parse_options

    state: Any = backfill_prefix(prefix=str(sources), store=str(store), options=parse_options(SMALL), return_state=True)
    report = state.result(_sync=True)
    assert (report["done"], report["failed"]) == (len(list(sources.iterdir())), 0), report


def _small(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir()
    for number in range(first, first + count):
        (folder / f"{number:05d}.mp4").write_bytes(tiny(number))
    return folder


def _spent() -> float:
    """CPU seconds of flow, workers and server so far, once the server is through."""
    return sum(settled_cpu().values())


def _copy(source: Path, target: Path) -> float:
    """Copies the packets with PyAV; seconds of media."""
    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        streams = {found.index: written.add_stream_from_template(found) for found in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    return _seconds(target)


def _seconds(path: Path) -> float:
    import av

    with av.open(str(path)) as found:
        return float(found.duration or 0) / av.time_base
