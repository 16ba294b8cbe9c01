"""People who come one by one before a real camera, counted by looking: one visit and one message each."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.alerts import run_once
from tasks.alerts import stored_alerts
from tasks.core.alerts.rules import read_rules
from tasks.core.ffmpeg import binary
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.models import weights, yolo
from tasks.core.options import AudioOptions, DetectionOptions, FrameOptions, LimitOptions
from tasks.core.probe import probe
from tasks.core.schema import FrameDetections, MediaInfo
from tasks.core.tracking.records import Visit
from tasks.store import Store, open_store
from tasks.visits import tracked_windows
from tests.tasks.recordings import analysed, window_path

START = 1_795_860_000.0
PEOPLE = [(6, 19), (23, 44), (50, 69), (75, 86), (92, 119), (124, 135)]
"""Of one-by-one-person-detection.mp4: whole seconds, counted by looking, at which each person is in the picture first
and last. A woman in a grey cardigan, a man in black, a woman in black, a man with a cap, a woman in a grey coat, a man
in a grey shirt; each comes from below, stands at the table and leaves to the right."""
EARLY_S = 1.5
"""The sure box of one who comes in, head first, is so much later."""
FPS = 5.0
STREET_FPS = 2.0


def detect(
    path: Path, model: yolo.YoloModel, options: DetectionOptions, fps: float = FPS
) -> tuple[MediaInfo, list[FrameDetections]]:
    """What probe and detector say of a window."""
    sampling = FrameOptions(fps=fps)
    info = probe(path, LimitOptions(), AudioOptions())
    frames = []
    for batch in plan_batches(info, sampling):
        found = sample_frames(path, info, batch, sampling, 1)
        boxes = yolo.detect(model, found.images, (found.width, found.height), options)
        frames += [
            FrameDetections(index=index, time=time, boxes=here)
            for index, time, here in zip(found.indexes, found.times, boxes, strict=True)
        ]
    return info, frames


def commit(
    store: Store, path: Path, media_id: str, info: MediaInfo, frames: list[FrameDetections], fps: float = FPS
) -> None:
    assert info.video is not None
    size = (info.video.width, info.video.height)
    analysed(store, path, media_id, frames, size=size, duration_s=info.duration_s, fps=fps)


@pytest.fixture(scope="module")
def options() -> DetectionOptions:
    return DetectionOptions(image_size=320)


@pytest.fixture(scope="module")
def model(models_dir: Path, options: DetectionOptions, tmp_path_factory: pytest.TempPathFactory) -> yolo.YoloModel:
    found = weights.resolve_yolo("auto", models_dir)
    if found.info.bundled:
        pytest.skip("REELFLOW_MODELS_DIR holds no YOLO weights")
    backend = yolo.choose_backend("auto", "cpu")
    return yolo.load(found.path, "cpu", "auto", backend, options.image_size, tmp_path_factory.mktemp("models"))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a local HTTP server, which HOOK names, was told."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_port}/")
    yield bodies
    server.shutdown()


def last_words(store: Store, camera: str) -> list[Visit]:
    last = {visit.visit: visit for window in tracked_windows(store, camera) for visit in window.visits}
    return sorted(last.values(), key=lambda visit: visit.start)


RULES = "targets: {hook: {webhook: 'env:HOOK'}}\nrules: [{name: r, class: CLASS, to: hook}]"


@pytest.mark.slow
def test_each_person_is_one_visit_and_one_message(
    tmp_path: Path, shared_media: Path, model: yolo.YoloModel, options: DetectionOptions, told: list[dict[str, Any]]
) -> None:
    """Windows of 3 s by stream copy, as they come: a round after each fifth, and three rounds at the end."""
    source, cut = shared_media / "video/one-by-one-person-detection.mp4", tmp_path / "cut"
    cut.mkdir()
    copy = ["-c", "copy", "-an", "-f", "segment", "-segment_time", "3", "-reset_timestamps", "1", "-y"]
    listing = ["-segment_list", cut / "list.csv", "-segment_list_type", "csv"]
    command = [binary(), "-v", "error", "-i", source, *copy, *listing, cut / "%03d.mp4"]
    subprocess.run(list(map(str, command)), check=True)
    store, rules = open_store(str(tmp_path / "store")), read_rules(RULES.replace("CLASS", "person"))
    rows = [line.split(",") for line in (cut / "list.csv").read_text().split()]
    for number, (name, begin, _) in enumerate(rows):
        path = window_path(tmp_path / "rec", "door", START + float(begin), number)
        (cut / name).rename(path)
        commit(store, path, f"{number:032x}", *detect(path, model, options))
        if number % 5 == 4:
            run_once(str(tmp_path / "rec"), store, rules, lambda _: None, lambda _: None)
    for _ in range(3):
        run_once(str(tmp_path / "rec"), store, rules, lambda _: None, lambda _: None)

    people = [visit for visit in last_words(store, "door") if visit.class_ == "person"]
    assert len(people) == len(PEOPLE) == 6
    for visit, (first, last) in zip(people, PEOPLE, strict=True):
        assert first - 1 <= visit.start - START <= first + EARLY_S
        assert last - 1 <= visit.end - START <= last + 1
        assert visit.path[0].x < visit.path[-1].x
    assert len(told) == 6
    assert {body["visit"] for body in told} == {visit.visit for visit in people}
    assert len({body["key"] for body in told}) == 6
    assert len(list(stored_alerts(store))) == 6


@pytest.mark.slow
def test_a_parked_car_is_one_visit_and_one_message(
    tmp_path: Path, shared_media: Path, model: yolo.YoloModel, options: DetectionOptions, told: list[dict[str, Any]]
) -> None:
    """The blue van in the lower left of bangkok_half_res.mp4 stands still; looped 12 times, that is 3 to 4 minutes.

    The camera moves a little, so that everything jumps where the loop closes."""
    source = shared_media / "video/bangkok_half_res.mp4"
    store = open_store(str(tmp_path / "store"))
    info, frames = detect(source, model, options.model_copy(update={"image_size": 640}), STREET_FPS)
    for number in range(12):
        path = window_path(tmp_path / "rec", "street", START + number * info.duration_s, number)
        path.write_text(str(number))
        commit(store, path, f"{number:032x}", info, frames, STREET_FPS)
    rules = read_rules(
        RULES.replace("CLASS", "car, dwell_s: 60, zone: [[0.26, 0.8], [0.45, 0.8], [0.45, 1], [0.26, 1]]")
    )
    for _ in range(2):
        run_once(str(tmp_path / "rec"), store, rules, lambda _: None, lambda _: None)
    stands = [visit for visit in last_words(store, "street") if visit.still_s > 60]
    assert [visit.class_ for visit in stands] == ["car"]
    assert len(told) == 1
    assert told[0]["visit"] == stands[0].visit
