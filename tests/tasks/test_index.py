"""Searching a store, in a folder and in a bucket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.embeddings import Embeddings
from tasks.core.errors import StoreUnavailable
from tasks.core.publish.tables import tables, write_table
from tasks.core.schema import Result
from tasks.core.search import Moment, Query
from tasks.records.index import Searcher, build_index, index_folder, index_state
from tasks.records.results import VIEWS, result_path, table_path
from tasks.store import Store, open_store
from tests.core.search.corpora import MODEL, analysed, embed, media_id, said, seen, vectors
from tests.fault_proxy import FaultProxy

TRACK = "WEBVTT\n\n" + "\n".join(
    f"00:00:0{at}.000 --> 00:00:0{at + 1}.000\nstoryboard.jpg#xywh={160 * at},0,160,90\n" for at in range(4)
)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "folder":
        monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))
        yield open_store(str(tmp_path / "a store"))
    else:
        yield request.getfixturevalue("s3_store")


def publish(store: Store, made: Result, embedded: Embeddings | None = None) -> None:
    """The result and its views, as far as the search reads them."""
    store.write(result_path(made.media_id), made.model_dump_json(by_alias=True).encode())
    store.write(f"media/{made.media_id}/{VIEWS['storyboard_vtt']}", TRACK.encode())
    for name, frame in tables(made, embedded).items():
        with store.workspace() as work:
            write_table(frame, work / "part.parquet", name)
            store.put(table_path(name, made.media_id), work / "part.parquet")


def street(number: int, text: str = "the red circle", key: str = "a") -> Result:
    return analysed(number, 4, key=key * 64, transcript=said(text), detections=seen("car", "", "car person", "car"))


@pytest.fixture
def filled(store: Store) -> Store:
    for number in (1, 2, 3):
        publish(store, street(number), vectors(0, 1, 0.1, 0.2))
    return store


def ids(moments: list[Moment]) -> list[int]:
    return sorted(int(moment.media_id, 16) for moment in moments)


SPEECH = Query(text="red circle", kinds=frozenset(["speech"]))


def test_tables_and_index_answer_alike(filled: Store) -> None:
    built = build_index(filled)
    assert (built.media, built.segments, built.vectors) == (3, 3, 12)
    tables_, index = Searcher(filled, indexed=False), Searcher(filled, indexed=True)
    for text in ("red circle", "car and person", "cirlce", "2 cars or person"):
        query = Query(text=text, model=MODEL)
        assert tables_.search(query, embed) == index.search(query, embed)
        assert tables_.search(query, embed)
    assert tables_.corpus().classes == index.corpus().classes == {"car", "person"}


@pytest.mark.parametrize("indexed", [False, True])
def test_moments_have_pictures_of_the_store(filled: Store, indexed: bool) -> None:
    build_index(filled)
    moments = Searcher(filled, indexed=indexed).search(Query(text="person", kinds=frozenset(["objects"])))
    assert [(moment.start, moment.end) for moment in moments] == [(2, 3)] * 3
    folder = f"{filled.root}/media/{moments[0].media_id}"
    assert moments[0].thumbnail == f"{folder}/storyboard.jpg#xywh=320,0,160,90"


def test_a_media_without_a_storyboard_has_no_picture(filled: Store) -> None:
    filled.delete(f"media/{media_id(1)}/{VIEWS['storyboard_vtt']}")
    assert [moment.thumbnail is None for moment in Searcher(filled).search(SPEECH)] == [True, False, False]


@pytest.mark.parametrize("indexed", [False, True])
def test_only_media_that_have_a_result_count(filled: Store, indexed: bool) -> None:
    build_index(filled)
    filled.delete(result_path(media_id(2)))
    assert ids(Searcher(filled, indexed=indexed).search(SPEECH)) == [1, 3]
    build_index(filled)
    assert ids(Searcher(filled, indexed=indexed).search(SPEECH)) == [1, 3]


def test_what_others_add_is_seen(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.records.index.FRESH_S", 0.0)
    searcher = Searcher(filled)
    assert ids(searcher.search(SPEECH)) == [1, 2, 3]
    publish(filled, street(4))
    publish(filled, street(2, "a blue square", key="b"))
    assert ids(searcher.search(SPEECH)) == [1, 3, 4]
    build_index(filled)
    publish(filled, street(5))
    assert ids(searcher.search(SPEECH)) == [1, 3, 4]
    state = index_state(filled)
    assert state is not None
    assert (state.media, state.new, state.changed, state.gone, state.behind) == (4, 1, 0, 0, 1)
    build_index(filled)
    assert ids(searcher.search(SPEECH)) == [1, 3, 4, 5]


def test_without_an_index_one_that_is_needed_is_asked_for(filled: Store) -> None:
    assert index_state(filled) is None
    with pytest.raises(StoreUnavailable, match="build-index"):
        Searcher(filled, indexed=True).search(SPEECH)


def test_an_empty_store_has_no_answers(store: Store) -> None:
    assert Searcher(store).search(SPEECH) == []
    assert build_index(store).media == 0
    assert Searcher(store, indexed=True).search(SPEECH) == []


def test_objects_that_only_look_like_parts_are_not_read(filled: Store) -> None:
    content = filled.read(table_path("transcripts", media_id(1)))
    assert content is not None
    for path in ("tables/transcripts/media_id=../part.parquet", "tables/runs/part.parquet", "tables/runs/media_id=x/y"):
        filled.write(path.replace("..", "%2e%2e"), content[0])
    assert ids(Searcher(filled).search(SPEECH)) == [1, 2, 3]


def test_a_bucket_is_asked_once_for_each_part(s3_store: Store, proxy: FaultProxy) -> None:
    for number in range(1, 6):
        publish(s3_store, street(number))
    proxy.seen.clear()
    searcher = Searcher(s3_store)
    assert len(searcher.search(SPEECH)) == 5
    gets = [request.path for request in proxy.seen if request.method == "GET" and ".parquet" in request.path]
    assert len(gets) == len(set(gets)) == 5 * 6
    proxy.seen.clear()
    searcher.search(SPEECH)
    assert not proxy.seen
    Searcher(s3_store).search(SPEECH)
    assert not [request for request in proxy.seen if ".parquet" in request.path]


def test_the_index_of_a_bucket_lies_in_the_cache_and_that_of_a_folder_in_it(s3_store: Store, tmp_path: Path) -> None:
    assert index_folder(s3_store).is_relative_to(tmp_path / "cache" / "index")
    assert index_folder(open_store(str(tmp_path / "s"))) == tmp_path / "s" / "index"


def test_a_store_that_cannot_hold_an_index_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "index").write_text("a file is in the way")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        build_index(open_store(str(tmp_path / "store")))
