"""What a command names lies in the folder where it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.paths import whole_path


def test_a_file_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.pt").touch()
    monkeypatch.chdir(tmp_path / "folder")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("mine.pt", "./mine.pt", "../folder/mine.pt", "~/folder/mine.pt"):
        assert Path(whole_path(name)).is_absolute()
        assert Path(whole_path(name)).samefile("mine.pt")
    for name in ("base.en", "google/siglip-base-patch16-224", "", "auto"):
        assert whole_path(name) == name
