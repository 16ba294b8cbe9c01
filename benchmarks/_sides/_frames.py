"""Boxes of frames as Ray's and Daft's workloads store them: Parquet, a row for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._sides import CONFIDENCE, Box, boxes_of

BATCH = 16


class Detector:
    """One model, one thread."""

    def __init__(self, weights: str) -> None:
        import torch
        from ultralytics import YOLO

        torch.set_num_threads(1)
        self.model: Any = YOLO(weights)

    def rows(self, frames: Sequence[Any]) -> list[list[dict[str, Any]]]:
        """Boxes of RGB frames (H, W, 3), as records."""
        results = self.model.predict([frame[..., ::-1] for frame in frames], conf=CONFIDENCE, verbose=False)
        return [
            [
                {"label": label, "confidence": sure, "xyxy": xyxy}
                for _, label, sure, *xyxy in boxes_of(self.model, 0, one)
            ]
            for one in results
        ]


def stored_boxes(folder: Path) -> list[Box]:
    """What was written, by the columns `frame_index` and `found`."""
    from pyarrow import parquet

    rows = [row for file in folder.rglob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    return [
        (row["frame_index"], box["label"], box["confidence"], *box["xyxy"])
        for row in rows
        for box in row["found"] or ()
    ]
