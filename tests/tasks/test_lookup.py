from pathlib import Path

import pytest

from tasks.core.errors import ModelNotFound
from tasks.core.options import AnalyzeOptions, parse_options
from tasks.records.lookup import find_models

BUNDLED = ("transcript.model=bundled", "detections.weights=bundled", "embeddings.model=bundled")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, on a host that has none elsewhere."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("REELFLOW_MODELS_DIR", str(folder))
    return folder


def test_a_notice_says_what_is_left_out_and_nothing_of_the_host(models: Path) -> None:
    (models / "tiny.en.pt").write_bytes(b"weights")
    found, notices = find_models(AnalyzeOptions())
    assert set(found) == {"transcript"}
    assert [notice.split(":")[0] for notice in notices] == ["No detections", "No embeddings"]
    assert "YOLO" in notices[0]
    assert "SigLIP" in notices[1]
    assert all("doctor" in notice and "/" not in notice for notice in notices)


def test_where_nothing_is_found_the_error_says_where_it_looked(models: Path) -> None:
    with pytest.raises(ModelNotFound, match="models fetch") as caught:
        find_models(AnalyzeOptions())
    assert str(models) in caught.value.message


def test_a_models_folder_that_does_not_exist_is_an_error_unless_no_model_is_sought_in_it(models: Path) -> None:
    models.rmdir()
    with pytest.raises(ModelNotFound, match="no such folder") as caught:
        find_models(AnalyzeOptions())
    assert str(models) in caught.value.message
    assert set(find_models(parse_options(BUNDLED))[0]) == {"transcript", "detections", "embeddings", "tags"}
