"""The index follows the tables, at any moment at which it is stopped or read."""

import logging
import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from tasks.core.embeddings import Embeddings
from tasks.core.errors import NetworkError, StoreConflict, StoreUnavailable
from tasks.core.publish.tables import SCHEMAS
from tasks.core.schema import Chunk, ModelInfo, Tag
from tasks.core.search import Query, build, search
from tasks.core.search.build import Built
from tasks.core.search.corpus import Scope
from tasks.core.search.lance import LanceCorpus, open_index
from tasks.core.search.lance_tables import FORMAT, HEAD, vector_table
from tasks.core.search.parts import PartsCorpus
from tests.core.search.corpora import MODEL, Folder, analysed, embed, media_id, said, seen, vectors


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    for number in (1, 2, 3):
        add(made, number, f"number{number} circle")
    return made


def add(folder: Folder, number: int, text: str, key: str = "a") -> None:
    chunk = Chunk(start=0, end=4, tags=[Tag(text=f"tag of {text}", score=0.5)])
    made = analysed(number, 4, key=key * 64, transcript=said(text), detections=seen("car", "dog"), chunks=[chunk])
    folder.add(made, vectors(0, 1, 0.5))


def rebuilt(folder: Folder) -> Built:
    return build.build(folder.index, folder.parts(), folder.read)


def opened(folder: Folder) -> LanceCorpus:
    found = open_index(folder.index)
    assert found is not None
    return found


def found(folder: Folder, text: str, corpus: LanceCorpus | None = None) -> list[int]:
    query = Query(text=text, kinds=frozenset(["speech"]))
    return sorted(int(moment.media_id, 16) for moment in search(query, corpus or opened(folder)))


def same_as_tables(folder: Folder) -> bool:
    queries = [Query(text=text, model=MODEL) for text in ("circle", "car", "square", "number2", "tag", "new word")]
    tables, index = folder.corpus("tables"), opened(folder)
    return [search(query, tables, embed) for query in queries] == [search(query, index, embed) for query in queries]


def test_only_what_has_changed_is_read(folder: Folder) -> None:
    first = rebuilt(folder)
    assert (first.media, first.new, first.changed, first.gone, first.segments, first.vectors) == (3, 3, 0, 0, 3, 9)
    add(folder, 2, "a square", key="b")
    add(folder, 4, "new word")
    folder.remove(media_id(1))
    read: list[str] = []

    def reading(table: str, media: str, version: str) -> Path:
        read.append(media)
        return folder.read(table, media, version)

    second = build.build(folder.index, folder.parts(), reading)
    assert (second.media, second.new, second.changed, second.gone, second.segments, second.vectors) == (
        3,
        1,
        1,
        1,
        3,
        9,
    )
    assert set(read) == {media_id(2), media_id(4)}
    assert found(folder, "circle") == [3]
    assert found(folder, "square") == [2]
    assert same_as_tables(folder)
    third = rebuilt(folder)
    assert (third.new, third.changed, third.gone) == (0, 0, 0)


def test_the_vocabulary_forgets_what_is_gone(folder: Folder) -> None:
    rebuilt(folder)
    for number in (1, 2, 3):
        folder.remove(media_id(number))
    add(folder, 4, "square")
    rebuilt(folder)
    fresh, renewed = folder.corpus("tables"), opened(folder)
    for table in ("speech", "tags"):
        assert vars(renewed.vocabulary(table)) == vars(fresh.vocabulary(table))
    assert found(folder, "squaer") == [4]


def test_a_reader_keeps_its_state_while_builds_go_on(folder: Folder) -> None:
    rebuilt(folder)
    reader = opened(folder)
    assert found(folder, "circle", reader) == [1, 2, 3]
    late = opened(folder)
    for key in "bcd":
        add(folder, 2, "a square", key=key)
        rebuilt(folder)
    assert found(folder, "circle", reader) == [1, 2, 3]
    assert found(folder, "circle", late) == [1, 2, 3]
    assert found(folder, "circle") == [1, 3]


def test_a_first_build_leaves_no_older_versions(folder: Folder) -> None:
    rebuilt(folder)
    for table in folder.index.glob("*.lance"):
        assert len(list((table / "_versions").glob("*.manifest"))) == 1, table.name
    head = (folder.index / HEAD).read_bytes()
    rebuilt(folder)
    assert (folder.index / HEAD).read_bytes() == head


def test_what_is_removed_is_never_what_the_head_names(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_OLD", timedelta(milliseconds=1))
    for key in "abcd":
        add(folder, 2, f"a square {key}", key=key)
        rebuilt(folder)
        rebuilt(folder)
        assert same_as_tables(folder)


@pytest.mark.parametrize("stopped_at", ["_add", "_finish", "_replace", "_index", "_commit"])
def test_a_build_that_is_killed_leaves_the_old_state(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    rebuilt(folder)
    add(folder, 2, "a square", key="b")
    folder.remove(media_id(3))
    with monkeypatch.context() as patch:
        patch.setattr(build._Build, stopped_at, lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rebuilt(folder)
    assert found(folder, "circle") == [1, 2, 3]
    rebuilt(folder)
    assert same_as_tables(folder)
    assert found(folder, "circle") == [1]


def test_a_first_build_that_is_killed_is_begun_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(build, "write_head", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rebuilt(folder)
    assert open_index(folder.index) is None
    assert rebuilt(folder).segments == 3
    assert same_as_tables(folder)


def test_one_build_at_a_time(folder: Folder) -> None:
    rebuilt(folder)
    with FileLock(folder.index / "build.lock"), pytest.raises(StoreConflict, match="is running"):
        rebuilt(folder)


def test_an_index_whose_words_were_told_apart_otherwise_has_to_be_deleted(folder: Folder) -> None:
    rebuilt(folder)
    head = (folder.index / HEAD).read_text()
    (folder.index / HEAD).write_text(head.replace(f'"format":{FORMAT}', '"format":1'))
    with pytest.raises(StoreUnavailable, match="of another version: delete the folder"):
        open_index(folder.index)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"format": 0}', b'{"format": 1, "versions": []}', b"\xff"])
def test_an_index_of_another_version_has_to_be_deleted(folder: Folder, damage: bytes) -> None:
    rebuilt(folder)
    (folder.index / HEAD).write_bytes(damage)
    with pytest.raises(StoreUnavailable, match="delete the folder"):
        open_index(folder.index)
    with pytest.raises(StoreUnavailable, match="delete the folder"):
        rebuilt(folder)


def test_lost_tables_of_an_index_are_noticed(folder: Folder) -> None:
    rebuilt(folder)
    (folder.index / "media.lance").rename(folder.root / "elsewhere")
    with pytest.raises(StoreUnavailable, match="delete the folder"):
        open_index(folder.index)


@pytest.mark.parametrize("kind", ["tables", "index"])
def test_a_damaged_part_is_left_out_and_said(folder: Folder, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    folder.path("transcripts", media_id(1)).write_bytes(b"PAR1 not really")
    folder.path("runs", media_id(2)).write_bytes(b"")
    with caplog.at_level(logging.WARNING, "reelflow.search"):
        corpus = folder.corpus(kind)
    said_so = " ".join(record.getMessage() for record in caplog.records)
    assert f"transcripts of media {media_id(1)}" in said_so
    assert f"runs of media {media_id(2)}" in said_so
    assert [m.media_id for m in search(Query(text="circle", kinds=frozenset(["speech"])), corpus)] == [media_id(3)]
    cars = search(Query(text="car", kinds=frozenset(["objects"])), corpus)
    assert [moment.media_id for moment in cars] == [media_id(1), media_id(3)]


@pytest.mark.parametrize("kind", ["tables", "index"])
def test_rows_of_another_result_or_media_do_not_count(folder: Folder, kind: str) -> None:
    newer = Folder(folder.root / "newer")
    add(newer, 1, "circle again", key="b")
    newer.path("transcripts", media_id(1)).replace(folder.path("transcripts", media_id(1)))
    folder.path("transcripts", media_id(2)).replace(folder.path("transcripts", media_id(3)))
    query = Query(text="circle", kinds=frozenset(["speech"]))
    assert search(query, folder.corpus(kind)) == []


@pytest.mark.parametrize("kind", ["tables", "index"])
def test_rows_with_gaps_and_numbers_that_are_none_do_not_count(folder: Folder, kind: str) -> None:
    gaps: dict[str, dict[str, object]] = {
        "transcripts": {"start": math.nan},
        "detections": {"confidence": math.inf},
        "embeddings": {"vector": [math.nan] * 8},
        "tags": {"text": None},
    }
    for name, changes in gaps.items():
        part = folder.path(name, media_id(1))
        rows = [{**row, **changes} for row in pq.read_table(part).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[name]), part)
    corpus = folder.corpus(kind)
    assert media_id(1) in corpus.media
    for text in ("circle", "car", "tag"):
        found = search(Query(text=text, model=MODEL), corpus, embed)
        assert {moment.media_id for moment in found} == {media_id(2), media_id(3)}


def test_a_store_that_fails_is_not_taken_for_an_empty_one(folder: Folder) -> None:
    def fail(table: str, media: str, version: str) -> Path:
        raise NetworkError("the bucket does not answer")

    with pytest.raises(NetworkError):
        PartsCorpus(fail).refresh(folder.parts())
    with pytest.raises(NetworkError):
        build.build(folder.index, folder.parts(), fail)
    assert open_index(folder.index) is None


def test_many_vectors_get_an_index_that_finds_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "INDEXED_VECTORS", 8000)
    folder = Folder(tmp_path)
    rng = np.random.default_rng(2)
    for number in range(1, 11):
        scenes = np.repeat(rng.standard_normal((100, 32)), 10, axis=0) + 0.3 * rng.standard_normal((1000, 32))
        made = (scenes / np.linalg.norm(scenes, axis=1, keepdims=True)).astype(np.float32)
        folder.add(analysed(number, 1000), Embeddings(list(range(1000)), [float(at) for at in range(1000)], made))
    tables, index = folder.corpus("tables"), folder.corpus("index")
    assert isinstance(index, LanceCorpus)
    assert index.head.trained == {vector_table(MODEL, 32): 10_000}
    shared = 0
    for _ in range(20):
        question = rng.standard_normal(32).astype(np.float32)
        question /= np.linalg.norm(question)
        exact, mean = tables.frames(question, MODEL, 10, Scope())
        near, same_mean = index.frames(question, MODEL, 10, Scope())
        assert same_mean == pytest.approx(mean, abs=1e-6)
        shared += len({frame[:2] for frame in exact} & {frame[:2] for frame in near})
        inside = Scope(frozenset([media_id(3), media_id(7)]), 100.0, 200.0)
        assert {frame.media_id for frame in index.frames(question, MODEL, 10, inside)[0]} <= {media_id(3), media_id(7)}
        assert all(100 <= frame.time < 200 for frame in index.frames(question, MODEL, 10, inside)[0])
    assert shared >= 190
    folder.add(analysed(11, 5), vectors(0, 1, size=32))
    axis = np.eye(32, dtype=np.float32)[1]
    renewed = folder.corpus("index")
    assert renewed.frames(axis, MODEL, 1, Scope())[0][0].media_id == media_id(11)


@pytest.mark.parametrize("model", ["", "x", "../../etc", "e' OR 1=1", "E" * 64])
def test_the_name_of_a_table_is_made_of_digests_only(folder: Folder, model: str) -> None:
    with pytest.raises(ValueError, match="no digest"):
        vector_table(model, 8)
    models = {"embeddings": ModelInfo(name="odd", digest=model)}
    folder.add(analysed(4, 4, models=models, transcript=said("odd")), vectors(0, 1))
    assert rebuilt(folder).vectors == 9
    assert found(folder, "odd") == [4]
