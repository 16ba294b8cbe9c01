"""SigLIP folders are found in the documented order, never the bundled one by accident, and a miss says what to do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import BadModel, ModelNotFound, NetworkError
from tasks.core.models import bundled, siglip_weights
from tasks.core.models.siglip_weights import ON_CPU, ON_GPU, fetch_siglip, list_siglips, resolve_siglip
from tasks.core.models.weights import fetch_weights, list_models
from tests.source_tree import ROOT

PAGES = [ROOT / "README.md", ROOT / "docs" / "first-steps.md"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache of this test."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


def put(folder: Path, kind: str = "siglip", weights: bytes = b"", **vision: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "vision_config": vision}))
    (folder / "model.safetensors").write_bytes(weights or folder.name.encode())
    return folder


def put_cached(cache: Path, repository: str, **vision: int) -> Path:
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    return put(root / "snapshots" / COMMIT, "siglip", repository.encode(), **vision)


def test_a_path_comes_first_then_the_models_folder_then_the_cache(models: Path, cache: Path, tmp_path: Path) -> None:
    own = put(tmp_path / "elsewhere" / "mine")
    found = resolve_siglip(str(own), models)
    assert (found.path, found.info.name, found.info.bundled) == (own, "mine", False)
    assert found.info.digest == hashlib.sha256(b"mine").hexdigest()
    name = "google/siglip-base-patch16-224"
    cached = put_cached(cache, name)
    found = resolve_siglip(name, models)
    assert (found.path, found.info.name) == (cached, "siglip-base-patch16-224")
    beside = put(models / "siglip" / "siglip-base-patch16-224")
    assert resolve_siglip(name, models).path == beside
    first = put(models / "siglip-base-patch16-224")
    for written in (name, "siglip-base-patch16-224"):
        assert resolve_siglip(written, models).path == first
    with pytest.raises(ModelNotFound):
        resolve_siglip("google/siglip-base-patch16-256", models)


def test_the_digest_is_of_every_weights_file(models: Path) -> None:
    folder = put(models / "siglip-in-parts", weights=b"first")
    one = resolve_siglip("siglip-in-parts", models).info.digest
    (folder / "model-00002.safetensors").write_bytes(b"second")
    two = resolve_siglip("siglip-in-parts", models).info.digest
    (folder / "model-00002.safetensors").write_bytes(b"another")
    assert len({one, two, resolve_siglip("siglip-in-parts", models).info.digest}) == 3


def test_auto_takes_the_best_for_the_hardware_and_never_the_bundled_one(models: Path, cache: Path) -> None:
    large = put(models / "siglip-large", hidden_size=1024, num_hidden_layers=24, image_size=256, patch_size=16)
    base = put(models / "siglip-base", hidden_size=768)
    so400m = put_cached(cache, "google/x", hidden_size=1152, num_hidden_layers=27, image_size=384, patch_size=14)
    put(models / "naflex", kind="siglip2", hidden_size=64)
    put(models / "clip", kind="clip", hidden_size=64)
    (put(models / "broken-off", hidden_size=64) / "model.safetensors").unlink()
    assert resolve_siglip("auto", models, gpu=True).path == so400m
    assert resolve_siglip("auto", models, gpu=False).path == base
    assert {found.path for found in list_siglips(models)} == {bundled.SCENES_MODEL, large, base, so400m}


@pytest.mark.parametrize(("gpu", "name"), [(True, ON_GPU), (False, ON_CPU)])
def test_what_is_recommended_fits_the_hardware_and_is_what_the_pages_say(gpu: bool, name: str, models: Path) -> None:
    with pytest.raises(ModelNotFound, match=f"models fetch {name}$"):
        resolve_siglip("auto", models, gpu=gpu)
    for page in PAGES:
        fetched = [line for line in page.read_text("utf-8").splitlines() if "models fetch google/" in line]
        assert len(fetched) == 1
        assert name in fetched[0].partition("#")[2 if gpu else 0]


def test_bundled_is_said_to_be_bundled(models: Path) -> None:
    found = resolve_siglip("bundled", models)
    assert (found.path, found.info.name, found.info.bundled) == (bundled.SCENES_MODEL, "siglip-scenes", True)
    own = put(models / "siglip-base")
    rows = [row for row in list_models(models) if row.kind == "siglip"]
    assert [(row.name, row.bundled, row.where) for row in rows] == [
        ("siglip-scenes", True, str(bundled.SCENES_MODEL)),
        ("siglip-base", False, str(own)),
    ]
    assert rows[1].bytes == len("siglip-base")


def test_a_miss_names_the_folders_and_the_command(models: Path, cache: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve_siglip("siglip2-base-patch16-224", models)
    for part in ("google/siglip2-base-patch16-224", str(models), str(cache), "python -m flows models fetch google/"):
        assert part in caught.value.message
    for name in (str(models / "gone"), "../gone", "a/b/c", "", "siglip base", "~/gone"):
        with pytest.raises(ModelNotFound, match="check the path"):
            resolve_siglip(name, models)


def test_a_folder_without_safetensors_says_so(models: Path) -> None:
    folder = put(models / "siglip-base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadModel, match=r"no model\.safetensors"):
        resolve_siglip("siglip-base", models)


def test_a_cache_whose_pointer_is_damaged_is_passed_over(models: Path, cache: Path) -> None:
    name = "google/siglip-base-patch16-224"
    put_cached(cache, name)
    pointer = cache / "models--google--siglip-base-patch16-224" / "refs" / "main"
    for damaged in ("../../..", "", "x" * 40):
        pointer.write_text(damaged)
        with pytest.raises(ModelNotFound):
            resolve_siglip(name, models)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """huggingface_hub with one repository; what it was asked for."""
    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot(repository: str, *, revision: str, allow_patterns: list[str], local_dir: Path | None) -> str:
        asked.update(repository=repository, revision=revision, patterns=allow_patterns)
        assert local_dir is not None
        return str(put(Path(local_dir), **{"kind": asked.get("kind", "siglip")}))

    class Api:
        def model_info(self, repository: str) -> Any:
            if "error" in asked:
                raise asked["error"]
            return type("Info", (), {"sha": COMMIT})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked


def test_a_download_is_whole_and_says_its_commit(models: Path, hub: dict[str, Any]) -> None:
    name = "siglip2-base-patch16-224"
    found = resolve_siglip(name, models, download=True)
    assert found.path == models / name
    assert hub["repository"] == f"google/{name}"
    assert hub["revision"] == COMMIT
    assert not any(pattern.endswith((".bin", ".py", ".pt", ".msgpack", "*")) for pattern in hub["patterns"])
    said = json.loads((models / name / siglip_weights.REVISION).read_text())
    assert said == {"repository": f"google/{name}", "revision": COMMIT}
    assert [path.name for path in models.iterdir()] == [name]
    with pytest.raises(BadModel, match="move it away"):
        fetch_siglip(name, models)


def test_models_fetch_knows_a_siglip_by_its_name(models: Path, hub: dict[str, Any]) -> None:
    assert fetch_weights("google/siglip-base-patch16-224", models).path == models / "siglip-base-patch16-224"
    with pytest.raises(ModelNotFound):
        fetch_weights("../siglip", models)


def test_a_failed_download_leaves_nothing(models: Path, hub: dict[str, Any]) -> None:
    import httpx2
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    answer = httpx2.Response(404, request=httpx2.Request("GET", "https://host.invalid"))
    wanted: list[tuple[Exception, type[Exception], str]] = [
        (ConnectionRefusedError("no route"), NetworkError, "check the network"),
        (httpx2.ConnectTimeout("slow"), NetworkError, "check the network"),
        (RepositoryNotFoundError("gone", response=answer), ModelNotFound, "check the name"),
        (GatedRepoError("gated", response=answer), ModelNotFound, "HF_TOKEN"),
    ]
    for error, kind, message in wanted:
        hub["error"] = error
        with pytest.raises(kind, match=message):
            fetch_siglip("google/siglip-base-patch16-224", models)
    assert list(models.iterdir()) == []
