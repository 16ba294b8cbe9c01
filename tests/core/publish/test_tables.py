from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.publish.tables import SCHEMAS, arrow_tables, camera_of, recorded_at, tables, write_table
from tasks.core.schema import ModelInfo, TranscriptGap
from tests.core.publish.results import ATTACKS, embeddings, empty, hostile, result


@pytest.mark.parametrize("name", list(SCHEMAS))
@pytest.mark.parametrize("make", [result, empty, hostile])
def test_parquet_round_trip_keeps_rows_and_exact_types(tmp_path: Path, make: object, name: str) -> None:
    assert callable(make)
    frame = tables(make())[name]
    write_table(frame, tmp_path / "part.parquet", name)
    back = pq.read_table(tmp_path / "part.parquet")
    assert back.schema.equals(SCHEMAS[name])
    assert back.schema.metadata is None
    assert back.num_rows == len(frame)
    pd.testing.assert_frame_equal(back.to_pandas(types_mapper=pd.ArrowDtype), frame)


def test_empty_tables_have_the_types_of_full_ones() -> None:
    nothing, full = tables(empty()), tables(result(), embeddings())
    for name in SCHEMAS.keys() - {"runs"}:
        assert len(nothing[name]) == 0
        assert list(nothing[name].dtypes.items()) == list(full[name].dtypes.items())
    assert len(nothing["runs"]) == 1


def test_each_row_names_its_media_and_result() -> None:
    for name, frame in tables(result(), embeddings()).items():
        assert set(frame["media_id"]) == {"0" * 32}, name
        assert set(frame["result_key"]) == {"f" * 64}, name


def test_one_row_per_segment_word_and_box() -> None:
    made = result()
    found = tables(made)
    assert found["transcripts"]["text"].tolist() == ["hello there", "one two three", "good bye"]
    assert found["transcripts"]["start"].tolist() == [0.25, 1.25, 2.25]
    assert found["words"]["text"].tolist() == ["hello", "there", "one", "two", "three", "good", "bye"]
    assert found["words"]["segment"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    boxes = found["detections"]
    assert boxes["frame"].tolist() == [0, 1, 1, 3, 3]
    assert boxes["class"].tolist() == ["car", "car", "person", "car", "car"]
    third = boxes.to_dict("records")[2]
    assert [third[name] for name in ("time", "x1", "y1", "x2", "y2", "confidence")] == [1.0, 100, 5, 150, 100, 0.5]


def test_runs_sums_the_stages() -> None:
    [row] = tables(result())["runs"].to_dict("records")
    assert (row["wall_s"], row["cpu_s"], row["gpu_s"], row["queue_s"]) == (3.0, 5.0, 0.25, 0.75)
    assert (row["stages"], row["stages_cached"], row["task_runs"], row["boxes"]) == (2, 1, 3, 5)
    assert row["cost_usd"] == pytest.approx(0.0003)
    assert dict(row["classes"]) == {"car": 4, "person": 1}
    assert dict(row["models"]) == {"detections": "yolo11n.pt@" + "d" * 64, "embeddings": "siglip@" + "e" * 64}
    assert row["created"] == pd.Timestamp("2026-03-14T09:26Z")


def test_a_demonstration_is_what_bundled_models_made_whatever_else_is_to_be_said() -> None:
    real = ModelInfo(name="yolo11n.pt", digest="00")
    toy = real.model_copy(update={"bundled": True})
    cases = [({"detections": real}, "no embeddings", False), ({"detections": toy}, None, True), ({}, None, False)]
    for models, notice, demonstration in cases:
        [row] = tables(result(models=models, notice=notice))["runs"].to_dict("records")
        assert row["demonstration"] is demonstration


def test_scenes_tags_and_vectors() -> None:
    found = tables(result(), embeddings())
    assert found["scenes"][["time", "method", "score"]].values.tolist() == [[2.0, "ema", 0.25], [2.04, "shot", 31.5]]
    tags = found["tags"]
    assert tags["chunk"].isna().tolist() == [True, True, True, False, False, False]
    assert tags["kind"].tolist() == ["tag", "tag", "caption", "tag", "caption", "tag"]
    assert tags["rank"].tolist() == [0, 1, 0, 0, 0, 0]
    assert tags["end"].tolist() == [4.0, 4.0, 2.0, 2.0, 2.0, 4.0]
    assert set(found["embeddings"]["model"]) == {"e" * 64}
    assert np.stack(found["embeddings"]["vector"].tolist()).tolist() == embeddings().vectors.tolist()


@pytest.mark.parametrize(
    ("source", "camera", "recorded"),
    [
        ("s3://bucket/live/camera=front%20door/20260314T092653Z.mp4", "front door", "2026-03-14T09:26:53Z"),
        ("file:///live/camera=gate/hour=09/20260314T092653.250Z_10s.mp4", "gate", "2026-03-14T09:26:53.25Z"),
        ("camera=gate", None, None),
        ("s3://bucket/20261399T999999Z.mp4", None, None),
        ("s3://bucket/talk.mp4", None, None),
    ],
)
def test_a_source_names_its_camera_and_time(source: str, camera: str | None, recorded: str | None) -> None:
    assert camera_of(source) == camera
    assert recorded_at(source) == (pd.Timestamp(recorded) if recorded else None)


def test_hostile_text_is_stored_as_it_is(tmp_path: Path) -> None:
    write_table(tables(hostile())["detections"], tmp_path / "part.parquet", "detections")
    assert pq.read_table(tmp_path / "part.parquet")["class"].to_pylist() == list(ATTACKS)


def test_a_frame_of_another_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises((KeyError, pa.ArrowException)):
        write_table(tables(result())["words"], tmp_path / "part.parquet", "runs")
    with pytest.raises(KeyError):
        write_table(tables(result())["words"], tmp_path / "part.parquet", "faces")


def test_the_files_of_many_media_are_one_dataset(tmp_path: Path) -> None:
    for media_id in ("0" * 32, "1" * 32):
        for name, frame in tables(result(media_id=media_id), embeddings()).items():
            part = tmp_path / name / f"media_id={media_id}" / "part.parquet"
            part.parent.mkdir(parents=True)
            write_table(frame, part, name)
    for name in SCHEMAS:
        whole = pd.read_parquet(tmp_path / name)
        assert set(whole["media_id"]) == {"0" * 32, "1" * 32}, name


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "column"), [("detections", "time"), ("transcripts", "avg_logprob"), ("embeddings", "vector")]
)
def test_a_table_refuses_numbers_that_are_none(tmp_path: Path, name: str, column: str, number: float) -> None:
    found = tables(result(), embeddings())[name]
    write_table(found, tmp_path / "whole.parquet", name)
    kind = SCHEMAS[name].field(column).type
    values = [[number] * 8 if pa.types.is_list(kind) else number] * len(found)
    bad = found.assign(**{column: pd.arrays.ArrowExtensionArray(pa.array(values, kind, from_pandas=False))})
    with pytest.raises(ValueError, match=f"{column}: NaN or infinity"):
        write_table(bad, tmp_path / "bad.parquet", name)
    assert not (tmp_path / "bad.parquet").exists()


def test_what_is_missing_of_the_transcript_is_counted() -> None:
    gaps = [TranscriptGap(start=1, end=2.5, reason="unlikely"), TranscriptGap(start=3, end=4, reason="nothing_heard")]
    found = result()
    said = found.transcript.model_copy(update={"gaps": gaps, "dropped": 2})
    [row] = tables(found.model_copy(update={"transcript": said}))["runs"].to_dict("records")
    assert (row["transcript_gaps"], row["transcript_gaps_s"], row["transcript_dropped"]) == (2, 2.5, 2)


def test_a_table_and_its_data_frame_give_the_same_file(tmp_path: Path) -> None:
    frames, found = tables(result(), embeddings()), arrow_tables(result(), embeddings())
    assert found.keys() == SCHEMAS.keys()
    for name, table in found.items():
        write_table(frames[name], tmp_path / "frame.parquet", name)
        write_table(table, tmp_path / "table.parquet", name)
        assert (tmp_path / "table.parquet").read_bytes() == (tmp_path / "frame.parquet").read_bytes(), name
    with pytest.raises((KeyError, ValueError, pa.ArrowException)):
        write_table(found["words"], tmp_path / "bad.parquet", "runs")
