"""What was heard in one window, held against where someone speaks: what is missing, what was made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.core.coverage import covered, overlap_s, repeats, sentences, uncovered, within
from tasks.core.schema import HeardWindow, Interval, Segment, SpeechWindow, TranscriptGap
from tasks.core.segments import SAMPLE_RATE, Speech, mean_voice
from tasks.core.speech_times import fit

AROUND_S = 0.25
"""Sound kept around a stretch that is decoded alone."""
LONGEST_ALONE_S = 8.0
"""Longer sentences are as good where they are: what is heard before and after helps them."""
LEAST_VOICE = 0.3
"""Mean probability of speech below which a text that failed every temperature has no voice under it."""
LEAST_SPEECH_S = 0.1
"""A segment with less speech under it lies where nobody speaks."""
LEAST_WORDS = 0.5
"""Share of the words that a second text has at least; with fewer it has lost something."""
SILENCE = 1.5 / 2**15
"""Samples of 16 bits that are no louder hold nothing but rounding."""

Reason = Literal["nothing_heard", "unlikely"]
Audio = npt.NDArray[np.float32]


class Hearing:
    """The segments of one window so far."""

    def __init__(self, window: SpeechWindow, samples: Audio, segments: Sequence[Segment], speech: Speech) -> None:
        self._window = window
        self._voice = speech.voice
        self._speech = within(speech.segments, window.start, window.end)
        self._sounding = [_sounding(part, window, samples) for part in self._speech]
        self._segments = [segment for segment in segments if self._is_voiced(segment)]
        self._dropped = len(segments) - len(self._segments)
        self._repeated: list[Interval] = []
        self._reasons: dict[Interval, Reason] = {}

    def missing(self) -> list[Interval]:
        """Stretches of speech without text, sorted."""
        return uncovered(self._speech, [*covered(self._segments), *self._repeated])

    def doubtful(self, below: float) -> list[Interval]:
        """Sentences, with a pause before and after, whose text has a mean log probability `below` a bound."""
        found = []
        for stretch, segments in sentences(self._speech, self._segments):
            unlikely = any(segment.avg_logprob < below for segment in segments)
            if unlikely and stretch.duration_s <= LONGEST_ALONE_S and not self._is_shared(stretch):
                found.append(stretch)
        return found

    def add(self, stretch: Interval, segments: Sequence[Segment]) -> None:
        """What was heard when a stretch was decoded alone, in place of what was heard there before."""
        self._reasons[stretch] = "unlikely" if segments else "nothing_heard"
        likely = [s for s in segments if not s.unsure and overlap_s(s.start, s.end, [stretch]) >= LEAST_SPEECH_S]
        own = [segment for segment in self._segments if self._lies_on(segment, stretch)]
        if not own:
            before = next((s.text for s in reversed(self._segments) if s.end <= stretch.start + AROUND_S), "")
            after = next((s.text for s in self._segments if s.start >= stretch.end - AROUND_S), "")
            if likely and repeats(_text(likely), before, after):
                self._repeated.append(stretch)
                return
        elif _words(likely) < LEAST_WORDS * _words(own):
            return
        kept = [segment for segment in self._segments if segment not in own]
        self._segments = sorted([*kept, *likely], key=lambda segment: (segment.start, segment.end))

    def result(self) -> HeardWindow:
        """Everything, with times that lie within the speech, and not in silence around it."""
        fitted = fit(self._segments, self._sounding)
        return HeardWindow(
            window=self._window,
            segments=[segment.model_copy(update={"id": number}) for number, segment in enumerate(fitted)],
            gaps=[
                TranscriptGap(start=gap.start, end=gap.end, reason=self._reasons.get(gap, "nothing_heard"))
                for gap in self.missing()
            ],
            dropped=self._dropped,
        )

    def _is_voiced(self, segment: Segment) -> bool:
        if overlap_s(segment.start, segment.end, self._speech) < LEAST_SPEECH_S:
            return False
        return not segment.unsure or mean_voice(self._voice, segment.start, segment.end) >= LEAST_VOICE

    def _lies_on(self, segment: Segment, stretch: Interval) -> bool:
        """Is most of the speech under the segment that of the stretch?"""
        under = within(self._speech, segment.start, segment.end)
        return overlap_s(stretch.start, stretch.end, under) > sum(part.duration_s for part in under) / 2

    def _is_shared(self, stretch: Interval) -> bool:
        """Does another window hold a part of it? The two texts are joined on words that both have."""
        first = self._window.start + self._window.shared_start_s
        last = self._window.end - self._window.shared_end_s
        return (self._window.shared_start_s > 0 and stretch.start < first) or (
            self._window.shared_end_s > 0 and stretch.end > last
        )


def alone(window: SpeechWindow, samples: Audio, stretch: Interval) -> tuple[SpeechWindow, Audio]:
    """A stretch of a window as a window of its own, with a little of what is around it."""
    start, end = max(window.start, stretch.start - AROUND_S), min(window.end, stretch.end + AROUND_S)
    first, last = (round((time - window.start) * SAMPLE_RATE) for time in (start, end))
    return SpeechWindow(start=start, end=end), samples[first:last]


def _sounding(part: Interval, window: SpeechWindow, samples: Audio) -> Interval:
    """The part without digital silence at its ends."""
    first, last = (round((time - window.start) * SAMPLE_RATE) for time in (part.start, part.end))
    loud = np.flatnonzero(np.abs(samples[first:last]) > SILENCE)
    if not loud.size:
        return part
    start, end = part.start + float(loud[0]) / SAMPLE_RATE, part.start + float(loud[-1] + 1) / SAMPLE_RATE
    return Interval(start=round(start, 4), end=round(min(end, part.end), 4))


def relative(speech: Sequence[Interval], window: SpeechWindow) -> list[Interval]:
    """The speech within a window, in seconds from its start."""
    parts = within(speech, window.start, window.end)
    return [Interval(start=part.start - window.start, end=part.end - window.start) for part in parts]


def _text(segments: Sequence[Segment]) -> str:
    return " ".join(segment.text for segment in segments)


def _words(segments: Sequence[Segment]) -> int:
    return len(_text(segments).split())
