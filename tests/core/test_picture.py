"""Stored pictures become displayed ones in one way: as ffmpeg shows them, and the same in frames and in clips."""

from __future__ import annotations

import functools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tasks.core.audio import extract_audio
from tasks.core.clips import cut_clips
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.options import AudioOptions, ClipOptions, DetectionOptions, FrameOptions, LimitOptions
from tasks.core.picture import displayed_size, fit, orientation, plausible_aspect
from tasks.core.probe import probe
from tasks.core.schema import Interval, MediaInfo
from tests import media

Image = np.ndarray
HDR = {
    "pq": "p=bt2020:t=smpte2084:m=bt2020nc:r=tv:npl=203",
    "hlg": "p=bt2020:t=arib-std-b67:m=bt2020nc:r=tv:npl=203",
    "wide": "p=bt2020:t=bt2020-10:m=bt2020nc:r=tv",
}
TRANSFERS = {"pq": "smpte2084", "hlg": "arib-std-b67", "wide": "bt2020-10"}


@functools.cache
def describe(path: Path) -> MediaInfo:
    return probe(path, LimitOptions(), AudioOptions())


def sampled(path: Path, fps: float = 2.0, *, shots: bool = False) -> dict[float, Image]:
    info, options = describe(path), FrameOptions(fps=fps)
    found: dict[float, Image] = {}
    for batch in plan_batches(info, options, shots=shots):
        frames = sample_frames(path, info, batch, options, 1)
        assert info.video is not None
        assert (frames.width, frames.height) == (info.video.width, info.video.height)
        found |= dict(zip(frames.times, frames.images, strict=True))
    return found


def clip_frames(path: Path, out: Path, end: float) -> dict[float, Image]:
    """A clip of the first seconds, at full size, its frames by time."""
    options = ClipOptions(height=1080, crf=10)
    track = out.with_name("track.flac")
    extract_audio(path, describe(path), track)
    [clip] = cut_clips(path, describe(path), track, [Interval(start=0, end=end)], out, options, 1)
    with av.open(str(clip)) as container:
        return {float(frame.time or 0): frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)}


def difference(one: Image, other: Image) -> float:
    """Mean absolute difference, 0 to 255, of pictures whose sizes are within two pixels of each other."""
    assert np.abs(np.subtract(one.shape, other.shape)).max() <= 2, (one.shape, other.shape)
    return float(cv2.absdiff(one, cv2.resize(other, one.shape[1::-1])).mean())


def assert_clip_agrees(path: Path, out: Path, end: float, most: float = 7.0) -> None:
    """`most` is what halved colour resolution and compression cost at the hard edges of a test picture."""
    shown = clip_frames(path, out, end)
    for time, image in sampled(path).items():
        if time < end - 0.1:
            nearest = min(shown, key=lambda other: abs(other - time))
            assert difference(image, shown[nearest]) < most, f"{path.name} at {time}"


def ffmpeg_shows(path: Path, folder: Path, *filters: str) -> Image:
    out = folder / f"{path.name}.png"
    media.ffmpeg("-i", path, "-vf", ",".join([*filters, "format=rgb24"]), "-frames:v", "1", out)
    image = cv2.imread(str(out))
    assert image is not None
    return np.asarray(image)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s of a test picture (128x72, 10 fps) with sound, SDR."""
    path = tmp_path_factory.mktemp("scene") / "scene.mp4"
    media.ffmpeg("-f", "lavfi", "-i", "testsrc2=s=128x72:r=10:d=2", "-f", "lavfi", "-i", "sine=d=2", "-c:v", "libx264",
                 "-threads", "1", "-crf", "8", "-pix_fmt", "yuv420p", "-c:a", "aac", path)  # fmt: skip
    return path


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_turned_and_mirrored_as_ffmpeg_shows_it(scene: Path, tmp_path: Path, rotation: int, mirrored: bool) -> None:
    path = tmp_path / "turned.mp4"
    flip = ["-display_hflip"] if mirrored else []
    media.ffmpeg("-display_rotation", str(-rotation), *flip, "-i", scene, "-c", "copy", path)
    video = describe(path).video
    assert video is not None
    assert video.mirrored is mirrored
    assert (video.width, video.height) == ((72, 128) if rotation % 180 else (128, 72))
    wanted = ffmpeg_shows(path, tmp_path)
    assert np.array_equal(sampled(path)[0.0], wanted)
    if mirrored:
        assert_clip_agrees(path, tmp_path / "clips", 1.0)


def test_orientation_of_every_matrix() -> None:
    one = 1 << 16
    turns = {0: (one, 0, 0, one), 90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}
    for degrees, (a, b, c, d) in turns.items():
        assert orientation((a, b, 0, c, d, 0, 0, 0, 1 << 30)) == (degrees, False)
        assert orientation((-a, -b, 0, c, d, 0, 0, 0, 1 << 30)) == (degrees, True)
    assert orientation(None) == (0, False)
    assert orientation((0,) * 9) == (0, False)


@pytest.mark.parametrize(
    ("stored", "aspect", "rotation", "displayed"),
    [
        ((320, 424), Fraction(2), 0, (640, 424)),
        ((320, 424), Fraction(2), 90, (424, 640)),
        ((720, 576), Fraction(64, 45), 0, (1024, 576)),
        ((720, 480), Fraction(8, 9), 0, (720, 540)),
        ((100, 50), Fraction(1, 2), 0, (100, 100)),
        ((100, 50), Fraction(1), 270, (50, 100)),
    ],
)
def test_pixels_become_square_by_stretching_one_side(
    stored: tuple[int, int], aspect: Fraction, rotation: int, displayed: tuple[int, int]
) -> None:
    assert displayed_size(stored, aspect, rotation) == displayed


@pytest.mark.parametrize("claimed", [None, Fraction(0), Fraction(-2), Fraction(1, 65_535), Fraction(8)])
def test_pixels_of_no_possible_shape_are_square(claimed: Fraction | None) -> None:
    assert plausible_aspect(claimed) == 1


def test_fitting_keeps_the_shape() -> None:
    assert fit((240, 180), (320, 180)) == (240, 180)
    assert fit((640, 100), (320, 180)) == (320, 50)
    assert fit((4000, 1), (10, 10)) == (10, 1)


@pytest.mark.parametrize("aspect", ["2/1", "1/2"])
def test_wide_and_high_pixels(scene: Path, tmp_path: Path, aspect: str) -> None:
    path = tmp_path / "anamorphic.mp4"
    media.ffmpeg("-i", scene, "-vf", f"setsar={aspect}", "-c:v", "libx264", "-threads", "1", "-c:a", "copy", path)
    wide = aspect == "2/1"
    filters = "scale=2*iw:ih:flags=area" if wide else "scale=iw:2*ih:flags=area"
    image = sampled(path)[0.0]
    assert image.shape == ((72, 256, 3) if wide else (144, 128, 3))
    assert difference(image, ffmpeg_shows(path, tmp_path, filters)) < 7  # chroma is interpolated differently
    assert_clip_agrees(path, tmp_path / "clips", 1.0)


@pytest.mark.parametrize("coding", HDR)
def test_hdr_and_wide_colour_look_like_the_sdr_original(tmp_path: Path, coding: str) -> None:
    colors = [
        (200, 60, 60),
        (60, 160, 70),
        (70, 80, 190),
        (211, 226, 236),
        (128, 128, 128),
        (40, 30, 25),
        (240, 240, 240),
    ]
    still, path = tmp_path / "still.png", tmp_path / f"{coding}.mp4"
    cv2.imwrite(str(still), np.repeat(np.repeat(np.array([colors], np.uint8)[..., ::-1], 72, 0), 16, 1))
    sdr = "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p16le"
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    named = f"log-level=none:pools=1:colorprim=bt2020:transfer={TRANSFERS[coding]}:colormatrix=bt2020nc"
    media.ffmpeg("-loop", "1", "-t", "1", "-r", "5", "-i", still, "-f", "lavfi", "-i", "sine=d=1",
                 "-vf", f"{sdr},{tags},zscale={HDR[coding]},format=yuv420p10le",
                 "-c:v", "libx265", "-crf", "4", "-x265-params", named, "-c:a", "aac", path)  # fmt: skip
    video = describe(path).video
    assert video is not None
    assert (video.transfer, video.primaries) == ("sdr" if coding == "wide" else coding, "bt2020")
    shown = sampled(path)[0.0][36, 8::16, ::-1].astype(int)
    # zscale reads HLG by channel, BT.2100 by luminance: greys are the same, saturated colours are not
    assert np.abs(shown - colors).max() <= (25 if coding == "hlg" else 4)
    assert np.abs(shown[3:5] - colors[3:5]).max() <= 4
    assert_clip_agrees(path, tmp_path / "clips", 1.0)


def test_pictures_that_change_their_size_are_fitted_into_the_first(tmp_path: Path) -> None:
    parts = []
    for number, size in enumerate(("128x72", "96x72", "128x32")):
        parts.append(tmp_path / f"{number}.ts")
        media.ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=10:d=2", "-f", "lavfi", "-i", "sine=d=2",
                     "-c:v", "libx264", "-threads", "1", "-g", "10", "-crf", "10", "-c:a", "aac",
                     "-output_ts_offset", str(2 * number), "-f", "mpegts", parts[-1])  # fmt: skip
    path = tmp_path / "sizes.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    pictures = sampled(path)
    assert {image.shape for image in pictures.values()} == {(72, 128, 3)}
    lit = {
        time: [bool(image[:, at].any()) for at in (2, 64, 125)] + [bool(image[2].any())]
        for time, image in pictures.items()
    }
    assert all(lit[time] == [True, True, True, True] for time in lit if time < 1.9)
    assert all(lit[time] == [False, True, False, True] for time in lit if 2.2 < time < 3.9), "pillars beside 4:3"
    assert all(lit[time] == [True, True, True, False] for time in lit if time > 4.2), "bars above what is wider"
    assert len(lit) >= 11
    with_shots = sampled(path, shots=True)
    assert all(np.array_equal(pictures[time], with_shots[time]) for time in pictures)
    assert_clip_agrees(path, tmp_path / "clips", 5.5)


CASES: dict[str, tuple[tuple[int, int], tuple[int, bool]]] = {
    "hflip_talk.mp4": ((640, 424), (0, True)),
    "vflip_talk.mp4": ((640, 424), (180, True)),
    "sample_rotate_and_reflect.mp4": ((720, 1080), (270, True)),
    "sar2.mp4": ((640, 424), (0, False)),
    "thumb_first.mkv": ((192, 108), (0, False)),
}


@pytest.mark.parametrize("name", CASES)
def test_cases_are_as_players_show_them(shared_cases: Path, tmp_path: Path, name: str) -> None:
    path, (size, turned) = shared_cases / name, CASES[name]
    video = describe(path).video
    assert video is not None
    assert ((video.width, video.height), (video.rotation, video.mirrored)) == (size, turned)
    filters = "scale=2*iw:ih:flags=area" if name == "sar2.mp4" else "null"
    out = tmp_path / "shown.png"
    media.ffmpeg("-i", path, "-map", f"0:{video.index}", "-vf", f"{filters},format=rgb24", "-frames:v", "1", out)
    pictures = sampled(path, 5.0)
    assert difference(pictures[min(pictures)], np.asarray(cv2.imread(str(out)))) < 1.5
    if describe(path).audio:
        assert_clip_agrees(path, tmp_path / "clips", 1.0, most=2.0)


def test_the_video_is_the_stream_that_lasts(shared_cases: Path) -> None:
    path = shared_cases / "thumb_first.mkv"
    video = describe(path).video
    assert video is not None
    assert (video.index, video.ordinal, video.codec) == (1, 1, "h264")
    assert video.duration_s == pytest.approx(4.0, abs=0.05)
    assert len(sampled(path, 25.0)) == 100


def test_hdr_case_has_the_sky_of_the_sdr_original(shared_cases: Path) -> None:
    for image in sampled(shared_cases / "hdr_pq203.mp4").values():
        red, green, blue = image[4:14, 596:636].mean(axis=(0, 1))[::-1]
        assert (red, green, blue) == pytest.approx((211, 226, 236), abs=8)


@pytest.mark.parametrize(
    ("name", "giraffe", "least"),
    [("hflip_talk.mp4", None, 0.85), ("sar2.mp4", (384, 64, 600, 356), 0.7), ("hdr_pq203.mp4", None, 0.7)],
)
def test_boxes_are_those_of_the_displayed_picture(
    shared_cases: Path, models_dir: Path, name: str, giraffe: tuple[int, ...] | None, least: float
) -> None:
    from tasks.core.models import weights, yolo

    options = DetectionOptions(weights="yolo11n-int8dequant.pt")
    file = weights.resolve_yolo(options.weights, models_dir)
    model = yolo.load(file.path, "cpu", options.precision, "torch", options.image_size, None)
    path = shared_cases / name
    video = describe(path).video
    assert video is not None
    images = list(sampled(path, 1.0).values())
    found = yolo.detect(model, images, (video.width, video.height), options)
    assert len(found) == len(images)
    for boxes in found:
        best = max((box for box in boxes if box.class_ == "giraffe"), key=lambda box: box.confidence)
        assert best.confidence > least
        if giraffe:
            assert best.xyxy == pytest.approx(giraffe, abs=8)
