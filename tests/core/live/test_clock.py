"""When windows began: against known truth, with jitter, drift, bursts and clocks that are set."""

from __future__ import annotations

import itertools
import random

import pytest

from tasks.core.live.clock import MOST_PPM, FileClock, RunClock, Timing

WALL, MONO = 1_700_000_000.0, 5_000.0


def run(
    seconds: float,
    *,
    window: float = 3.0,
    fps: float = 25.0,
    ppm: float = 0.0,
    delay: object = None,
    media: float = 7.0,
) -> list[tuple[float, Timing]]:
    """Windows of a camera whose media clock gains `ppm`, each with its true start; frame i arrives `delay(i)` late."""
    clock = RunClock(WALL, MONO)
    timings, first, began = [], media, 0.0
    for index in range(round(seconds * fps)):
        time = index / fps
        at = media + time * (1 + ppm * 1e-6)
        if at - first >= window:
            timings.append((began, clock.close(first, at, 1 / fps)))
            first, began = at, time
        clock.arrived(at, MONO + time + (delay(index) if callable(delay) else 0.0))
    return timings


def test_the_least_delayed_frame_tells_the_start() -> None:
    noise = random.Random(1)
    timings = run(30, delay=lambda index: 0.02 + noise.random() * 0.4)
    assert timings[0][1].source == "wall-min"
    assert max(abs(timing.start - WALL - truth) for truth, timing in timings) < 0.03


def test_windows_of_a_run_join_exactly() -> None:
    noise = random.Random(2)
    for (_, before), (_, after) in itertools.pairwise(run(60, delay=lambda index: noise.random())):
        assert after.start == before.end
        assert abs(before.wall_s - 3.0) <= 3.0 * MOST_PPM * 1e-6 + 1e-9


@pytest.mark.parametrize("ppm", [-400.0, 400.0])
def test_a_camera_whose_clock_drifts_is_followed(ppm: float) -> None:
    """Four hours: without correction it would be 5.8 s off."""
    timings = run(4 * 3600, fps=2, ppm=ppm, window=10.0)
    assert max(abs(timing.start - WALL - truth) for truth, timing in timings) < 0.05


def test_a_burst_at_the_start_is_dated_back() -> None:
    """A server that sends its last 4 s at once: those frames were captured before."""
    clock = RunClock(WALL, MONO)
    for index in range(200):
        time = index / 25
        clock.arrived(time, MONO + max(0.0, time - 4.0))
    assert clock.close(0.0, 8.0, 0.04).start == pytest.approx(WALL - 4.0, abs=1e-6)


def test_a_wall_clock_that_is_set_is_a_step_and_a_small_change_is_followed() -> None:
    clock = RunClock(WALL, MONO)
    assert clock.stepped(WALL + 10.3, MONO + 10) == 0.0
    clock.arrived(0.0, MONO + 10)
    assert clock.close(0.0, 3.0, 0.04).start == pytest.approx(WALL + 10.3)
    assert clock.stepped(WALL + 3620.3, MONO + 20) == pytest.approx(3600.0)
    assert clock.stepped(WALL + 20.3 - 3600, MONO + 20) == pytest.approx(-3600.0)


def test_a_sender_that_can_be_right_is_believed_and_another_is_reported() -> None:
    for off, believed in ((-0.3, True), (0.01, True), (0.2, True), (0.3, False), (-1.5, False), (-86_400.0, False)):
        clock = RunClock(WALL, MONO)
        clock.arrived(100.0, MONO)
        clock.captured(100.0, WALL + off)
        timing = clock.close(100.0, 103.0, 0.04)
        assert timing.source == ("rtcp-sr" if believed else "wall-min")
        assert timing.start == pytest.approx(WALL + (off if believed else 0.0))
        assert timing.sender_off_s == (None if believed else pytest.approx(off))


def test_a_window_whose_frames_were_all_seen_before_the_last_one_ended_is_as_sure() -> None:
    clock = RunClock(WALL, MONO)
    for media in (0.0, 3.0):
        clock.arrived(media, MONO + media)
        clock.captured(media, WALL + media)
    first, second = clock.close(0.0, 3.0, 0.04), clock.close(3.0, 6.0, 0.04)
    assert (second.start, second.source, second.uncertainty_s) == (first.end, "rtcp-sr", first.uncertainty_s)


def test_a_second_run_never_begins_before_the_first_ended() -> None:
    clock = RunClock(WALL, MONO, not_before=WALL + 0.5)
    clock.arrived(0.0, MONO)
    timing = clock.close(0.0, 3.0, 0.04)
    assert timing.start == WALL + 0.5
    assert timing.residual_s == pytest.approx(-0.5)


def test_a_file_is_dated_by_its_own_time() -> None:
    clock = FileClock(WALL, 0.5)
    clock.arrived(10.0, 0.0)
    first, second = clock.close(10.0, 13.2, 0.04), clock.close(13.2, 16.2, 0.04)
    assert (first.start, first.end, second.start, second.source) == (WALL, WALL + 3.2, WALL + 3.2, "file")
    assert first.uncertainty_s == 0.5
