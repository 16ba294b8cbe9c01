"""Finds SigLIP folders: a path, the models folder, Hugging Face's cache, then (if allowed) a download.

Nothing here loads a model or imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import BadModel, ModelNotFound, NetworkError
from tasks.core.models import bundled
from tasks.core.models.weights_file import WeightsFile, file_digest, has_gpu, not_found
from tasks.core.schema import ModelInfo

ON_GPU, ON_CPU = "google/siglip-so400m-patch14-384", "google/siglip-base-patch16-224"
"""What is recommended where there is none: `auto` takes the best on a GPU, and the quickest on a CPU."""

OWNER = "google"
"""Publisher that a name without one means."""

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
FILES = ("*.json", "*.safetensors", "spiece.model", "tokenizer.model")
"""What is downloaded of a repository: nothing that holds code or pickles."""

REVISION = "revision.json"
"""Written beside a download: which repository and commit it is."""


def resolve_siglip(
    name: str, models_dir: Path | None, download: bool = False, *, gpu: bool | None = None
) -> WeightsFile:
    """The folder of auto, bundled, a repository (google/siglip-base-patch16-224), its last part, or a path.

    auto takes the largest SigLIP that is there on a GPU (`gpu`; None: look) and the quickest on a CPU, never the
    bundled one.  Raises ModelNotFound, which says where it looked; BadModel for a folder that has no safetensors.
    """
    if name == "bundled":
        return _bundled()
    folders = _folders(models_dir)
    if name == "auto":
        ranked = [(cost, path) for path in _models(models_dir) if (cost := _cost(path)) is not None]
        if not ranked:
            raise not_found("no SigLIP model", folders, ON_GPU if has_gpu(gpu) else ON_CPU)
        ranked.sort(key=lambda found: (-found[0] if has_gpu(gpu) else found[0], str(found[1])))
        return _weights(ranked[0][1])
    if not REPOSITORY.fullmatch(name):
        path = Path(name).expanduser()
        if (path / "config.json").is_file():
            return _weights(path)
        raise ModelNotFound(f"{name}: there is no SigLIP folder (config.json, model.safetensors); check the path")
    repository = name if "/" in name else f"{OWNER}/{name}"
    found = _named(repository, models_dir)
    if found is not None:
        return _weights(found)
    if download:
        return fetch_siglip(repository, models_dir)
    raise not_found(repository, folders, repository)


def fetch_siglip(name: str, models_dir: Path | None) -> WeightsFile:
    """Downloads a published SigLIP through huggingface_hub into the models folder, else into its own cache.

    The commit is resolved first and recorded.  Raises ModelNotFound for a repository that is not there or needs
    consent, NetworkError when the download fails, BadModel when what came is no SigLIP.
    """
    repository = name if "/" in name else f"{OWNER}/{name}"
    if not REPOSITORY.fullmatch(name):
        raise ModelNotFound(f"{name}: no name of a repository; write it as {ON_CPU}")
    if models_dir is None:
        return _weights(_download(repository, None)[0])
    models_dir.mkdir(parents=True, exist_ok=True)
    target = models_dir / repository.rpartition("/")[2]
    if target.exists():
        raise BadModel(f"{target} is there already; move it away to download {repository} again")
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=".fetch-") as partial:
        folder, commit = _download(repository, Path(partial) / "model")
        (folder / REVISION).write_text(json.dumps({"repository": repository, "revision": commit}) + "\n", "utf-8")
        weights_digest(folder)
        folder.replace(target)
    return _weights(target)


def is_siglip_name(name: str) -> bool:
    """Whether a name means a SigLIP rather than another kind of model."""
    return "siglip" in name.casefold() and REPOSITORY.fullmatch(name) is not None


def list_siglips(models_dir: Path | None) -> list[WeightsFile]:
    """Every SigLIP folder that can be found, the bundled one first."""
    own = [_bundled()] if bundled.SCENES_MODEL.is_dir() else []
    return own + [_weights(path) for path in _models(models_dir)]


def weights_files(folder: Path) -> list[Path]:
    """The safetensors of a folder, in order of name. Raises BadModel where there are none."""
    found = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not found:
        raise BadModel(
            f"{folder} has no model.safetensors; get the whole model again (pickled weights could run code, and are "
            "never read)"
        )
    return found


def weights_digest(folder: Path) -> str:
    """sha256 of the weights file in hex; of the digests of all, where a checkpoint is in several files."""
    digests = [file_digest(path) for path in weights_files(folder)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _weights(folder: Path) -> WeightsFile:
    folder = folder.absolute()
    return WeightsFile(folder, ModelInfo(name=_name(folder), digest=weights_digest(folder)))


def _bundled() -> WeightsFile:
    folder = bundled.SCENES_MODEL
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"the bundled model {folder} is missing; restore it with git checkout")
    return WeightsFile(folder, ModelInfo(name=folder.name, digest=weights_digest(folder), bundled=True))


def _name(folder: Path) -> str:
    """The folder's own name; the repository's for a snapshot in Hugging Face's cache, which is named by its commit."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.rpartition("--")[2]
    return folder.name


def _folders(models_dir: Path | None) -> list[Path]:
    own = [models_dir, models_dir / "siglip"] if models_dir else []
    return [*own, _cache()]


def _cache() -> Path:
    """As huggingface_hub has it."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _models(models_dir: Path | None) -> Iterator[Path]:
    """Folders that hold a SigLIP of fixed resolution and its weights."""
    own = [models_dir, models_dir / "siglip"] if models_dir else []
    for folder in own:
        yield from (path for path in sorted(folder.glob("*/")) if _is_whole(path))
    for repository in sorted(_cache().glob("models--*")):
        snapshot = _snapshot(repository)
        if snapshot and _is_whole(snapshot):
            yield snapshot


def _named(repository: str, models_dir: Path | None) -> Path | None:
    last = repository.rpartition("/")[2]
    own = [models_dir / last, models_dir / repository, models_dir / "siglip" / last] if models_dir else []
    cached = _snapshot(_cache() / f"models--{repository.replace('/', '--')}")
    for folder in [*own, *([cached] if cached else [])]:
        if (folder / "config.json").is_file() and (folder in own or _is_whole(folder)):
            return folder
    return None


def _snapshot(repository: Path) -> Path | None:
    """The commit that the cache's main branch points at."""
    try:
        commit = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return repository / "snapshots" / commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def _is_whole(folder: Path) -> bool:
    """Whether a folder says that it is a SigLIP and has weights; an interrupted download has none."""
    return _cost(folder) is not None and any(folder.glob("*.safetensors"))


def _cost(folder: Path) -> float | None:
    """Multiplications per picture, about, from config.json; None for what is no SigLIP of fixed resolution."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config["model_type"] != "siglip":
            return None
        vision = {"hidden_size": 768, "num_hidden_layers": 12, "image_size": 224, "patch_size": 16}
        vision |= {name: int(value) for name, value in config["vision_config"].items() if name in vision}
        patches = (vision["image_size"] / vision["patch_size"]) ** 2
        return float(vision["num_hidden_layers"] * vision["hidden_size"] ** 2 * patches)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, RecursionError):
        return None


def _download(repository: str, folder: Path | None) -> tuple[Path, str]:
    """The downloaded folder and its commit."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    except ImportError as error:
        raise ModelNotFound("huggingface_hub is not installed; run make setup") from error
    try:
        commit = huggingface_hub.HfApi().model_info(repository).sha or "main"
        path = huggingface_hub.snapshot_download(
            repository, revision=commit, allow_patterns=list(FILES), local_dir=folder
        )
    except GatedRepoError as error:
        raise ModelNotFound(
            f"{repository} asks for consent: accept its terms on its page, then set HF_TOKEN", detail=str(error)
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"{repository}: no such repository, or it is private; check the name ({ON_CPU})", detail=str(error)
        ) from error
    except Exception as error:  # huggingface_hub's errors, its HTTP library's and the system's have no common base
        raise NetworkError(f"{repository}: the download failed ({error}); check the network and try again") from error
    return Path(path), commit
