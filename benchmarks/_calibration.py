"""Stage costs measured: short real media analysed one at a time, overhead from tiny objects, contention in pairs."""

from __future__ import annotations

import itertools
import random
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

from benchmarks._corpus import WITHOUT_SCENES, tiny
from benchmarks._measured_backfill import Answer, Asked, Spec, measure
from benchmarks._media import test_media
from benchmarks._simulation import NEAR
from benchmarks._stage_costs import Costs, Kind, Overhead, fit, fit_kind, sort_of
from tasks.core.models import bundled

OPTIONS = ["transcript.model=bundled", "detections.weights=auto", *WITHOUT_SCENES]
KINDS = {"street": ".mp4", "talk": ".mp4", "radio": ".flac"}
"""Pictures without sound (a street at 768x432), both (the bundled sample), sound alone."""

TASKS = {
    "extract_audio": "audio",
    "segment_speech": "segments",
    "sample_frames": "frames",
    "detect_objects": "detections",
    "cut_clips": "clips",
    "detect_language": "language",
    "transcribe": "transcript",
    "publish_result": "publish",
}
"""Stages by the names of their tasks."""

LENGTHS_S = (4.0, 9.0, 18.0)
COPIES = 2
TINY = {"together": (12, 64), "apart": (12, 1), "few": (3, 64)}
"""Objects of four frames, and frames per task run: other numbers of flow runs and of task runs than real media have."""

TINY_FPS = 8
"""Samples each of the four frames."""


def make_media(folder: Path, wanted: Iterable[tuple[str, float]], seed: int) -> Path:
    """Media of these kinds and lengths (seconds, at most 24), no two alike: each begins elsewhere and has a number."""
    folder.mkdir(parents=True)
    choose = random.Random(seed)
    for number, (kind, seconds) in enumerate(wanted):
        source, length_s = _source(kind)
        start = choose.uniform(0, length_s - seconds)
        cut = ["-ss", f"{start:.3f}", "-i", str(source), "-t", f"{seconds:g}"]
        sound = ["-an"] if kind == "street" else ["-ac", "1", "-af", "asetpts=N/SR/TB"]
        pictures = ["-vn"] if kind == "radio" else ["-c:v", "libx264", "-preset", "veryfast"]
        name = folder / f"{number:04d} {kind} {seconds:g}{KINDS[kind]}"
        codecs = [*sound, *pictures, "-metadata", f"comment={seed}-{number}"]
        command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *cut, *codecs, str(name)]
        subprocess.run(command, check=True)
    return folder


def _source(kind: str) -> tuple[Path, float]:
    if kind == "street":
        return test_media() / "video" / "one-by-one-person-detection.mp4", 139.0
    return bundled.SAMPLE_CLIP, 25.0


def calibrate(folder: Path, threads: Sequence[int]) -> tuple[list[Costs], float]:
    """Costs of one worker process by its threads, and the seconds that it takes to start one.

    Media are analysed one at a time, so that nothing waits for anything, and then all together, as a backfill does; so
    are tiny objects, in the first process only: what flows and server do for them has nothing to do with threads.
    """
    wanted = [(kind, seconds) for _ in range(COPIES) for kind in KINDS for seconds in LENGTHS_S]
    main = make_media(folder / "main", wanted, seed=1)
    asked = [
        Asked(name="main", folder=str(main), options=OPTIONS, in_flight=1),
        Asked(name="crowded", folder=str(main), options=OPTIONS),
    ]
    warm = warming(folder)
    tiny_ones = [_tiny(folder / name, count, batch) for name, (count, batch) in TINY.items()]
    found = [
        measure(
            Spec(workers=1, threads=count, warm=warm, asked=asked + (tiny_ones if count == threads[0] else [])), folder
        )
        for count in threads
    ]
    others = [answer for answer in found[0].answers if answer.name in TINY]
    costs = []
    for count, answers in zip(threads, found, strict=True):
        alone, together = answers.answers[:2]
        costs.append(costs_of(count, [alone, *others]).model_copy(update={"crowded": crowded(alone, together)}))
    return costs, max(answers.start_s for answers in found)


def _tiny(folder: Path, count: int, batch: int) -> Asked:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04d} tiny 0.mp4").write_bytes(tiny(number))
    sampling = (f"frames.fps={TINY_FPS}", f"frames.batch_size={batch}")
    return Asked(name=folder.name, folder=str(folder), options=[*OPTIONS, *sampling])


def warming(folder: Path) -> Asked:
    """A media of each kind."""
    media = make_media(folder / "warm", [(kind, 3.0) for kind in KINDS], seed=2)
    return Asked(name="warm", folder=str(media), options=OPTIONS)


def costs_of(threads: int, answers: Sequence[Answer]) -> Costs:
    """Costs from what was measured: lines per stage from `main`, overhead from all answers together."""
    main = next(answer for answer in answers if answer.name == "main")
    overhead = _overhead(main, answers)
    runs = Counter(task.name for task in main.tasks)
    requests = {TASKS[name]: main.requests.get(name, 0) / count for name, count in runs.items()}
    kinds: dict[str, Kind] = {}
    for kind in dict.fromkeys(sample.kind for sample in main.media):
        samples = [sample for sample in main.media if sample.kind == kind]
        kinds[kind] = fit_kind(samples, overhead, requests)
    return Costs(threads=threads, kinds=kinds, overhead=overhead)


def crowded(alone: Answer, together: Answer) -> dict[str, float]:
    """CPU time by sort of work of media in flight together, over that of the same media one at a time; at least 1."""
    before, after = _cpu_by_sort(alone), _cpu_by_sort(together)
    return {sort: max(1.0, after[sort] / seconds) for sort, seconds in before.items() if seconds}


def _cpu_by_sort(answer: Answer) -> dict[str, float]:
    spent = {"python": answer.cpu_s["flow"] + answer.cpu_s["server"]}
    for media in answer.media:
        for name, timing in media.timing.items():
            if name != "publish":
                spent[sort_of(name)] = spent.get(sort_of(name), 0.0) + timing.cpu_s
    return spent


def _overhead(main: Answer, answers: Sequence[Answer]) -> Overhead:
    rows = [[1.0, float(len(answer.media)), float(len(answer.tasks))] for answer in answers]
    flow = fit(rows, [answer.cpu_s["flow"] for answer in answers])
    server = fit(rows, [answer.cpu_s["server"] for answer in answers])
    elsewhere = (*NEAR, "publish")
    bodies = [timing for one in main.media for name, timing in one.timing.items() if name not in elsewhere]
    held_s = sum(task.stop - task.start for task in main.tasks)
    published_s = sum(sample.publish_s for sample in main.media)
    beside_s = held_s - published_s - sum(timing.wall_s for timing in bodies)
    others = len(main.tasks) - len(main.media)
    beside_cpu_s = main.cpu_s["workers"] - sum(timing.cpu_s for timing in bodies)
    waited_s = max(0.0, _gap_s(main) - flow[1] - flow[2])
    at_once = min(server[1], waited_s)
    return Overhead(
        backfill_flow_cpu_s=flow[0],
        backfill_server_cpu_s=server[0],
        flow_run_flow_cpu_s=flow[1],
        flow_run_server_cpu_s=at_once,
        flow_run_server_later_cpu_s=server[1] - at_once,
        flow_run_wait_s=waited_s - at_once,
        flow_run_requests=main.requests.get("", 0) / len(main.media),
        task_run_flow_cpu_s=flow[2],
        task_run_server_cpu_s=server[2],
        task_run_worker_s=max(0.0, beside_s / others),
        task_run_worker_share=min(1.0, beside_cpu_s / (beside_s + published_s)),
    )


def _gap_s(main: Answer) -> float:
    """Mean time between the end of a media's last task run and the next media's first, its fetch and probe left out."""
    gaps = [b.start - a.stop for a, b in itertools.pairwise(main.tasks) if a.name == "publish_result"]
    near_s = [sum(media.timing[name].wall_s for name in NEAR) for media in main.media[1:]]
    return sum(gap - near for gap, near in zip(gaps, near_s, strict=True)) / len(gaps)
