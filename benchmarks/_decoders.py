"""Ways to get frames out of a video, one function each: ours, and what each library's documentation shows for this."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks._ffmpeg_libraries import LENT
from tasks.core.schema import MediaInfo

OURS = "reelflow"
TIME_TOLERANCE_S = 0.001
"""Containers round timestamps to their time base."""

Image = np.ndarray
Mode = Literal["uniform", "keyframes"]


@dataclass(frozen=True)
class Task:
    """What to decode."""

    path: Path
    info: MediaInfo
    mode: Mode
    fps: float
    threads: int

    @property
    def times(self) -> list[float]:
        """Sample times, seconds of media, for the uniform mode."""
        assert self.info.video is not None
        count = int(np.ceil((self.info.video.start + self.info.video.duration_s) * self.fps - 1e-6))
        return [k / self.fps for k in range(count)]


@dataclass(frozen=True)
class Decoded:
    """Pictures (height, width, 3) in order of time."""

    images: Sequence[Image]
    times: Sequence[float] | None
    """Seconds from the start of the media; None where the decoder does not tell."""
    rgb: bool = False
    """Else BGR."""


Decoder = Callable[[Task], Decoded]


def installed(video: Path) -> tuple[dict[str, Decoder], str]:
    """The decoders by name, and a note on torchcodec, which is tried on this video."""
    decoders: dict[str, Decoder] = {OURS: reelflow, "PyAV": pyav, "ffmpeg process": ffmpeg_process, "OpenCV": opencv}
    if importlib.util.find_spec("torchcodec") is None:
        return decoders, "torchcodec is not installed and left out."
    import av  # noqa: F401 - its libraries, where they are lent, need those that it loads

    try:
        _torchcodec().VideoDecoder(str(video))
    except RuntimeError:
        return decoders, "torchcodec is left out: it finds no FFmpeg libraries here."
    exact, approximate = (functools.partial(torchcodec, seek_mode=mode) for mode in ("exact", "approximate"))
    note = "torchcodec runs on the FFmpeg libraries of PyAV's wheel." if os.environ.get(LENT) else ""
    return decoders | {"torchcodec exact": exact, "torchcodec approximate": approximate}, note


def able(name: str, mode: Mode) -> bool:
    """Has the decoder a public way to do this?"""
    return mode == "uniform" or name in (OURS, "PyAV", "ffmpeg process")


def reelflow(task: Task) -> Decoded:
    from tasks.core.frame_plan import plan_batches
    from tasks.core.frames import sample_frames
    from tasks.core.options import FrameOptions

    options = FrameOptions(mode=task.mode, fps=task.fps, max_side=8192)
    batches = plan_batches(task.info, options)
    parts = [sample_frames(task.path, task.info, batch, options, task.threads) for batch in batches]
    return Decoded([image for part in parts for image in part.images], [time for part in parts for time in part.times])


def pyav(task: Task) -> Decoded:
    import av

    images: list[Image] = []
    times: list[float] = []
    with av.open(str(task.path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", task.threads
        if task.mode == "keyframes":
            stream.codec_context.skip_frame = "NONKEY"
            for frame in container.decode(stream):
                times.append(frame_time(task, frame))
                images.append(frame.to_ndarray(format="bgr24"))
            return Decoded(images, times)
        shown, samples = None, task.times
        for frame in container.decode(stream):
            if shown is not None and len(images) < len(samples) and frame_time(task, frame) > samples[len(images)]:
                times.append(frame_time(task, shown))
                images.append(shown.to_ndarray(format="bgr24"))
            shown = frame
        if shown is not None and len(images) < len(samples):
            times.append(frame_time(task, shown))
            images.append(shown.to_ndarray(format="bgr24"))
    return Decoded(images, times)


def ffmpeg_process(task: Task) -> Decoded:
    from tasks.core import ffmpeg

    video = task.info.video
    assert video is not None
    command = [ffmpeg.binary(), "-nostdin", "-v", "error", "-threads", str(task.threads)]
    if task.mode == "keyframes":
        command += ["-skip_frame", "nokey", "-i", str(task.path), "-fps_mode", "passthrough"]
    else:
        rate = f"fps={task.fps}:round=up:start_time=0"
        command += ["-i", str(task.path), "-vf", rate, "-frames:v", str(len(task.times))]
    command += ["-map", "0:v:0", "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return Decoded(list(np.frombuffer(data, np.uint8).reshape(-1, video.height, video.width, 3)), None)


def opencv(task: Task) -> Decoded:
    import cv2

    video = task.info.video
    assert video is not None
    images: list[Image] = []
    times: list[float] = []
    capture = cv2.VideoCapture(str(task.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, task.threads])
    frame_s, samples = 1 / capture.get(cv2.CAP_PROP_FPS), task.times
    while len(images) < len(samples) and capture.grab():
        time = video.start + capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # OpenCV counts from the stream's own start
        if time + frame_s > samples[len(images)] + TIME_TOLERANCE_S:
            times.append(time)
            images.append(capture.retrieve()[1])
    capture.release()
    return Decoded(images, times)


def torchcodec(task: Task, seek_mode: Literal["exact", "approximate"]) -> Decoded:
    decoder = _torchcodec().VideoDecoder(
        str(task.path), dimension_order="NHWC", num_ffmpeg_threads=task.threads, seek_mode=seek_mode
    )
    first, offset = decoder.metadata.begin_stream_seconds, task.info.start_offset_s
    found = decoder.get_frames_played_at(seconds=[max(first, time + offset) for time in task.times])
    return Decoded(list(found.data.numpy()), (found.pts_seconds - offset).tolist(), rgb=True)


def frame_time(task: Task, frame: Any) -> float:
    return float(frame.time) - task.info.start_offset_s


def _torchcodec() -> Any:
    return importlib.import_module("torchcodec.decoders")
