"""One object, one visit: over window edges, gaps, misses, flicker, doubles and hours of standing still."""

from __future__ import annotations

import pytest

from tasks.core.tracking.records import window_name
from tests.core.tracking.scenes import START, Where, parked, track, visits, walker, windows


@pytest.mark.parametrize("length", [1.0, 3.0, 12.0])
@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0])
def test_walkers_are_counted_whatever_the_windows_and_the_rate(length: float, fps: float) -> None:
    ways = [walker(1, 9), walker(14, 22), walker(27, 35)]
    found = visits(track(windows({"person": ways}, until=48, fps=fps, length=length)))
    assert [visit.class_ for visit in found] == ["person"] * 3
    for visit, begin in zip(found, (1, 14, 27), strict=True):
        assert visit.start - START == pytest.approx(begin, abs=1 / fps)
        assert visit.dwell_s == pytest.approx(8, abs=2 / fps)
        assert visit.ended
    assert found[0].path[0].x < 0.1 < 0.7 < found[0].path[-1].x
    assert all(point.y == pytest.approx(300 / 360, abs=1e-4) for point in found[0].path)


def test_the_same_windows_give_the_same_records_however_they_are_cut_into_runs() -> None:
    made = windows({"person": [walker(1, 9), walker(5, 13, y=20)], "car": [parked()]}, until=21)
    whole = track(made)
    resumed = track(made[:3])
    resumed += track(made[3:], resumed[-1].state)
    assert [one.model_dump_json() for one in whole] == [other.model_dump_json() for other in resumed]


def test_people_who_pass_each_other_keep_their_ids() -> None:
    def left(t: float) -> tuple[float, float, float, float] | None:
        return (600 - 60 * t, 130.0, 660 - 60 * t, 310.0) if t < 10 else None

    found = visits(track(windows({"person": [walker(0, 10), left]}, until=15)))
    assert len(found) == 2
    assert sorted(round(visit.path[-1].x - visit.path[0].x, 1) for visit in found) == [-0.9, 0.9]


def test_a_flicker_is_no_visit() -> None:
    found = track(windows({"person": [walker(4, 4.3)]}, until=12))
    assert visits(found) == []
    assert not any(window.seen for window in found)


def test_unsure_boxes_continue_an_object_but_begin_none() -> None:
    assert visits(track(windows({"person": [walker(1, 9)]}, until=12, confidence=0.3))) == []


def test_a_detector_that_misses_two_seconds_splits_no_visit() -> None:
    made = windows({"person": [walker(1, 11, speed=20)]}, until=15, missed=lambda name, t: 5 <= t < 7)
    assert len(visits(track(made))) == 1


def test_a_reconnect_splits_no_visit_of_one_who_stands() -> None:
    made = windows({"person": [walker(1, 60, speed=0, x=300)]}, until=63, absent=(12, 45))
    [visit] = visits(track(made))
    assert visit.dwell_s == pytest.approx(59, abs=0.5)


def test_a_short_reconnect_splits_no_visit_of_one_who_walks() -> None:
    made = windows({"person": [walker(1, 15, speed=40)]}, until=21, absent=(6, 9))
    assert len(visits(track(made))) == 1


def test_windows_in_which_nothing_is_found_end_a_visit_once() -> None:
    found = track(windows({"person": [walker(1, 5)]}, until=60))
    assert [visit.ended for window in found for visit in window.visits] == [False, False, True]


def test_a_parked_car_is_one_visit_all_night() -> None:
    """Six hours at a frame a second; lorries hide it, at night it is missed for minutes, the stream breaks off."""

    def missed(name: str, t: float) -> bool:
        return name == "car" and (t % 900 < 25 or 7200 <= t < 7500 or t % 7 == 3)

    found = track(windows({"car": [parked()]}, until=6 * 3600, fps=1, length=30, missed=missed, absent=(10000, 11000)))
    [visit] = visits(found)
    assert visit.dwell_s > 6 * 3600 - 60
    assert not visit.ended
    assert max(len(window.state.model_dump_json()) for window in found) < 5000


def test_what_drives_past_a_parked_car_is_another_visit() -> None:
    def passing(t: float) -> tuple[float, float, float, float] | None:
        return (40 * (t - 20), 190.0, 40 * (t - 20) + 110, 255.0) if 20 <= t < 36 else None

    found = visits(track(windows({"car": [parked(), passing]}, until=60)))
    assert len(found) == 2
    assert [round(visit.dwell_s) for visit in found] == [60, 16]


def test_one_who_vanishes_as_another_appears_pushes_none_off_its_box() -> None:
    """Four places in a row: the first empties as the last is taken. Shifting everyone by one would match more boxes."""

    def place(x: float, begin: float, end: float) -> Where:
        return lambda t: (x, 200, x + 120, 270) if begin <= t < end else None

    row = [place(100, 0, 6), place(180, 0, 30), place(260, 0, 30), place(340, 6, 30)]
    found = visits(track(windows({"car": row}, until=30)))
    assert sorted((round(visit.path[0].x * 640), round(visit.dwell_s)) for visit in found) == [
        (160, 6),
        (240, 30),
        (320, 30),
        (400, 24),
    ]
    assert all(visit.path[0].x == visit.path[-1].x for visit in found)


def test_the_next_one_who_stands_where_the_last_stood_is_another() -> None:
    def stands(begin: float) -> list[Where]:
        def way(t: float) -> tuple[float, float, float, float] | None:
            at = t - begin
            x = 90 * at if at < 3 else 270 if at < 15 else 270 + 90 * (at - 15)
            return (x, 120.0, x + 60, 300.0) if 0 <= at < 18.5 else None

        return [way]

    found = visits(track(windows({"person": stands(1) + stands(23)}, until=51)))
    assert len(found) == 2


def test_two_opinions_on_one_box_are_one_object_and_the_vote_decides() -> None:
    made = windows(
        {"car": [parked()], "truck": [parked(x=401)]}, until=12, missed=lambda name, t: name == "car" and t < 2
    )
    [visit] = visits(track(made))
    assert visit.class_ == "car"


def test_windows_that_overlap_count_no_frame_twice() -> None:
    made = windows({"person": [walker(1, 9)]}, until=12)
    late = [made[0], made[1].model_copy(update={"start": made[1].start - 0.3}), *made[2:]]
    tracked = track(late)
    times = [sight.time for window in tracked for seen in window.seen for sight in seen.sights]
    assert times == sorted(set(times))


def test_another_camera_is_refused() -> None:
    made = windows({}, until=6)
    state = track(made[:1])[0].state.model_copy(update={"camera": "yard"})
    with pytest.raises(ValueError, match="yard"):
        track(made[1:], state)


def test_names_of_windows() -> None:
    name = window_name("s3://b/rec/camera=back%20door/2026/11/21/20261121T140500.250Z-00000042.mp4")
    assert name is not None
    assert (name.camera, name.sequence) == ("back door", 42)
    assert name.start == pytest.approx(1795269900.25)
    later = window_name("camera=back%20door/2026/11/21/20261121T140500.250Z-00000043.mp4")
    assert later is not None
    assert later.label > name.label
    for other in ("camera=a/x.mp4", "20261121T140500Z-1.mp4", "camera=a/20269921T140500Z-1.mp4"):
        assert window_name(other) is None
