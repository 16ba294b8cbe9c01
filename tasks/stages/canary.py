"""Whose fault is a failure that nobody foresaw? The same stage is run on a file that is known to be good.

A stage that fails there too fails for the host: a batch stops. One that does well there fails for its source, which is
set aside, once a second try on the source has failed as well: a child that someone killed is nobody's fault.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from tasks.core.embeddings import Embeddings, load_embeddings, save_embeddings
from tasks.core.errors import ReelflowError, ToolFailed, Unprocessable
from tasks.core.frame_plan import FrameBatchSpec, plan_batches
from tasks.core.models.bundled import SAMPLE_CLIP
from tasks.core.options import AnalyzeOptions, FrameOptions, LimitOptions, Section
from tasks.core.records import save_records
from tasks.core.schema import (
    ArtifactRef,
    Interval,
    MediaInfo,
    MediaRef,
    ModelInfo,
    SpeechWindow,
    SpokenLanguage,
)
from tasks.core.source_names import display_source, hide_secrets
from tasks.core.windows import pack_windows
from tasks.records import artifacts
from tasks.records.lookup import fetch_source
from tasks.store.folder import FolderStore

Body = Callable[..., None]

STAGES: dict[str, Body] = {}
"""Bodies of the stages by name; `stage` enters them."""

KEY = "0" * 32
WINDOW_S = 30.0
DIMENSIONS = 512
MOST_LETTERS = 300
"""Of an error in a message; its detail holds more."""

_LANGUAGE, _EMBEDDINGS = "language.json", "embeddings.npz"
"""As tasks/stages/speech.py and tasks/stages/vision.py name them."""


def is_unexplained(error: Exception) -> bool:
    """Does the error say nothing of whose fault it is?"""
    if isinstance(error, ToolFailed):
        return True
    return not isinstance(error, ReelflowError | ConnectionError | TimeoutError)


def judge(stage: str, arguments: Mapping[str, Any], error: Exception, again: Callable[[], ArtifactRef]) -> ArtifactRef:
    """The artifact of a second try, where that succeeds.

    Raises Unprocessable where the stage fails on this source only, ToolFailed where it fails on a good file as well.
    """
    try:
        with _good_file() as good:
            good.run(stage, arguments)
    except Exception as on_good_file:
        raise ToolFailed(
            f"{stage} fails on this host, on the bundled sample as well: {_said(on_good_file)}; "
            "`python -m flows doctor` checks this installation",
            detail=_detail(on_good_file),
        ) from error
    try:
        return again()
    except Exception as second:
        if not is_unexplained(second):
            raise
        source = display_source(next(value for value in arguments.values() if isinstance(value, MediaRef)).source)
        raise Unprocessable(
            f"{source}: {stage} fails on it, and not on a good file ({_said(second)}); convert it to MP4 or FLAC first",
            detail=_detail(second),
        ) from second


def try_stages(stages: tuple[str, ...], options: AnalyzeOptions, models: Mapping[str, ModelInfo]) -> None:
    """Runs stages on the good file with these options and models; those without a model are left out."""
    sections = {type(section): section for _, section in options}
    with _good_file() as good:
        for stage in stages:
            hints = get_type_hints(STAGES[stage])
            given = {name: sections[kind] for name, kind in hints.items() if kind in sections}
            wanted = [name for name, kind in hints.items() if kind is ModelInfo]
            model = models.get("transcript" if stage == "language" else stage)
            if not wanted or model is not None:
                good.run(stage, given | dict.fromkeys(wanted, model))


@contextmanager
def _good_file() -> Iterator[_GoodFile]:
    with tempfile.TemporaryDirectory(prefix="reelflow-canary-") as folder:
        yield _GoodFile(Path(folder))


class _GoodFile:
    """The bundled sample, and what the stages make of it with default options, in a store of its own."""

    def __init__(self, folder: Path) -> None:
        from tasks.stages import media, speech, vision  # noqa: F401 - their stages enter themselves into STAGES

        self._store = FolderStore(str(folder / "store"))
        self._media = fetch_source(str(SAMPLE_CLIP), self._store.address, LimitOptions())
        self._made: dict[str, ArtifactRef] = {}

    def run(self, stage: str, given: Mapping[str, Any]) -> None:
        """Runs a stage's body on the sample, with the options and models that are given."""
        with self._store.workspace() as out:
            STAGES[stage](**self._arguments(stage, given), out=out)

    def _arguments(self, stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
        hints = get_type_hints(STAGES[stage])
        names = [name for name in hints if name not in ("out", "return")]
        return {name: self._counterpart(name, hints[name], given.get(name)) for name in names}

    def _counterpart(self, name: str, kind: Any, given: Any) -> Any:
        """What stands for a parameter of this type; an artifact is known by the parameter's name."""
        if kind is MediaRef:
            return self._media
        if kind is MediaInfo:
            return self._info()
        if kind is FrameBatchSpec:
            return plan_batches(self._info(), FrameOptions(), embed_fps=Fraction(1), shots=True)[0]
        if kind == list[SpeechWindow]:
            length_s = self._info().duration_s
            return pack_windows([Interval(start=0.0, end=length_s)], [], WINDOW_S, length_s)[:1]
        if kind == list[ArtifactRef]:
            return [self._artifact(name, given[0] if given else None)]
        if kind is ArtifactRef or ArtifactRef in get_args(kind):
            return self._artifact(name, given)
        if name == "channel":
            return given or "auto"
        if given is None and isinstance(kind, type) and issubclass(kind, Section):
            return kind()
        return given

    def _info(self) -> MediaInfo:
        from tasks.stages.media import load_info

        return load_info(self._artifact("probe", None))

    def _artifact(self, stage: str, like: ArtifactRef | None) -> ArtifactRef:
        if stage not in self._made:
            uri = self._store.uri(f"media/{self._media.media_id}/{stage}/{KEY}")
            ref = ArtifactRef(media_id=self._media.media_id, stage=stage, key=KEY, uri=uri, finished=time.time())
            with self._store.workspace() as out:
                self._make(stage, like, out)
                self._made[stage] = artifacts.save(self._store, ref, out)
        return self._made[stage]

    def _make(self, stage: str, like: ArtifactRef | None, out: Path) -> None:
        """By the stage itself, but for those that take a network."""
        if stage == "language":
            save_records(SpokenLanguage(code="en", checked=False), out / _LANGUAGE)
        elif stage == "embeddings":
            width = load_embeddings(artifacts.artifact_file(like, _EMBEDDINGS)).vectors.shape[1] if like else DIMENSIONS
            count = min(8, width)
            times = [float(second) for second in range(count)]
            vectors = np.eye(count, width, dtype=np.float32)
            save_embeddings(Embeddings(list(range(count)), times, vectors), out / _EMBEDDINGS)
        else:
            STAGES[stage](**self._arguments(stage, {}), out=out)


def _said(error: Exception) -> str:
    text = error.message if isinstance(error, ReelflowError) else f"{type(error).__name__}: {error}"
    return " ".join(hide_secrets(text).split())[:MOST_LETTERS]


def _detail(error: Exception) -> str:
    return error.detail if isinstance(error, ReelflowError) else "".join(traceback.format_exception(error))[-4000:]
