"""Weights are found in the documented order, bundled ones never by accident, and a miss says what to do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tasks.core.errors import BadModel, ModelNotFound, NetworkError
from tasks.core.models import bundled, weights
from tasks.core.models.weights import fetch_weights, list_models, resolve_whisper, resolve_yolo
from tasks.core.models.weights_file import file_digest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No caches but this test's."""
    folder = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(folder / "config"))
    (folder / "cache" / "whisper").mkdir(parents=True)
    (folder / "config" / "Ultralytics").mkdir(parents=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + path.name.encode())
    return path


def test_an_explicit_path_comes_first(folder: Path, tmp_path: Path) -> None:
    put(folder / "base.pt")
    own = put(tmp_path / "elsewhere" / "my-model.pt")
    for found in (resolve_whisper(str(own), folder), resolve_yolo(str(own), folder)):
        assert found.path == own
        assert found.info.name == "my-model"
        assert found.info.digest == hashlib.sha256(own.read_bytes()).hexdigest()
        assert not found.info.bundled
    with pytest.raises(ModelNotFound, match="check the path"):
        resolve_yolo(str(tmp_path / "gone" / "yolo11n.pt"), folder)


def test_the_models_folder_comes_before_the_librarys_cache(folder: Path, home: Path) -> None:
    address = weights.whisper_models()["base"]
    cached = home / "cache" / "whisper" / "base.pt"
    cached.write_bytes(b"broken off")
    with pytest.raises(ModelNotFound):
        resolve_whisper("base", folder)
    assert address.split("/")[-2] != file_digest(cached)
    own = put(folder / "base.pt")
    assert resolve_whisper("base", folder).path == own
    library = put(home / "weights" / "yolo11s.pt")
    settings = home / "config" / "Ultralytics" / "settings.json"
    settings.write_text(json.dumps({"weights_dir": str(library.parent)}))
    assert resolve_yolo("yolo11s", folder).path == library
    own = put(folder / "yolo" / "yolo11s.pt")
    assert resolve_yolo("yolo11s.pt", folder).path == own


def test_a_whole_download_of_the_library_is_used(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = put(home / "cache" / "whisper" / "tiny.pt")
    digest = file_digest(cached)
    monkeypatch.setattr(weights, "whisper_models", lambda: {"tiny": f"scheme://host/{digest}/tiny.pt"})
    assert resolve_whisper("tiny", folder).path == cached


def test_auto_takes_the_best_for_the_hardware(folder: Path) -> None:
    there = "tiny base.en base large-v3-turbo yolo11n-int8dequant yolo11x yolo11m-seg yolov8n"
    for name in there.split():
        put(folder / f"{name}.pt")
    assert resolve_whisper("auto", folder, gpu=True).info.name == "large-v3-turbo"
    assert resolve_whisper("auto", folder, gpu=False).info.name == "base"
    assert resolve_whisper("auto", folder, gpu=False, language="en").info.name == "base.en"
    assert resolve_yolo("auto", folder, gpu=True).info.name == "yolo11x"
    assert resolve_yolo("auto", folder, gpu=False).info.name == "yolo11n-int8dequant"
    assert resolve_yolo("yolo11n", folder).info.name == "yolo11n-int8dequant"


def test_names_do_not_match_longer_names(folder: Path) -> None:
    put(folder / "large-v3-turbo.pt")
    put(folder / "base.en.pt")
    with pytest.raises(ModelNotFound):
        resolve_whisper("large-v3", folder)
    with pytest.raises(ModelNotFound):
        resolve_whisper("base", folder)
    assert resolve_whisper("turbo", folder).info.name == "large-v3-turbo"
    put(folder / "yolo11nano.pt")
    with pytest.raises(ModelNotFound):
        resolve_yolo("yolo11n", folder)


@pytest.mark.parametrize("resolve", [resolve_whisper, resolve_yolo])
def test_auto_never_takes_the_bundled_model(folder: Path, resolve: type) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve("auto", folder)
    assert str(folder) in caught.value.message
    assert "python -m flows models fetch" in caught.value.message


def test_a_miss_names_the_file_the_folders_and_the_command(folder: Path, home: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve_whisper("small", folder)
    assert "small.pt" in caught.value.message
    assert str(folder) in caught.value.message
    assert str(home / "cache" / "whisper") in caught.value.message
    assert "models fetch small" in caught.value.message
    with pytest.raises(ModelNotFound, match="names: tiny"):
        resolve_whisper("colossal", folder)
    with pytest.raises(ModelNotFound, match=r"REELFLOW_MODELS_DIR|looked in"):
        resolve_yolo("yolo11n.pt", None)


def test_bundled_is_said_to_be_bundled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "SPEECH_CHECKPOINT", put(folder / "x" / "whisper-bundled.pt"))
    monkeypatch.setattr(bundled, "SHAPES_WEIGHTS", put(folder / "x" / "yolo11-shapes.pt"))
    assert resolve_whisper("bundled", folder).info.bundled
    assert resolve_yolo("bundled", folder).info.bundled
    put(folder / "base.pt")
    put(folder / "yolo11n.pt")
    rows = [row for row in list_models(folder) if row.kind != "siglip"]
    assert [(row.kind, row.name, row.bundled) for row in rows] == [
        ("whisper", "whisper-bundled", True), ("yolo", "yolo11-shapes", True),
        ("whisper", "base", False), ("yolo", "yolo11n", False),
    ]  # fmt: skip
    assert all(row.bytes == Path(row.where).stat().st_size for row in rows)


def test_digest_follows_the_content(folder: Path) -> None:
    path = put(folder / "yolo11n.pt")
    before = file_digest(path)
    path.write_bytes(b"something else entirely")
    assert file_digest(path) == hashlib.sha256(b"something else entirely").hexdigest() != before


def test_whisper_models_are_the_librarys() -> None:
    import whisper

    assert weights.whisper_models() == whisper._MODELS


def test_fetch_checks_what_came_and_leaves_no_partial_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import whisper

    def download(address: str, root: str, in_memory: bool) -> str:
        path = Path(root) / address.rsplit("/", 1)[-1]
        path.write_bytes(b"not what was published")
        return str(path)

    monkeypatch.setattr(whisper, "_download", download)
    with pytest.raises(BadModel, match="not what was published"):
        fetch_weights("tiny", folder)
    assert list(folder.iterdir()) == []
    good = {"tiny": f"scheme://host/{hashlib.sha256(b'not what was published').hexdigest()}/tiny.pt"}
    monkeypatch.setattr(weights, "whisper_models", lambda: good)
    assert resolve_whisper("tiny", folder, download=True).path == folder / "tiny.pt"
    assert [path.name for path in folder.iterdir()] == ["tiny.pt"]


def test_fetch_without_a_network_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import whisper

    def download(address: str, root: str, in_memory: bool) -> str:
        raise ConnectionRefusedError("no route")

    monkeypatch.setattr(whisper, "_download", download)
    with pytest.raises(NetworkError, match="check the network"):
        fetch_weights("tiny", folder)
    with pytest.raises(ModelNotFound, match="neither"):
        fetch_weights("../../evil", folder)
