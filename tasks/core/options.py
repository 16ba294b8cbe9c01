"""Every option of the pipeline, named after its stage: the flow's parameters, `--set` and result.json share these.

Stage functions take their own section (a value), never the whole, so that a stage's content key changes only with
what the stage reads.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.schema import MOST_PIXELS


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", model_title_generator=lambda model: model.__name__.removesuffix("Options")
    )

    unkeyed: ClassVar[frozenset[str]] = frozenset()
    """Options of how the work is done, not of what comes out: no part of a key."""

    def keyed(self) -> dict[str, Any]:
        """The options that decide what comes out, as JSON values."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in self.unkeyed}
        plain = self.model_dump(mode="json", exclude=set(self.unkeyed))
        return {name: value.keyed() if isinstance(value, Section) else plain[name] for name, value in values.items()}


class LimitOptions(Section):
    """What a source may be. Beyond a limit it is quarantined, not truncated."""

    max_bytes: int = Field(20 * 2**30, ge=1, le=2**42, description="Largest source, in bytes")
    max_duration_s: float = Field(6 * 3600, gt=0, le=7 * 86400, description="Longest media, in seconds")
    max_pixels: int = Field(
        MOST_PIXELS, ge=256, le=16384 * 16384, description="Largest frame, width x height in pixels"
    )
    max_streams: int = Field(32, ge=1, le=256, description="Most streams in the container")
    max_packets: int = Field(
        5_000_000,
        ge=1000,
        le=100_000_000,
        description="Most packets in the container (frames, blocks of sound); each may take 100 bytes of memory",
    )


Channel = Literal["auto", "mix", "left", "right"] | Annotated[int, Field(ge=1, le=64)]
"""What of a stream with several channels is heard."""


class AudioOptions(Section):
    stream: int | str | None = Field(
        None,
        description="Audio stream: index among the audio streams (from 0) or language (eng); default the first",
    )
    channel: Channel = Field(
        "auto",
        description="auto: the mix of all channels and, where speech cancels or drowns in it, the channel that carries "
        "it. mix, left, right or a number from 1: that alone",
    )


class SegmentOptions(Section):
    engine: Literal["librosa", "silero"] = Field("silero", description="librosa: energy split. silero: Silero VAD")
    top_db: float = Field(
        30.0, ge=5, le=100, description="librosa: decibels below the loudest speech around that are silence"
    )
    threshold: float = Field(
        0.3, ge=0.05, le=0.95, description="silero: speech probability above which a frame is speech"
    )
    min_speech_s: float = Field(0.25, ge=0.05, le=5, description="Shorter speech is dropped, seconds")
    min_silence_s: float = Field(0.5, ge=0.05, le=10, description="Shorter pauses do not end a segment, seconds")
    pad_s: float = Field(0.2, ge=0, le=2, description="Added at both ends of each segment, seconds")


class ClipOptions(Section):
    enabled: bool = Field(True, description="Cut one clip for each speech segment")
    pad_s: float = Field(0.25, ge=0, le=10, description="Media kept before and after the speech, seconds")
    merge_gap_s: float = Field(1.0, ge=0, le=60, description="Segments closer than this share a clip, seconds")
    height: int = Field(360, ge=64, le=2160, description="Clips are scaled down to at most this height, pixels")
    crf: int = Field(28, ge=0, le=51, description="H.264 constant rate factor: lower is better and larger")


class TranscriptOptions(Section):
    unkeyed = frozenset({"batch_size"})

    enabled: bool = Field(True, description="Transcribe speech")
    model: str = Field(
        "auto", description="auto, bundled, a Whisper name (base.en, large-v3) or the path of a checkpoint"
    )
    language: str | None = Field(None, description="ISO code of the language (en); default: detected once per media")
    words: bool = Field(False, description="Word timestamps")
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="Text that could stand before each window: names, spelling and style are taken from it",
    )
    hotwords: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=100, description="Words to expect: names, products, terms"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs")
    precision: Literal["auto", "float32", "float16"] = Field("auto", description="auto: float16 on a GPU, else float32")
    beam_size: int = Field(1, ge=1, le=10, description="1 is greedy decoding")
    second_look: float = Field(
        -0.2,
        ge=-10,
        le=0,
        description="A sentence whose tokens have a mean log probability below this is decoded again, alone; -10: none",
    )
    second_look_beams: int = Field(
        3, ge=1, le=10, description="Beams of that, and of speech that got no text and is decoded again"
    )
    window_s: float = Field(30.0, ge=5, le=30, description="Longest window that speech is packed into, seconds")
    batch_size: int = Field(8, ge=1, le=64, description="Windows per task, decoded together")
    temperatures: tuple[float, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1, description="Tried in order while a window fails the guards below"
    )
    compression_ratio: float = Field(2.4, ge=1, le=10, description="More repetitive text than this is decoded again")
    log_probability: float = Field(-1.0, ge=-10, le=0, description="Less likely text than this is decoded again")
    no_speech: float = Field(0.6, ge=0, le=1, description="Above this, and with unlikely text, a window is silence")


class FrameOptions(Section):
    unkeyed = frozenset({"batch_size"})

    mode: Literal["uniform", "keyframes"] = Field(
        "uniform", description="uniform: `fps` a second. keyframes: key frames only"
    )
    fps: float = Field(1.0, gt=0, le=60, description="Frames sampled per second of media")
    max_side: int = Field(1920, ge=64, le=8192, description="Larger frames are scaled down to this longer side, pixels")
    quality: int = Field(95, ge=1, le=100, description="JPEG quality of stored frames")
    batch_size: int = Field(64, ge=1, le=1024, description="Frames per task")


class DetectionOptions(Section):
    enabled: bool = Field(True, description="Detect objects")
    weights: str = Field("auto", description="auto, bundled, a name in the models folder (yolo11n.pt) or a path")
    confidence: float = Field(0.25, ge=0.001, le=1, description="Boxes below this are dropped")
    iou: float = Field(0.7, ge=0.01, le=1, description="Boxes of one class that overlap more are one")
    image_size: int = Field(
        640, ge=32, le=2048, multiple_of=32, description="Longer side of the network's input, pixels"
    )
    classes: tuple[str, ...] | None = Field(None, description="Only these class names; default all")
    max_boxes: int = Field(300, ge=1, le=3000, description="Most boxes kept per frame")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs")
    precision: Literal["auto", "float32", "float16"] = Field("auto", description="auto: float16 on a GPU, else float32")
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="auto: OpenVINO on a CPU where it is installed, else torch"
    )


class EmbeddingOptions(Section):
    enabled: bool = Field(
        True, description="Turn frames into vectors: tags, captions, scene changes and search by meaning"
    )
    model: str = Field(
        "auto",
        description="auto, bundled, a name in the models folder (siglip-so400m-patch14-384) or the path of a folder",
    )
    chunk_s: float = Field(10.0, ge=0.5, le=3600, description="Media is described in chunks of this length, seconds")
    frames_per_chunk: int = Field(16, ge=1, le=1024, description="Frames embedded of each chunk")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs")
    precision: Literal["auto", "float32", "float16"] = Field("auto", description="auto: float16 on a GPU, else float32")


class SceneOptions(Section):
    alpha: float = Field(0.9, ge=0, lt=1, description="Weight of the past in the moving average of embeddings")
    threshold: float = Field(
        0.15, gt=0, le=2, description="1 - cosine to the moving average from which a frame is a scene change"
    )
    shots: bool = Field(
        True, description="Find cuts between shots too: decodes every frame, so not with frames.mode=keyframes"
    )
    shot_ratio: float = Field(
        3.0, ge=1, le=255, description="A cut differs so many times more from the frame before than its neighbours do"
    )
    shot_score: float = Field(
        15.0, ge=0, le=255, description="Least difference of a cut from the frame before, 0 to 255"
    )
    shot_window: int = Field(2, ge=1, le=50, description="Frames on either side that a cut is compared with")
    shot_length_s: float = Field(0.6, ge=0, le=60, description="Shortest shot, seconds")


class TagOptions(Section):
    bank: str = Field(
        "auto", description="Text bank of tags and descriptions: auto, a name in the store or a YAML file"
    )
    top: int = Field(5, ge=1, le=100, description="Tags kept for each chunk and for the media")


class AnalyzeOptions(Section):
    """What to do with one media. Written `section.option=value` on the command line."""

    unkeyed = frozenset({"limits"})

    audio: AudioOptions = AudioOptions()
    segments: SegmentOptions = SegmentOptions()
    clips: ClipOptions = ClipOptions()
    transcript: TranscriptOptions = TranscriptOptions()
    frames: FrameOptions = FrameOptions()
    detections: DetectionOptions = DetectionOptions()
    embeddings: EmbeddingOptions = EmbeddingOptions()
    scenes: SceneOptions = SceneOptions()
    tags: TagOptions = TagOptions()
    limits: LimitOptions = LimitOptions()


FILES = (("transcript", "model"), ("detections", "weights"), ("embeddings", "model"), ("tags", "bank"))
"""Options, by section, that name a model, a bank or a file of it."""


class _Values(yaml.SafeLoader):
    """YAML scalars of version 1.2: only true and false are booleans, so that `no` stays a language."""


_Values.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class UnknownOption(ValueError):
    """A `--set` that names no option or gives a value out of bounds: a usage error."""


def option_names() -> list[str]:
    """`section.option`, all of them, in order."""
    return [name for name, _ in _fields()]


def describe_options() -> list[tuple[str, Any, str]]:
    """(name, default, description) of every option."""
    return [(name, field.default, field.description or "") for name, field in _fields()]


def parse_options(assignments: Iterable[str]) -> AnalyzeOptions:
    """`["frames.fps=2", "detections.classes=[person,car]"]` to options; values are YAML scalars or lists.

    Raises UnknownOption with the valid names, or the bound that was broken.
    """
    sections: dict[str, dict[str, Any]] = {}
    known = set(option_names())
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UnknownOption(f"--set {assignment}: write it as section.option=value, for example frames.fps=2")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"valid names: {', '.join(sorted(known))}"
            raise UnknownOption(f"--set {name}: there is no such option; {hint}")
        section, _, option = name.partition(".")
        try:
            sections.setdefault(section, {})[option] = yaml.load(text, _Values) if text else None  # noqa: S506 - a subclass of SafeLoader
        except yaml.YAMLError as error:
            raise UnknownOption(f"--set {assignment}: the value is no YAML scalar or list") from error
    try:
        return AnalyzeOptions.model_validate(sections)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:2])
        raise UnknownOption(f"--set {name}: {first['msg']} (got {first['input']!r}); {_describe(name)}") from error


def _fields() -> Iterator[tuple[str, Any]]:
    for section, outer in AnalyzeOptions.model_fields.items():
        for option, field in type(outer.default).model_fields.items():
            yield f"{section}.{option}", field


def _describe(name: str) -> str:
    return next((f"{name}: {field.description}" for found, field in _fields() if found == name), "")
