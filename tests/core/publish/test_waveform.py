import numpy as np
import pytest

from tasks.core.publish.waveform import clock, peaks, resample


def test_peaks_are_the_loudest_of_each_stretch_of_either_sign() -> None:
    sound = np.zeros(1000, np.float32)
    sound[150], sound[950] = -0.5, 0.25
    assert peaks(sound, 10) == [0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0.25]


def test_peaks_of_short_loud_and_broken_sound() -> None:
    assert peaks(np.zeros(0, np.float32)) == []
    assert peaks(np.array([0.1, -3.0], np.float32), 100) == [pytest.approx(0.1), 1.0]
    assert peaks(np.array([np.nan, 0.5], np.float32), 2) == [0.0, 0.5]


@pytest.mark.parametrize(
    ("levels", "count", "wanted"), [([1, 2, 3, 4], 2, [2, 4]), ([1, 2], 4, [1, 1, 2, 2]), ([], 2, [0, 0])]
)
def test_resample(levels: list[float], count: int, wanted: list[float]) -> None:
    assert resample(levels, count) == wanted


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.99, "0:59"), (61, "1:01"), (3723.4, "1:02:03"), (-1, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_clock_with_tenths_carries() -> None:
    assert clock(59.97, tenths=True) == "1:00.0"
    assert clock(3.26, tenths=True) == "0:03.3"
