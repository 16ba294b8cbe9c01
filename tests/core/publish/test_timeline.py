import pytest

from tasks.core.publish.timeline import chart, count_boxes, density, spans, ticks, wave
from tasks.core.schema import Box, Detections, FrameDetections, Interval
from tests.core.publish.results import empty, result


def many(count: int) -> Detections:
    box = Box(xyxy=(0, 0, 1, 1), class_="car", confidence=0.5)
    frames = [FrameDetections(index=at, time=float(at), boxes=[box] * (at % 3)) for at in range(count)]
    return Detections(frames_sampled=count, sample_fps=1, classes={"car": count}, frames=frames)


@pytest.mark.parametrize("duration", [0.0, 0.4, 4.0, 18.48, 139.0, 3600.0, 6 * 3600.0, 7 * 86400.0])
def test_ticks_are_few_and_inside(duration: float) -> None:
    made = ticks(duration)
    assert 1 <= len(made) <= 9
    assert made[0].at == 0
    assert all(0 <= tick.at <= 96 for tick in made)
    assert len({tick.label for tick in made}) == len(made)


def test_spans_are_percent_and_never_invisible() -> None:
    first, second = spans([Interval(start=1, end=3), Interval(start=10, end=10)], 10)
    assert (first.x, first.width) == (10, 20)
    assert second.width > 0.1


def test_density_shows_a_class_only_where_it_is() -> None:
    counts = count_boxes(result().detections)
    bars = density(counts, "car", 4.0)
    assert [bar.x for bar in bars] == [0, 25, 75]
    assert [bar.weight for bar in bars] == [0.625, 0.625, 1.0]
    assert [bar.x for bar in density(counts, "person", 4.0)] == [25]
    assert density(count_boxes(empty().detections), "car", 0.0) == []


def test_chart_stacks_means_and_gathers_the_rest() -> None:
    made = chart(count_boxes(result().detections), ["car"], 4.0)
    (name, cars), (other, rest) = made.series
    assert (name, other, made.top) == ("car", "other", 2)
    assert [bar.height for bar in cars] == [50, 50, 100]
    assert [(bar.x, bar.y, bar.height) for bar in rest] == [(25, 0, 50)]
    assert [line.label for line in made.lines] == ["0", "1", "2"]


def test_many_frames_are_gathered_in_bins() -> None:
    counts = count_boxes(many(3000))
    made = chart(counts, ["car"], 3000.0, bins=100)
    [(_, bars)] = made.series
    assert len(bars) == 100
    assert all(bar.height == pytest.approx(100 / made.top, abs=4) for bar in bars)
    assert max(bar.x + bar.width for bar in density(counts, "car", 3000.0)) <= 100.01


def test_nothing_found_is_an_empty_chart() -> None:
    made = chart(count_boxes(empty().detections), [], 0.0)
    assert made.series == []
    assert made.top == 1


def test_wave_is_a_path_only_with_sound() -> None:
    assert wave([]) == ""
    assert wave([0.5, 1.0], count=2) == "M0.5 26.0V74.0M1.5 3.0V97.0"
