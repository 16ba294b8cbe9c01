"""What counts as the wanted frames, and as an aim that is reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks._decoders import Decoded, Decoder, Image, Mode, Task, ffmpeg_process, opencv, pyav, reelflow
from benchmarks._ffmpeg_libraries import plain_names
from benchmarks._turns import Times, Took
from benchmarks.decode import Reference, check, reached, reference
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.probe import probe


def picture(value: int) -> Image:
    return np.full((4, 6, 3), value, np.uint8)


WANTED = Reference([0.0, 1.0], [picture(10), picture(50)], [[picture(11)], [picture(47), picture(53)]])


def test_the_wanted_frames_pass_with_or_without_times_and_in_either_order_of_colours() -> None:
    check("side", Decoded([picture(10), picture(51)], [0.0, 1.0004]), WANTED)
    check("side", Decoded([picture(10), picture(50)], None), WANTED)
    blue = Reference([0.0], [np.array([[[200, 100, 0]]], np.uint8)], [[]])
    check("side", Decoded([np.array([[[0, 100, 200]]], np.uint8)], None, rgb=True), blue)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (Decoded([picture(10)], [0.0]), "1 frames, not 2"),
        (Decoded([picture(10), picture(50)], [0.0, 1.04]), "0.040 s off"),
        (Decoded([picture(10), picture(90)], None), "differs by 40"),
        (Decoded([picture(11), picture(50)], None), "frame 0 is its neighbour"),
    ],
)
def test_other_frames_do_not(found: Decoded, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check("side", found, WANTED)


@pytest.mark.parametrize(
    ("decode", "mode"),
    [
        (reelflow, "uniform"),
        (pyav, "uniform"),
        (ffmpeg_process, "uniform"),
        (opencv, "uniform"),
        (reelflow, "keyframes"),
        (pyav, "keyframes"),
        (ffmpeg_process, "keyframes"),
    ],
)
def test_every_decoder_gives_the_reference(talk: Path, decode: Decoder, mode: Mode) -> None:
    task = Task(talk, probe(talk, LimitOptions(), AudioOptions()), mode, 2.0, 1)
    wanted = reference(task)
    assert len(wanted.times) == (8 if mode == "uniform" else 9)
    check("side", decode(task), wanted)


def test_aims_compare_with_the_fastest_other() -> None:
    seconds = {"uniform: reelflow": 1.1, "uniform: slow": 3.0, "uniform: fast": 1.0, "keyframes: reelflow": 0.1}
    found = reached({way: Times([Took(wall_s, wall_s)] * 3) for way, wall_s in seconds.items()})
    assert found["fastest other"] == "fast"
    assert found["ours / fastest other"] == pytest.approx(1.1)
    assert found["sampling / key frames"] == pytest.approx(11)


def test_libraries_get_the_names_that_programs_ask_for() -> None:
    files = ["libavutil-5809ad29.so.60.26.102", "libswscale-88e9f973.so.9.5.102", "libx264-d6533a8d.so.165", "README"]
    assert plain_names(files) == {files[0]: "libavutil.so.60", files[1]: "libswscale.so.9"}
