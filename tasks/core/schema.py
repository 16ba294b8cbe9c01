"""The records that stages exchange and that result.json is made of.

Times are seconds from the start of the media (the earliest stream starts at 0.0); boxes are pixels of the
displayed source frame (square pixels, upright), `[x1, y1, x2, y2]`.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from tasks.core.records import json_bytes
from tasks.core.source_names import short_name

SCHEMA_VERSION = 1

Transfer = Literal["sdr", "pq", "hlg"]
"""How light is coded in a picture; pq and hlg are HDR."""
Primaries = Literal["bt709", "bt2020"]
"""A picture's gamut; bt2020 is the wide one."""


class Record(BaseModel):
    """Immutable, strict about unknown fields, and without NaN or infinity: neither is JSON, and neither is a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")


Rational = Annotated[
    Fraction,
    PlainValidator(lambda value: Fraction(value)),
    PlainSerializer(lambda value: f"{value.numerator}/{value.denominator}", return_type=str),
]
"""A frame rate or time base, kept exact; "30000/1001" in JSON."""


class Interval(Record):
    """Half-open stretch of media time, in seconds."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)

    @property
    def duration_s(self) -> float:
        return self.end - self.start


MOST_PIXELS = 8192 * 4320
"""Of a frame, where nothing else is said."""


class VideoStream(Record):
    index: int
    codec: str
    width: int
    """Width in pixels as displayed: in square pixels, rotation applied."""
    height: int
    rotation: int = 0
    """Clockwise degrees (0, 90, 180, 270) that the decoder's frame is turned by for display."""
    mirrored: bool = False
    """The decoder's frame is mirrored left to right before it is turned."""
    stored_width: int = 0
    """Of the decoder's first frame, pixels; 0 in results of before, where it is as displayed but for the rotation."""
    stored_height: int = 0
    transfer: Transfer = "sdr"
    primaries: Primaries = "bt709"
    fps: Rational
    """Average rate; for variable frame rate use each frame's own time."""
    variable_fps: bool = False
    start: float
    duration_s: float
    frames: int | None = None
    """As the container states it; None where it does not."""
    pixel_format: str = ""
    ordinal: int = 0
    """Among the file's video streams; web browsers play the first."""
    decoding_delay: int = 0
    """Frames from decoding to display, where the container has times of decoding only: frames are then displayed in the
    order in which they leave the decoder. 0: its times are those of display."""
    most_pixels: int = MOST_PIXELS
    """Of any stored frame: limits.max_pixels. A media with a larger frame, wherever it lies, is set aside."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the decoder's first frame, pixels."""
        if self.stored_width and self.stored_height:
            return self.stored_width, self.stored_height
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)


class AudioStream(Record):
    index: int
    codec: str
    sample_rate: int
    channels: int
    language: str | None = None
    start: float
    duration_s: float
    sound_s: float = 0.0
    """Seconds of sound that its packets hold, as they say; gaps are left out."""


class Take(Record):
    """A stretch of the file over which the container's clock runs on; the next one begins where this one ends."""

    start: float
    """Media time of its beginning."""
    shift_s: float
    """Container time minus media time."""
    packets: dict[int, int]
    """By stream: ordinal of its first packet in this take, among the stream's packets that hold data."""


class Damage(Record):
    """A stretch of media time whose content is lost; beyond the media's end where the file was cut short."""

    start: float
    end: float
    lost_s: float
    """What the source held there; more than end - start where its clock tells nothing of the hole."""
    kind: Literal["cut_short", "missing", "undecodable"]
    """The file ends before it; there is nothing where it should be; what is there does not decode."""
    stream: Literal["video", "audio"] | None = None
    """None: all of them."""


class MediaInfo(Record):
    """What probe found. `video` and `audio` are the streams that will be analysed."""

    container: str
    bytes: int
    duration_s: float
    start_offset_s: float
    """The container's own start time: media time 0.0 is this timestamp."""
    video: VideoStream | None = None
    audio: AudioStream | None = None
    audio_streams: list[AudioStream] = []
    takes: list[Take] = []
    """Empty where the file has one clock; else recordings appended to each other, or a clock that jumped.
    One alone: an Ogg file that ends within a page."""
    damaged: bool = False
    """Some of the content is lost; what is there was analysed."""
    lost_s: float = 0.0
    """Seconds that are lost, of the stream that has lost most, as far as the file tells."""
    damage: list[Damage] = []
    notices: list[str] = []
    """What a reader of the result must know of the source."""


class HeardChannel(Record):
    """Which channel of the sound a stretch was heard on, and why."""

    start: float
    end: float
    channel: str
    """mix, left, right, or the number of one of more than two channels, from 1."""
    reason: str


class Heard(Record):
    """What came of the sound, checked against what the file promised."""

    duration_s: float
    """Length of the track; of sound alone the decoded one counts."""
    decoded_s: float = 0.0
    """Seconds of sound that were decoded; the rest of the track is silence that fills gaps."""
    damage: list[Damage] = []
    channels: list[HeardChannel] = []
    """Empty where all channels were heard, mixed to one."""
    notice: str | None = None


class Word(Record):
    start: float
    end: float
    text: str
    probability: float


class Segment(Record):
    id: int
    start: float
    end: float
    text: str
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    temperature: float = 0.0
    unsure: bool = False
    """The text failed the guards (likelihood, repetition) at every temperature: the best of what could be made out."""
    words: list[Word] | None = None


class Pause(Record):
    """Where speech can be cut without cutting a word."""

    time: float
    """The quietest moment of the pause."""
    duration_s: float


class SpokenLanguage(Record):
    """The language of a media."""

    code: str
    """ISO code: en."""
    checked: bool
    """False where the weights know only this one, so that nothing was compared."""


class TranscriptGap(Record):
    """Speech that has no text."""

    start: float
    end: float
    reason: Literal["nothing_heard", "unlikely"]
    """nothing_heard: the model gave no text for it. unlikely: what it gave failed the guards at every temperature."""


class Transcript(Record):
    language: str | None = None
    language_checked: bool = True
    """False where the weights know one language only and none was asked for."""
    text: str = ""
    segments: list[Segment] = []
    gaps: list[TranscriptGap] = []
    """Speech without text, in order."""
    dropped: int = 0
    """Segments that the model made up where no voice is; they are not in `segments`."""
    channels: list[HeardChannel] = []
    """Stretches that were heard on another channel than the mix, or the one that was asked for; empty for mono."""

    @property
    def gaps_s(self) -> float:
        """Seconds of speech without text."""
        return sum(gap.end - gap.start for gap in self.gaps)


class SpeechWindow(Record):
    """Up to 30 s of audio that holds neighbouring speech: one input of the speech model."""

    start: float
    end: float
    shared_start_s: float = 0.0
    """Length at its beginning that the window before holds as well: speech without a pause was cut there."""
    shared_end_s: float = 0.0
    """The same at its end."""


class HeardWindow(Record):
    """What was heard in one window, in media time."""

    window: SpeechWindow
    segments: list[Segment] = []
    """With words where they were asked for, or were needed to tell which speech has text."""
    gaps: list[TranscriptGap] = []
    dropped: int = 0


class Clip(Record):
    start: float
    end: float
    uri: str


class Box(Record):
    xyxy: tuple[float, float, float, float]
    class_: str = Field(alias="class")
    confidence: float

    model_config = ConfigDict(populate_by_name=True)


class FrameDetections(Record):
    index: int
    """Ordinal of the sampled frame in this media, from 0."""
    time: float
    boxes: list[Box] = []


class Detections(Record):
    frames_sampled: int = 0
    sample_fps: float | None = None
    """None in key-frame mode."""
    classes: dict[str, int] = {}
    frames: list[FrameDetections] = []


class SceneChange(Record):
    """The picture changes here."""

    time: float
    """Of the first frame after the change."""
    method: Literal["ema", "shot"]
    """ema: the frame's embedding leaves the moving average of those before it. shot: a cut between two frames."""
    score: float


class Tag(Record):
    """A text of the bank that a stretch of the video is like."""

    text: str
    score: float
    """Cosine between the text's vector and the frames', -1 to 1."""
    probability: float | None = None
    """SigLIP's own calibration of the score; None for models without one."""


class Caption(Record):
    """The description of the bank that fits best, and the stretch of the video that it fits best."""

    text: str
    score: float
    start: float
    end: float


class Chunk(Record):
    """A few seconds of video, described by themselves."""

    start: float
    end: float
    tags: list[Tag] = []
    caption: Caption | None = None


class Description(Record):
    """What a media's frames are like."""

    tags: list[Tag] = []
    """Of the whole media, best first."""
    caption: Caption | None = None
    chunks: list[Chunk] = []


class ModelInfo(Record):
    """What was loaded. `bundled` marks the demonstration models, whose results mean nothing on real media."""

    name: str
    digest: str
    """sha256 of the weights file, hex."""
    backend: str = "torch"
    bundled: bool = False


class StageTiming(Record):
    wall_s: float = 0.0
    """Sum over the stage's task runs."""
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    queue_s: float = 0.0
    """Time between submission with all inputs ready and start, summed."""
    bytes_in: int = 0
    bytes_out: int = 0
    runs: int = 0
    cached: bool = False
    """Every run of the stage was found in the store."""


class MediaRef(Record):
    """One source whose bytes are known: what every stage of a media is given."""

    media_id: str
    """First 32 hex digits of the sha256 of the content."""
    source: str
    bytes: int
    store: str
    """Address of the store that its artifacts go to."""
    version: str = ""
    """The source's version that was read, see Fetched.version; other versions may have the same content."""

    @property
    def name(self) -> str:
        """Last part of the source, made fit for a label: printable, at most 60 characters, no secrets of a URL."""
        return short_name(self.source)


class ArtifactRef(Record):
    """Claim check: where a stage's output lies. This is what travels through the scheduler."""

    media_id: str
    stage: str
    key: str
    """Digest of input keys, options, stage version and model digest."""
    uri: str
    """Folder of the artifact, `{store}/media/{media_id}/{stage}/{key}`."""
    store: str | None = None
    """What its store is opened by where that is not the URI's beginning: see Store.address."""
    timing: StageTiming = StageTiming()
    """What making it took, when it was made."""
    finished: float = 0.0
    """Unix time at which it was made."""
    sha256: dict[str, str] = {}
    """Digests of its files by name, as they were written: whoever reads one checks it."""
    cached: bool = False


class BankRef(Record):
    """A text bank as vectors of one model, in a store."""

    name: str
    digest: str
    """Of the bank's texts."""
    model: str
    """Digest of the model."""

    @property
    def path(self) -> str:
        return f"text_banks/{self.name}/{self.model[:16]}-{self.digest[:16]}.npz"


class Findings(Record):
    """The artifacts of one media that a result is made of."""

    probe: ArtifactRef
    audio: ArtifactRef
    segments: ArtifactRef
    clips: ArtifactRef | None = None
    language: ArtifactRef | None = None
    transcript: list[ArtifactRef] = []
    """One per batch of windows, in order."""
    frames: list[ArtifactRef] = []
    """One per batch of frames, in order."""
    detections: list[ArtifactRef] = []
    """One per artifact in `frames`, or none."""
    embeddings: list[ArtifactRef] = []
    """One per artifact in `frames`, or none."""
    scenes: ArtifactRef | None = None
    description: ArtifactRef | None = None

    def named(self) -> dict[str, ArtifactRef]:
        """Every artifact by name; batches are numbered: frames/0, frames/1."""
        names = ("probe", "audio", "segments", "clips", "language", "scenes", "description")
        single = {name: ref for name in names if (ref := getattr(self, name))}
        batches = {
            f"{name}/{number}": ref
            for name in ("transcript", "frames", "detections", "embeddings")
            for number, ref in enumerate(getattr(self, name))
        }
        return single | batches


class Result(Record):
    """result.json: the truth about one media."""

    schema_version: Literal[1] = 1
    media_id: str
    key: str
    """Digest of media_id, options, stage versions and models: equal keys mean equal results."""
    source: str
    media: MediaInfo
    options: dict[str, Any]
    models: dict[str, ModelInfo]
    transcript: Transcript
    clips: list[Clip]
    detections: Detections
    scenes: list[SceneChange] = []
    tags: list[Tag] = []
    """Of the whole media, best first."""
    caption: Caption | None = None
    chunks: list[Chunk] = []
    artifacts: dict[str, str]
    timing: dict[str, StageTiming]
    cost: dict[str, float]
    """US dollars per stage, and `total`."""
    created: datetime
    notice: str | None = None
    """What a reader must know before the facts: demonstration models, streams or stages left out, a store without
    conditions."""

    @property
    def is_demonstration(self) -> bool:
        """Did bundled demonstration models make any of this?"""
        return any(model.bundled for model in self.models.values())

    @property
    def frames_with_boxes(self) -> int:
        """Sampled frames in which something was detected."""
        return sum(bool(frame.boxes) for frame in self.detections.frames)

    @property
    def silence(self) -> str | None:
        """Why the transcript has no text: no sound, not transcribed, no words were heard; None where it has some."""
        if self.transcript.segments:
            return None
        if self.media.audio is None:
            return "no sound"
        return "no words were heard" if "transcript" in self.models else "not transcribed"


class Quarantined(Record):
    """quarantine/{media_id}.json: one source that cannot be analysed, and why."""

    media_id: str | None
    """Of the content or, where it could not be read, digest of the name; None where no record is kept."""
    source: str
    code: str
    message: str
    detail: str = ""
    created: datetime


class AnalyzeReport(Record):
    """The outcome of one source; a line of `analyze --json`, but for the cost."""

    source: str
    media_id: str | None
    status: Literal["done", "cached", "quarantined", "failed"]
    result: str | None
    seconds: float
    cached: bool
    error: dict[str, str] | None = None
    cost_usd: float = 0.0
    """What this run's new work cost."""

    def line(self) -> str:
        """The report as one line of JSON."""
        return json_bytes(self, exclude={"cost_usd"}).decode()
