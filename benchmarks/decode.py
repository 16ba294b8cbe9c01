"""Frames at 1 frame/s, and key frames alone: our sampler against PyAV, an ffmpeg process, torchcodec and OpenCV.

Every decoder reads the same file with the same number of threads and leaves the frame that is displayed at each whole
second (the last one stamped at or before it), or every key frame, in memory: 8-bit colour, at the video's own size.
The time runs from opening the file to the last picture. Ours is told what probe found about the file, as in the
pipeline, where that is a stage of its own; the others look for themselves. The code of the others is what their
documentation shows for this: PyAV and OpenCV go through all frames and convert the wanted ones, ffmpeg uses
`fps=...:round=up:start_time=0` (key frames: `-skip_frame nokey`) into a pipe, torchcodec is asked for the frames
played at these times, with and without its scan of the file (exact, approximate). OpenCV and torchcodec have no
public way to ask for key frames.

A full decode with PyAV is the reference. Each output must have as many frames, at the same times (within 1 ms, where
the decoder tells them), and each picture must be the reference's: at most 2 of 255 off on average, for colour
conversions differ, and nearer to its own than to the frames before and after.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks._decoders import (
    OURS,
    TIME_TOLERANCE_S,
    Decoded,
    Decoder,
    Image,
    Mode,
    Task,
    able,
    frame_time,
    installed,
)
from benchmarks._ffmpeg_libraries import ran_with_libraries
from benchmarks._results import Row, Table, parser, publish
from benchmarks._turns import Side, Times, alternate
from tasks.workers.threads import available_cores

NAME = "decode"
VIDEOS = (
    "people.mp4",
    "one-by-one-person-detection.mp4",
    "sintel.mp4",
    "bangkok_half_res.mp4",
    "psd_testvideo.mp4",
)
MEAN_DIFFERENCE = 2.0
"""Of 255: more than colour conversions differ by, less than the next frame does."""
TIE = 0.01
"""Of 255: a picture that is this much nearer to a neighbour of its frame is as near to both."""

MODES: tuple[Mode, ...] = ("uniform", "keyframes")


def main(argv: Sequence[str]) -> None:
    """Measures every decoder that is installed on every video, with each number of threads."""
    options = parser(NAME, __doc__)
    options.add_argument("--video", type=Path, nargs="+", help=f"default: {', '.join(VIDEOS)} of REELFLOW_TEST_MEDIA")
    options.add_argument("--fps", type=float, default=1.0, help="frames sampled per second of media")
    threads = sorted({1, available_cores()})
    options.add_argument("--threads", type=int, nargs="+", default=threads, help=f"default: {threads}")
    options.add_argument("--repeat", type=int, default=5, help="rounds that count; the median is shown")
    arguments = options.parse_args(argv)
    videos = arguments.video or _test_videos(options)
    if ran_with_libraries(NAME, argv):
        return
    decoders, note = installed(videos[0])
    rows: dict[str, list[Row]] = {"uniform": [], "keyframes": [], "aims": []}
    for path in videos:
        for name, found in measure(path, decoders, arguments).items():
            rows[name] += found
    aims = "Aims on 1080p: at most 1.2 in the first ratio (below 1: faster than every other), at least 5 in the second."
    tables = [
        Table(
            "1 frame a second" if arguments.fps == 1 else f"{arguments.fps:g} frames a second", rows["uniform"], note
        ),
        Table("Key frames alone", rows["keyframes"], note),
        Table("Ours against the fastest other", rows["aims"], aims),
    ]
    publish(arguments, NAME, __doc__, tables, packages=("torchcodec", "opencv-python-headless"))


def measure(path: Path, decoders: Mapping[str, Decoder], arguments: argparse.Namespace) -> dict[str, list[Row]]:
    """Rows of the three tables for one video: all decoders in both modes take turns."""
    from tasks.core.options import AudioOptions, LimitOptions
    from tasks.core.probe import probe

    info = probe(path, LimitOptions(), AudioOptions())
    video = info.video
    assert video is not None, f"{path.name} has no video"
    wanted = {mode: reference(Task(path, info, mode, arguments.fps, available_cores())) for mode in MODES}
    label = f"{path.name}, {video.width}x{video.height} {video.codec}, {video.duration_s:.0f} s"
    rows: dict[str, list[Row]] = {"uniform": [], "keyframes": [], "aims": []}
    for threads in arguments.threads:
        ways = {f"{mode}: {name}": (mode, name) for mode in MODES for name in decoders if able(name, mode)}
        sides = {
            way: Side(functools.partial(decoders[name], Task(path, info, mode, arguments.fps, threads)))
            for way, (mode, name) in ways.items()
        }
        times = alternate(sides, arguments.repeat, functools.partial(_check, wanted, ways))
        for way, took in times.items():
            mode, name = ways[way]
            ours = times[f"{mode}: {OURS}"]
            figures = {
                "frames": len(wanted[mode].times),
                "wall s": took.wall_s,
                "CPU s": took.cpu_s,
                "times real time": video.duration_s / took.wall_s,
                "wall / ours": took.wall_ratio(ours),
                "CPU / ours": took.cpu_ratio(ours),
            }
            rows[mode].append({"video": label, "threads": threads, "decoder": name, **figures})
        rows["aims"].append({"video": label, "threads": threads, **reached(times)})
    return rows


def reached(times: Mapping[str, Times]) -> Row:
    """Our sampling against the fastest other decoder, and against our key frames."""
    ours, keys = times[f"uniform: {OURS}"], times[f"keyframes: {OURS}"]
    others = {way.removeprefix("uniform: "): took for way, took in times.items() if way.startswith("uniform: ")}
    del others[OURS]
    fastest = min(others, key=lambda name: others[name].wall_s)
    return {
        "fastest other": fastest,
        "ours / fastest other": ours.wall_ratio(others[fastest]),
        "sampling / key frames": ours.wall_ratio(keys),
    }


class Reference:
    """A full decode: the wanted frames with those before and after them."""

    def __init__(self, times: list[float], images: list[Image], neighbours: list[list[Image]]) -> None:
        self.times, self.images, self.neighbours = times, images, neighbours


def reference(task: Task) -> Reference:
    """Every frame decoded in turn; three at a time are looked at."""
    import av

    wanted = Reference([], [], [])
    samples = iter(task.times)
    due = next(samples, None)
    with av.open(str(task.path)) as container:
        frames = container.decode(container.streams.video[0])
        before, shown = None, next(frames, None)
        while shown is not None:
            after = next(frames, None)
            chosen = shown.key_frame
            if task.mode == "uniform":
                chosen = due is not None and (after is None or frame_time(task, after) > due)
                while due is not None and (after is None or frame_time(task, after) > due):
                    due = next(samples, None)
            if chosen:
                wanted.times.append(frame_time(task, shown))
                wanted.images.append(shown.to_ndarray(format="bgr24"))
                wanted.neighbours.append([f.to_ndarray(format="bgr24") for f in (before, after) if f is not None])
            before, shown = shown, after
    return wanted


def _check(wanted: Mapping[Mode, Reference], ways: Mapping[str, tuple[Mode, str]], way: str, found: Decoded) -> None:
    check(way, found, wanted[ways[way][0]])


def check(name: str, found: Decoded, wanted: Reference) -> None:
    """Raises AssertionError unless these are the wanted frames."""
    assert len(found.images) == len(wanted.images), f"{name}: {len(found.images)} frames, not {len(wanted.images)}"
    if found.times is not None:
        off = max(abs(a - b) for a, b in zip(found.times, wanted.times, strict=True))
        assert off <= TIME_TOLERANCE_S, f"{name}: a frame is {off:.3f} s off"
    for number, image in enumerate(found.images):
        own = difference(image, wanted.images[number], found.rgb)
        assert own <= MEAN_DIFFERENCE, f"{name}: frame {number} differs by {own:.2f} of 255"
        for neighbour in wanted.neighbours[number]:
            assert own <= difference(image, neighbour, found.rgb) + TIE, f"{name}: frame {number} is its neighbour"


def difference(image: Image, wanted: Image, rgb: bool) -> float:
    """Mean absolute difference of two pictures of one size, of 255."""
    import cv2

    assert image.shape == wanted.shape, f"{image.shape}, not {wanted.shape}"
    return float(np.mean(cv2.absdiff(np.ascontiguousarray(image[..., ::-1]) if rgb else image, wanted)))


def _test_videos(options: argparse.ArgumentParser) -> list[Path]:
    folder = os.environ.get("REELFLOW_TEST_MEDIA")
    if not folder:
        options.error("no test media: set REELFLOW_TEST_MEDIA or give --video FILE")
    return [Path(folder) / "video" / name for name in VIDEOS]
