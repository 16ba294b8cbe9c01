"""The channel that carries the speech is heard, and the mix wherever nothing is lost in it."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tasks.core.audio import extract_audio, load_audio
from tasks.core.channels import MIX, choose, combine, differ, hear
from tasks.core.errors import OptionError
from tasks.core.models import bundled
from tasks.core.options import AudioOptions, Channel, LimitOptions
from tasks.core.probe import probe
from tasks.core.schema import HeardChannel

RATE = 16_000
Sound = npt.NDArray[np.float32]


@functools.cache
def speech() -> Sound:
    """9 s of the bundled sample's sentences."""
    import av

    with av.open(str(bundled.SAMPLE_CLIP)) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        parts = [p.to_ndarray()[0] for f in [*container.decode(audio=0), None] for p in resampler.resample(f)]
    return np.concatenate(parts)[: 9 * RATE].astype(np.float32)


def hum(level: float = 0.5) -> Sound:
    time = np.arange(speech().size) / RATE
    return (level * np.sin(2 * np.pi * 50 * time)).astype(np.float32)


def choices(*channels: Sound) -> set[int]:
    each = np.stack(channels, axis=1)
    return set(choose(each, each.mean(axis=1)))


def test_the_mix_is_heard_where_it_has_the_speech() -> None:
    quiet = np.zeros_like(speech())
    assert choices(speech(), 0.5 * speech()) == {MIX}
    assert choices(speech(), quiet) == {MIX}
    assert choices(hum(), 0.3 * hum()) == {MIX}


def test_a_channel_is_heard_where_its_speech_cancels_or_drowns() -> None:
    quiet = np.zeros_like(speech())
    assert choices(speech(), -speech()) == {0}
    assert choices(hum(), speech()) == {1}
    each = np.stack([quiet, quiet, quiet, speech()], axis=1)
    assert set(choose(each, quiet)) == {3}


def test_quiet_speech_beside_a_loud_sound_and_a_faint_copy_is_heard() -> None:
    quiet, faint = 0.01 * speech(), 0.001 * speech()
    assert choices(hum(0.9), quiet) == {1}
    assert choices(faint, hum(0.9), quiet) == {2}


def test_each_second_has_its_own_channel() -> None:
    half = speech().size // 2
    left, right = hum(), hum()
    left[:half], right[half:] = speech()[:half], speech()[half:]
    chosen = choose(np.stack([left, right], axis=1), ((left + right) / 2).astype(np.float32))
    assert chosen[:3] == [0, 0, 0]
    assert chosen[-3:] == [1, 1, 1]


def test_only_channels_that_differ_are_listened_to() -> None:
    assert not differ(np.stack([speech(), 0.3 * speech()], axis=1), 0.65 * speech())
    assert not differ(np.zeros((RATE, 2), np.float32), np.zeros(RATE, np.float32))
    assert differ(np.stack([speech(), -speech()], axis=1), np.zeros_like(speech()))
    assert differ(np.stack([speech(), hum(0.1)], axis=1), ((speech() + hum(0.1)) / 2).astype(np.float32))


def test_the_chosen_seconds_are_put_together_without_a_click() -> None:
    each = np.stack([np.full(3 * RATE, 0.5), np.full(3 * RATE, -0.5)], axis=1).astype(np.float32)
    track = combine(each, np.zeros(3 * RATE, np.float32), [0, MIX, 1])
    assert [track[int((second + 0.5) * RATE)] for second in range(3)] == [0.5, 0.0, -0.5]
    assert np.abs(np.diff(track)).max() < 0.01
    mix = np.ones(3 * RATE, np.float32)
    assert combine(each, mix, [MIX] * 3) is mix


def test_files_are_heard_and_what_was_chosen_is_said(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("mix.flac", "channels.wav", "out.flac")]
    soundfile.write(paths[0], np.zeros(speech().size + RATE, np.float32), RATE)
    soundfile.write(paths[1], np.stack([speech(), -speech()], axis=1), RATE)
    [heard, *_] = hear(*paths)
    assert (heard.start, heard.channel) == (0, "left")
    out, rate = soundfile.read(paths[2], dtype="float32")
    assert (rate, out.size) == (RATE, speech().size + RATE)
    np.testing.assert_allclose(out[: 5 * RATE], speech()[: 5 * RATE], atol=1e-4)


def stereo(path: Path) -> Path:
    soundfile.write(path, np.stack([speech(), hum()], axis=1), RATE)
    return path


@pytest.mark.parametrize(("channel", "expected"), [("left", "speech"), ("right", "hum"), (1, "speech"), (2, "hum")])
def test_a_channel_that_is_asked_for_is_heard(tmp_path: Path, channel: Channel, expected: str) -> None:
    path, out = stereo(tmp_path / "stereo.wav"), tmp_path / "out.flac"
    info = probe(path, LimitOptions(), AudioOptions(channel=channel))
    heard = extract_audio(path, info, out, channel).channels
    wanted = {"speech": speech(), "hum": hum()}[expected]
    assert np.corrcoef(load_audio(out)[: wanted.size], wanted)[0, 1] > 0.99
    assert heard == [HeardChannel(start=0, end=info.duration_s, channel=str(channel), reason="as audio.channel asks")]


def test_a_channel_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    path = stereo(tmp_path / "stereo.wav")
    info = probe(path, LimitOptions(), AudioOptions())
    with pytest.raises(OptionError, match="the sound has 2 channels"):
        extract_audio(path, info, tmp_path / "out.flac", 3)
