"""Boxes that other engines stored come back as boxes of their frames."""

from __future__ import annotations

from pathlib import Path

from benchmarks._sides._frames import stored_boxes


def test_boxes_of_all_files_come_with_their_frames_class_and_place(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    person = {"label": "person", "confidence": 0.9, "xyxy": [1.0, 2.0, 30.0, 40.0]}
    dog = {"label": "dog", "confidence": 0.5, "xyxy": [5.0, 6.0, 7.0, 8.0]}
    parts = {"a/0.parquet": ([0, 25], [[person, dog], []]), "b/0.parquet": ([50, 75], [None, [dog]])}
    for name, (frames, found) in parts.items():
        (tmp_path / name).parent.mkdir()
        parquet.write_table(pa.table({"frame_index": frames, "found": found}), tmp_path / name)
    (tmp_path / "c").mkdir()
    parquet.write_table(pa.table({"frame_index": [100], "found": [[]]}), tmp_path / "c" / "0.parquet")
    assert sorted(stored_boxes(tmp_path)) == [
        (0, "dog", 0.5, 5.0, 6.0, 7.0, 8.0),
        (0, "person", 0.9, 1.0, 2.0, 30.0, 40.0),
        (75, "dog", 0.5, 5.0, 6.0, 7.0, 8.0),
    ]
