"""What runs of deployments may name: roots hold whatever is written, links and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import allowed
from tasks.core.errors import NotAllowed
from tasks.core.options import parse_options


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store, an inbox, models and what is none of anybody's business."""
    for folder in ("inbox/camera=a", "store", "models/text_banks", "private", "inbox2"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("private/diary.mp4", "inbox/a.mp4", "models/yolo11n.pt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "inbox" / "out.mp4").symlink_to(tmp_path / "private" / "diary.mp4")
    (tmp_path / "inbox" / "folder").symlink_to(tmp_path / "private")
    (tmp_path / "models" / "out.pt").symlink_to(tmp_path / "private" / "diary.mp4")
    monkeypatch.setenv("REELFLOW_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("REELFLOW_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("REELFLOW_ALLOWED_SOURCES", raising=False)
    monkeypatch.delenv("REELFLOW_ALLOWED_STORES", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _taken(source: str) -> bool:
    try:
        allowed.check_source(source)
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("{here}/inbox/a.mp4", True),
        ("file://{here}/inbox/a.mp4", True),
        ("inbox/camera=a/new.mp4", True),
        ("{here}/store/media/x/a.mp4", True),
        ("{here}/inbox/../private/diary.mp4", False),
        ("file://{here}/inbox/%2e%2e/private/diary.mp4", False),
        ("{here}/inbox/out.mp4", False),
        ("{here}/inbox/folder/diary.mp4", False),
        ("{here}/inbox2/a.mp4", False),
        ("{here}/private/diary.mp4", False),
        ("/etc/passwd", False),
        ("~/inbox/a.mp4", False),
        ("file://elsewhere{here}/inbox/a.mp4", False),
        ("inbox/a\0.mp4", False),
        ("s3://bucket/a.mp4", False),
        ("https://host/a.mp4", False),
        ("secret://gate", False),
    ],
)
def test_without_a_list_it_is_the_store_and_the_inbox(here: Path, source: str, taken: bool) -> None:
    assert _taken(source.format(here=here)) is taken


@pytest.mark.parametrize(
    ("source", "taken"),
    [("s3://reelflow/inbox/a.mp4", True), ("s3://reelflow", True), ("s3://reelflow2/a", False), ("/etc/passwd", False)],
)
def test_without_a_list_it_is_the_bucket_of_the_store(
    here: Path, source: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELFLOW_STORE", "s3://reelflow/store")
    assert _taken(source) is taken


@pytest.mark.parametrize(
    ("roots", "source", "taken"),
    [
        ("s3://in/camera/", "s3://in/camera/a.mp4", True),
        ("s3://in/camera", "s3://in/camera2/a.mp4", False),
        ("s3://in/camera", "s3://in/camera/../private/a.mp4", False),
        ("s3://", "s3://any/thing", True),
        ("https://cdn.example/v", "https://CDN.example:443/v/a.mp4", True),
        ("https://cdn.example/v", "http://cdn.example/v/a.mp4", False),
        ("https://cdn.example/v", "https://cdn.example:8443/v/a.mp4", False),
        ("https://cdn.example/v", "https://cdn.example.evil.example/v/a.mp4", False),
        ("https://cdn.example/v", "https://cdn.example/v/%2E%2e/w/a.mp4", False),
        ("https://cdn.example/v", "https://cdn.example/v/..\\w\\a.mp4", False),
        ("https://cdn.example/v", "https://cdn.example/v/a.mp4#secret=cdn", True),
        ("https://cdn.example/v", "https://evil.example/v/a.mp4#secret=cdn", False),
        ("https://cdn.example/v", "https://[broken/v/a.mp4", False),
        ("secret://gate", "secret://gate", True),
        ("secret://gate", "secret://gate2", False),
        ("secret://", "secret://any", True),
        ("/data https://cdn.example", "https://cdn.example/a.mp4", True),
        ("/data https://cdn.example", "/data/a.mp4", True),
        ("/data https://cdn.example", "/database/a.mp4", False),
    ],
)
def test_a_list_names_roots(here: Path, roots: str, source: str, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_ALLOWED_SOURCES", roots)
    assert _taken(source) is taken


@pytest.mark.parametrize(
    ("configured", "listed", "store", "taken"),
    [
        ("{here}/store", "", "{here}/store", True),
        ("{here}/store", "", "{here}/inbox", False),
        ("{here}/store", "{here}/other", "{here}/other/a", True),
        ("s3://reelflow/store", "", "s3://reelflow/mine", True),
        ("s3://reelflow/store", "", "s3://others/store", False),
        ("s3://reelflow/store", "", "s3-bucket/other", False),
        ("s3://reelflow/store", "s3-bucket/other", "s3-bucket/other", True),
    ],
)
def test_stores(
    here: Path, configured: str, listed: str, store: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELFLOW_STORE", configured.format(here=here))
    monkeypatch.setenv("REELFLOW_ALLOWED_STORES", listed.format(here=here))
    if taken:
        allowed.check_store(store.format(here=here))
    else:
        with pytest.raises(NotAllowed, match="REELFLOW_ALLOWED_STORES"):
            allowed.check_store(store.format(here=here))


@pytest.mark.parametrize(
    ("assignment", "taken"),
    [
        ("detections.weights=yolo11n.pt", True),
        ("detections.weights={here}/models/yolo11n.pt", True),
        ("detections.weights={here}/models/../private/diary.mp4", False),
        ("detections.weights={here}/models/out.pt", False),
        ("detections.weights=/etc/shadow", False),
        ("detections.weights=private/diary.mp4", False),
        ("transcript.model=base.en", True),
        ("transcript.model=~/.ssh/id_rsa", False),
        ("embeddings.model=google/siglip-base-patch16-224", True),
        ("embeddings.model=/etc", False),
        ("embeddings.model=../private", False),
        ("tags.bank=mine.yaml", True),
        ("tags.bank={here}/models/text_banks/mine.yaml", True),
        ("tags.bank=/etc/passwd", False),
        ("tags.bank=./diary.yaml", False),
    ],
)
def test_options_name_files_of_the_models_folder(here: Path, assignment: str, taken: bool) -> None:
    options = parse_options([assignment.format(here=here)])
    if taken:
        allowed.check_options(options)
    else:
        with pytest.raises(NotAllowed, match=assignment.partition("=")[0]):
            allowed.check_options(options)


def test_credentials_are_no_parameter() -> None:
    for source in ("https://me:hush@host/a.mp4", "https://host/a.mp4?token=hush", "s3://key:hush@bucket/a"):
        with pytest.raises(NotAllowed, match="secret://NAME") as caught:
            allowed.check_credentials(source)
        assert "hush" not in str(caught.value)
