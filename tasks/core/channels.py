"""Which channel carries the speech: the mix of all, or, stretch by stretch, the one in which a voice is to be heard.

Mixing to mono loses what cancels (a channel and its inverse), what drowns (speech left, hum right) and what downmixes
leave out (the fourth of six channels is for bass). Silero VAD listens to the mix and to each channel that differs from
it; where a channel has a voice that the mix has not, or has it clearly better, that channel is heard there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.core.schema import HeardChannel

SAMPLE_RATE: Final = 16_000
BLOCK_S: Final = 1.0
"""Channels are compared second by second."""
REACH: Final = 1
"""Blocks on either side that a choice is made with: a sentence is not changed over within."""
DROWNS_DB: Final = -20.0
"""Another sound at this level, relative to the speech, or louder makes words hard to hear in the mix."""
ALIKE: Final = 0.1
"""Channels whose probabilities differ by less carry the same speech: the loudest of them is heard."""
SAME_DB: Final = -30.0
"""Level of what is left of a channel without its share of the mix, from which it counts as another sound."""
CLEARER: Final = 0.2
"""Mean probability of speech by which a channel must exceed the mix."""
VOICED: Final = 0.5
"""Mean probability of speech from which a channel carries speech."""
UNVOICED: Final = 0.1
"""Mean probability of speech below which a channel carries none."""
FADE_S: Final = 0.01
CHUNK_S: Final = 300
"""Sound in memory at a time: 20 MB a channel."""

_BLOCK: Final = round(BLOCK_S * SAMPLE_RATE)
MIX: Final = -1
Array = npt.NDArray[np.float32]


def differ(channels: Array, mix: Array) -> bool:
    """Does any channel hold another sound than the mix?  (samples, n) and (samples,) float32, read in minutes."""
    for first in range(0, len(mix), 60 * _BLOCK):
        own, common = channels[first : first + 60 * _BLOCK], mix[first : first + 60 * _BLOCK]
        power = float(np.square(common, dtype=np.float64).sum()) + 1e-9
        for channel in own.T:
            share = float(np.dot(channel.astype(np.float64), common)) / power
            rest = np.square(channel - share * common, dtype=np.float64).mean()
            if rest > 1e-9 and rest > 10 ** (SAME_DB / 10) * np.square(channel, dtype=np.float64).mean():
                return True
    return False


def choose(channels: Array, mix: Array) -> list[int]:
    """For each second the number of the channel to hear (from 0), or MIX; where nobody speaks, as before."""
    from tasks.core.segments.silero import CHUNK, speech_probabilities

    blocks = -(-len(mix) // _BLOCK)
    sounds = [mix, *np.ascontiguousarray(channels.T)]
    voice, level = np.zeros((len(sounds), blocks)), np.full((len(sounds), blocks), -120.0)
    for number, sound in enumerate(sounds):
        probability = speech_probabilities(sound)
        for block in range(blocks):
            near = slice(max(0, block - REACH) * _BLOCK, (block + REACH + 1) * _BLOCK)
            heard = probability[near.start // CHUNK : -(-near.stop // CHUNK)]
            voice[number, block] = np.sort(heard)[-max(1, _BLOCK // CHUNK // 2) :].mean() if heard.size else 0.0
            level[number, block] = 10 * np.log10(np.square(sound[near], dtype=np.float64).mean() + 1e-12)
    chosen: list[int | None] = []
    for block in range(blocks):
        before = chosen[-1] if chosen else None
        chosen.append(_choice(voice[:, block], level[:, block], before))
    first = next((number for number in chosen if number is not None), MIX)
    return [first if number is None else number for number in chosen]


def _choice(voice: npt.NDArray[np.float64], level: npt.NDArray[np.float64], before: int | None) -> int | None:
    """One block: entry 0 is the mix, the others are the channels. As `before` where nobody speaks."""
    own, loud = voice[1:], level[1:]
    if own.max() < VOICED:
        return before
    best = int(np.argmax(np.where(own >= own.max() - ALIKE, np.round(loud), -np.inf)))
    if before is not None and before != MIX and own[before] > own[best] - CLEARER:
        best = before
    drowned = bool(np.any((own < UNVOICED) & (loud > loud[best] + DROWNS_DB)))
    return best if drowned or own[best] > voice[0] + CLEARER else MIX


def combine(channels: Array, mix: Array, choice: Sequence[int]) -> Array:
    """The mix, with the chosen channels in their seconds, faded over into each other: shape (samples,)."""
    if all(number == MIX for number in choice):
        return mix
    heard = mix.copy()
    fade = round(FADE_S * SAMPLE_RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    at = 0
    before = MIX
    for number, group in groupby(choice):
        end = min(len(mix), at + len(list(group)) * _BLOCK)
        source = mix if number == MIX else channels[:, number]
        heard[at:end] = source[at:end]
        if at and end - at > fade:
            earlier = mix if before == MIX else channels[:, before]
            heard[at : at + fade] = ramp * source[at : at + fade] + (1 - ramp) * earlier[at : at + fade]
        at, before = end, number
    return heard


def hear(mix: Path, channels: Path, out: Path) -> list[HeardChannel]:
    """Writes to `out` (FLAC) the track to listen to, made of two files of the same length, and says what was heard.

    `mix` is mono, `channels` has them all; both 16 kHz. They are worked on CHUNK_S at a time. The list is empty, and
    `out` a copy of the mix, where the mix has everything.
    """
    import soundfile

    choice: list[int] = []
    with (
        soundfile.SoundFile(mix) as common,
        soundfile.SoundFile(channels) as apart,
        soundfile.SoundFile(out, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as track,
    ):
        names = ["left", "right"] if apart.channels == 2 else [str(number + 1) for number in range(apart.channels)]
        while (sound := common.read(CHUNK_S * SAMPLE_RATE, dtype="float32")).size:
            each = _of_length(apart.read(len(sound), dtype="float32", always_2d=True), len(sound))
            chosen = choose(each, sound) if differ(each, sound) else [MIX] * -(-len(sound) // _BLOCK)
            track.write(combine(each, sound, chosen))
            choice += chosen
        duration_s = common.frames / SAMPLE_RATE
    return _stretches(choice, duration_s, names)


def _of_length(channels: Array, samples: int) -> Array:
    """Channels padded with silence: the mix goes on to the end of the media, the sound need not."""
    return np.pad(channels, ((0, samples - len(channels)), (0, 0)))


def _stretches(choice: Sequence[int], duration_s: float, names: Sequence[str]) -> list[HeardChannel]:
    if all(number == MIX for number in choice):
        return []
    found, at = [], 0.0
    for number, group in groupby(choice):
        end = min(duration_s, at + len(list(group)) * BLOCK_S)
        name, reason = (
            ("mix", "nothing is lost in it") if number == MIX else (names[number], "its speech is lost in the mix")
        )
        found.append(HeardChannel(start=at, end=end, channel=name, reason=reason))
        at = end
    return found
