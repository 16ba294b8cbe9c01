"""Finds weights: an explicit path, the models folder, the library's own cache, then (if allowed) its download.

Nothing here loads a model or imports torch, except a download.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tasks.core.errors import BadModel, ModelNotFound, NetworkError
from tasks.core.models import bundled
from tasks.core.models.weights_file import WeightsFile, file_digest, has_gpu, not_found
from tasks.core.schema import ModelInfo, Record

Kind = Literal["whisper", "yolo", "siglip"]

SIZES_ON_GPU = ("large-v3", "large-v3-turbo", "large-v2", "large-v1", "medium", "small", "base", "tiny")
SIZES_ON_CPU = ("base", "small", "tiny", "medium", "large-v3-turbo", "large-v3", "large-v2", "large-v1")
"""Whisper sizes, the one to take first where several are there: the best on a GPU, the quickest good one on a CPU."""

ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}
YOLO_FAMILIES = ("11", "26", "12", "v10", "v9", "v8")
YOLO_NAME = re.compile(r"yolo(11|26|12|v10|v9|v8)([nsmlx])(?![a-z0-9])")
YOLO_TASKS = re.compile(r"-(seg|pose|cls|obb|sem)\b")
"""Endings of models that give something else than boxes."""


class ModelRow(Record):
    """One line of the `models` command."""

    kind: Kind
    name: str
    where: str
    bytes: int
    digest: str
    bundled: bool


def resolve_whisper(
    name: str, models_dir: Path | None, download: bool = False, *, language: str | None = None, gpu: bool | None = None
) -> WeightsFile:
    """The speech model that `name` means: auto, bundled, a Whisper name (base.en) or a path.

    auto takes the best real weights that are there for the hardware (`gpu`; None: look): where `language` is "en" the
    English-only ones of a size first, else multilingual ones of any size before those, which cannot tell a language.
    It never takes the bundled ones.  Raises ModelNotFound, which says where it looked.
    """
    if name == "bundled":
        return _bundled("whisper")
    folders = _folders("whisper", models_dir)
    if name == "auto":
        sizes = SIZES_ON_GPU if has_gpu(gpu) else SIZES_ON_CPU
        if language == "en":
            ranking = [size + ending for size in sizes for ending in (".en", "")]
        else:
            ranking = [size + ending for ending in ("", ".en") for size in sizes]
        found = _best_whisper(folders, ranking)
        if found is None:
            raise not_found("no Whisper weights", folders, "base" if language != "en" else "base.en")
        return found
    if (path := _explicit(name)) is not None:
        return _weights(path)
    canonical = ALIASES.get(name, name)
    found = _named_whisper(folders, canonical)
    if found is not None:
        return found
    if canonical not in whisper_models():
        names = ", ".join(whisper_models())
        raise not_found(f"{name}: no such Whisper model or file (names: {names})", folders, "base")
    if download:
        return fetch_weights(canonical, models_dir)
    raise not_found(f"{canonical}.pt", folders, canonical)


def resolve_yolo(name: str, models_dir: Path | None, download: bool = False, *, gpu: bool | None = None) -> WeightsFile:
    """The detector that `name` means: auto, bundled, a name in the models folder (yolo11n, yolo11n.pt) or a path.

    A name also finds files that only begin with it (yolo11n-int8.pt).  auto takes the largest YOLO that is there on a
    GPU and the smallest on a CPU, never the bundled one.  Raises ModelNotFound, which says where it looked.
    """
    if name == "bundled":
        return _bundled("yolo")
    folders = _folders("yolo", models_dir)
    if name == "auto":
        ranked = sorted(
            (rank, path) for path in _files(folders) if (rank := _yolo_rank(path.stem, has_gpu(gpu))) is not None
        )
        if not ranked:
            raise not_found("no YOLO weights", folders, "yolo11n.pt")
        return _weights(ranked[0][1])
    if (path := _explicit(name)) is not None:
        return _weights(path)
    stem = name.removesuffix(".pt")
    matching = [path for path in _files(folders) if _begins(path.stem, stem)]
    if matching:
        return _weights(min(matching, key=lambda path: path.stem != stem))
    if download:
        return fetch_weights(f"{stem}.pt", models_dir)
    raise not_found(f"{stem}.pt", folders, f"{stem}.pt")


def fetch_weights(name: str, models_dir: Path | None) -> WeightsFile:
    """Downloads published weights through their library into the models folder, else the library's cache.

    Whisper's files are checked against the digest in their address; a SigLIP is a folder.  Raises ModelNotFound for a
    name that is not published, NetworkError when the download fails, BadModel when what came is not what was published.
    """
    from tasks.core.models import siglip_weights

    if siglip_weights.is_siglip_name(name):
        return siglip_weights.fetch_siglip(name, models_dir)
    canonical = ALIASES.get(name, name)
    kind: Kind = "whisper" if canonical in whisper_models() else "yolo"
    folder = models_dir or (_whisper_cache() if kind == "whisper" else _yolo_cache() or Path.cwd())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as partial:
        got = _fetch_whisper(canonical, Path(partial)) if kind == "whisper" else _fetch_yolo(canonical, Path(partial))
        path = folder / got.name
        got.replace(path)
    return _weights(path)


def list_models(models_dir: Path | None) -> list[ModelRow]:
    """Everything that the resolvers can find, the bundled ones first."""
    from tasks.core.models import siglip_weights

    rows = [_row("siglip", found) for found in siglip_weights.list_siglips(models_dir)]
    for kind in ("whisper", "yolo"):
        if _bundled_path(kind).is_file():
            rows.append(_row(kind, _bundled(kind)))
        rows += [_row(kind, _weights(path)) for path in _files(_folders(kind, models_dir)) if _kind(path.stem) == kind]
    return sorted({row.where: row for row in rows}.values(), key=lambda row: (not row.bundled, row.kind, row.name))


@functools.cache
def whisper_models() -> dict[str, str]:
    """Address by name of the published Whisper weights, read from the library's source without importing it."""
    spec = importlib.util.find_spec("whisper")
    if spec is None or spec.origin is None:
        raise ModelNotFound("openai-whisper is not installed; run make setup")
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "_MODELS" for t in node.targets):
            return dict(ast.literal_eval(node.value))
    raise ModelNotFound("this release of openai-whisper lists no models; install the locked one with make setup")


def _weights(path: Path) -> WeightsFile:
    path = path.absolute()
    return WeightsFile(path, ModelInfo(name=path.stem, digest=file_digest(path)))


def _bundled_path(kind: Kind) -> Path:
    return bundled.SPEECH_CHECKPOINT if kind == "whisper" else bundled.SHAPES_WEIGHTS


def _bundled(kind: Kind) -> WeightsFile:
    path = _bundled_path(kind)
    if not path.is_file():
        raise ModelNotFound(f"the bundled model {path} is missing; restore it with git checkout")
    return WeightsFile(path, ModelInfo(name=path.stem, digest=file_digest(path), bundled=True))


def _row(kind: Kind, weights: WeightsFile) -> ModelRow:
    files = weights.path.glob("*.safetensors") if weights.path.is_dir() else [weights.path]
    return ModelRow(
        kind=kind,
        name=weights.info.name,
        where=str(weights.path),
        bytes=sum(path.stat().st_size for path in files),
        digest=weights.info.digest,
        bundled=weights.info.bundled,
    )


def _kind(stem: str) -> Kind | None:
    if _whisper_name(stem) is not None:
        return "whisper"
    return "yolo" if stem.startswith("yolo") else None


def _explicit(name: str) -> Path | None:
    """The file that `name` is the path of; a bare name is none, whatever lies in the folder that this process is in."""
    path = Path(name).expanduser()
    if os.sep not in name:
        return None
    if not path.is_file():
        raise ModelNotFound(f"{name}: there is no such weights file; check the path")
    return path


def _folders(kind: Kind, models_dir: Path | None) -> list[Path]:
    cache = _whisper_cache() if kind == "whisper" else _yolo_cache()
    own = [models_dir, models_dir / kind] if models_dir else []
    return [*own, *([cache] if cache else [])]


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_dir():
            yield from sorted(path for path in folder.glob("*.pt") if path.is_file())


def _whisper_cache() -> Path:
    """As whisper.load_model has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper"


def _yolo_cache() -> Path | None:
    """The weights folder that the settings of ultralytics name; None where it was never configured."""
    base = os.environ.get("YOLO_CONFIG_DIR") or os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    try:
        settings = json.loads((Path(base) / "Ultralytics" / "settings.json").read_text(encoding="utf-8"))
        return Path(settings["weights_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _begins(stem: str, name: str) -> bool:
    return stem == name or (stem.startswith(name) and not stem[len(name)].isalnum())


def _whisper_name(stem: str) -> str | None:
    """The longest published name that a file name begins with: large-v3-turbo, not large-v3."""
    names = [name for name in whisper_models() if name not in ALIASES and _begins(stem, name)]
    return max(names, key=len, default=None)


def _best_whisper(folders: list[Path], ranking: list[str]) -> WeightsFile | None:
    for name in ranking:
        found = _named_whisper(folders, name)
        if found is not None:
            return found
    return None


def _named_whisper(folders: list[Path], name: str) -> WeightsFile | None:
    for path in sorted(_files(folders), key=lambda path: path.stem != name):
        if _whisper_name(path.stem) != name and path.stem != name:
            continue
        found = _weights(path)
        published = whisper_models().get(name)
        if path.parent == _whisper_cache() and published and found.info.digest not in published:
            continue  # an interrupted download of the library's
        return found
    return None


def _yolo_rank(stem: str, gpu: bool) -> tuple[int, int, int] | None:
    match = YOLO_NAME.match(stem)
    if match is None or YOLO_TASKS.search(stem):
        return None
    return ("xlmsn" if gpu else "nsmlx").index(match[2]), YOLO_FAMILIES.index(match[1]), len(stem)


def _fetch_whisper(name: str, folder: Path) -> Path:
    import whisper

    address = whisper_models()[name]
    try:
        path = Path(whisper._download(address, str(folder), False))
    except OSError as error:
        raise NetworkError(f"{name}: the download failed ({error}); check the network and try again") from error
    except RuntimeError as error:
        raise BadModel(f"{name}: the download is damaged; try again", detail=str(error)) from error
    if file_digest(path) != address.split("/")[-2]:
        raise BadModel(f"{name}: the download is not what was published; try again")
    return path


def _fetch_yolo(name: str, folder: Path) -> Path:
    from tasks.core.models.yolo import import_ultralytics

    import_ultralytics(None)
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    file = name if name.endswith(".pt") else f"{name}.pt"
    if Path(file).name != file or file not in GITHUB_ASSETS_NAMES:
        raise ModelNotFound(
            f"{name}: neither Whisper, Ultralytics nor a SigLIP is published under it; see: python -m flows models list"
        )
    offline = os.environ.pop("YOLO_OFFLINE", None)
    try:
        path = Path(attempt_download_asset(folder / file))
    except (OSError, RuntimeError, ConnectionError) as error:
        raise NetworkError(f"{file}: the download failed ({error}); check the network and try again") from error
    finally:
        if offline is not None:
            os.environ["YOLO_OFFLINE"] = offline
    if not path.is_file() or path.parent != folder:
        raise NetworkError(f"{file}: the download failed; check the network and try again")
    return path
