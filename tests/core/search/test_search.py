"""Every question is asked of the tables and of the index: the answers are the same, to the last digit."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.core.schema import Caption, Chunk, SceneChange, Tag
from tasks.core.search import KINDS, Kind, Moment, Query, QueryError, search
from tasks.core.search.corpus import Corpus
from tests.core.publish.results import ATTACKS, hostile
from tests.core.search.corpora import MODEL, Folder, analysed, embed, media_id, said, seen, vectors

TABLES_AND_INDEX = ("tables", "index")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    """Four media: a street, a talk, one in German and one whose every text is an attack."""
    folder = Folder(tmp_path_factory.mktemp("store"))
    street = analysed(
        1,
        8,
        source="s3://bucket/live/camera=gate/20260314T092653Z.mp4",
        detections=seen("car", "car car", "", "person car", "person person person", "", "", "car"),
        scenes=[SceneChange(time=3.5, method="shot", score=9.0)],
        tags=[Tag(text="a busy street", score=0.2)],
        chunks=[
            Chunk(start=0, end=4, tags=[Tag(text="a busy street", score=0.3)]),
            Chunk(
                start=4,
                end=8,
                tags=[Tag(text="a busy street", score=0.25), Tag(text="a car park", score=0.1)],
                caption=Caption(text="Somebody opens a door.", score=0.2, start=4, end=8),
            ),
        ],
    )
    folder.add(street, vectors(0, 0.1, 0, 0.9, 1.0, 0.1, 0, 0.95))
    talk = said("the red circle jumps left", "a red square and a blue circle are running here", "good bye")
    folder.add(analysed(2, 12, transcript=talk), vectors(0.2, 0.2, 0.3))
    folder.add(analysed(3, 8, transcript=said("Die Häuser sind rot", "東京タワーは赤い", language="de")))
    folder.add(analysed(5, 8, transcript=said("दान दो", "एक दिन की बात", language="hi")))
    folder.add(analysed(6, 4, transcript=said("이 번역을 어제 끝냈습니다", language="ko")))
    folder.add(analysed(7, 4, transcript=said("একটি বই, நல்ல புத்தகம்", language="bn")))
    folder.add(hostile().model_copy(update={"media_id": media_id(4), "key": "a" * 64}))
    return {kind: folder.corpus(kind) for kind in TABLES_AND_INDEX}


def both(corpora: dict[str, Corpus], text: str, *kinds: Kind, **filters: object) -> list[Moment]:
    query = Query.model_validate({"text": text, "kinds": kinds or KINDS, "model": MODEL, **filters})
    tables, index = (search(query, corpora[kind], embed) for kind in TABLES_AND_INDEX)
    assert tables == index
    return tables


def brief(moments: list[Moment]) -> list[tuple[int, float, float]]:
    return [(int(moment.media_id, 16), moment.start, moment.end) for moment in moments]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("red circle", [(2, 0, 4), (2, 4, 8)]),
        ('"red circle"', [(2, 0, 4)]),
        ("runs", [(2, 4, 8)]),
        ("cirkle jumped", [(2, 0, 4)]),
        ("haus", [(3, 0, 4)]),
        ("häusern rot", [(3, 0, 4)]),
        ("東京", [(3, 4, 8)]),
        ("दिन", [(5, 4, 8)]),
        ("번역", [(6, 0, 4)]),
        ("번역에서는", [(6, 0, 4)]),
        ("বই", [(7, 0, 4)]),
        ("புத்தகம்", [(7, 0, 4)]),
        ("unheard", []),
        ("red circle from 0:04 to 0:09", [(2, 4, 8)]),
    ],
)
def test_speech(corpora: dict[str, Corpus], text: str, found: list[tuple[int, float, float]]) -> None:
    moments = both(corpora, text, "speech")
    assert brief(moments) == found
    assert all(moment.why.startswith("says: ") and moment.kind == "speech" for moment in moments)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2 cars", [(1, 1, 2)]),
        ("person and car within 1 s", [(1, 3, 5)]),
        ("2 persons", [(1, 4, 5)]),
        ("exactly 2 persons", []),
        ("prson and carss", [(1, 3, 4)]),
        ("cars conf>0.95", []),
        ("a person opening a door", [(1, 3, 5)]),
    ],
)
def test_objects(corpora: dict[str, Corpus], text: str, found: list[tuple[int, float, float]]) -> None:
    assert brief(both(corpora, text, "objects")) == found


def test_tags_and_captions_of_neighbouring_chunks_are_one_moment(corpora: dict[str, Corpus]) -> None:
    [moment] = both(corpora, "busy streets", "tags", media=[media_id(1)])
    assert (moment.start, moment.end, moment.why) == (0, 8, "tag: a busy street")
    [moment] = both(corpora, '"opens a door"', "tags", media=[media_id(1)])
    assert (moment.start, moment.end, moment.why) == (4, 8, "caption: Somebody opens a door.")


def test_typing_errors_are_forgiven_in_every_kind_with_words(corpora: dict[str, Corpus]) -> None:
    assert {moment.kind for moment in both(corpora, "bussy steret", "tags")} == {"tags"}
    assert brief(both(corpora, "peson", "objects")) == [(1, 3, 5)]
    assert "shows person" in both(corpora, "perosn")[0].why
    assert all("shows" not in moment.why for moment in both(corpora, "park", "objects", "tags")), "park is a word"


def test_meaning_is_parted_at_scene_changes(corpora: dict[str, Corpus]) -> None:
    moments = both(corpora, "anything at all", "scenes")
    assert brief(moments) == [(1, 4, 5), (1, 7, 8), (1, 3, 3.5)]
    assert moments[0].why == "looks like: anything at all (1.00)"


def test_meaning_asks_only_vectors_of_the_same_model(corpora: dict[str, Corpus]) -> None:
    assert both(corpora, "anything", "scenes", model="d" * 64) == []
    query = Query(text="anything", kinds=frozenset(["scenes"]), model=MODEL)
    for corpus in corpora.values():
        assert search(query, corpus, None) == []
        assert search(query, corpus, lambda texts: np.ones((1, 5), np.float32)) == []


def test_kinds_are_fused_and_the_reasons_joined(corpora: dict[str, Corpus]) -> None:
    moments = both(corpora, "person")
    assert brief(moments)[0] == (1, 4, 5)
    assert moments[0].why == "looks like: person (1.00); shows person (90%)"
    assert moments[0].score == pytest.approx(2 / 61, abs=1e-6)


def test_objects_in_a_longer_text_only_support(corpora: dict[str, Corpus]) -> None:
    moments = both(corpora, "person opens a door")
    assert brief(moments)[0] == (1, 4, 5)
    assert "caption: Somebody opens a door." in moments[0].why
    assert "shows person" in moments[0].why
    assert not [moment for moment in moments if moment.kind == "objects"]


@pytest.mark.parametrize(
    ("filters", "media"),
    [
        ({"media": [media_id(2)]}, {2}),
        ({"prefix": "s3://bucket/live/"}, {1}),
        ({"camera": "gate"}, {1}),
        ({"camera": "gat"}, set()),
        ({"since": datetime(2026, 3, 14, 9, 26, 30, tzinfo=UTC)}, {1}),
        ({"until": datetime(2026, 3, 14, 9, 26, 30)}, {2}),
        ({"since": "2026-03-14T09:00Z", "until": "2026-03-14T10:00+01:00"}, set()),
    ],
)
def test_filters(corpora: dict[str, Corpus], filters: dict[str, object], media: set[int]) -> None:
    moments = both(corpora, "car circle person", **filters) + both(corpora, "circle", **filters)
    assert {int(moment.media_id, 16) for moment in moments} <= media
    assert {int(m.media_id, 16) for m in both(corpora, "circle", "speech", "scenes", **filters)} == media


@pytest.mark.parametrize(
    "attack", ["' OR 1=1 --", '") OR media IN (1', "%", "_", "s3://bucket/'; DROP TABLE media", *ATTACKS]
)
def test_hostile_questions_and_filters_find_nothing_else(corpora: dict[str, Corpus], attack: str) -> None:
    assert both(corpora, "circle", prefix=attack) == []
    assert both(corpora, "circle", camera=attack[:200]) == []
    moments = both(corpora, f"word {attack}", "speech", "tags", "objects")
    assert {moment.media_id for moment in moments} <= {media_id(4)}
    assert brief(both(corpora, "circle", "speech"))


def test_a_text_that_is_an_attack_is_found_as_it_is(corpora: dict[str, Corpus]) -> None:
    moments = both(corpora, '"autofocus onfocus"', "speech")
    assert [moment.media_id for moment in moments] == [media_id(4)]
    assert moments[0].why == f"says: {ATTACKS[3]}"


def test_media_without_a_result_do_not_count(corpora: dict[str, Corpus]) -> None:
    query = Query(text="circle", kinds=frozenset(["speech"]))
    asked: list[str] = []

    def none_of(media: Sequence[str]) -> set[str]:
        asked.extend(media)
        return set()

    for corpus in corpora.values():
        assert search(query, corpus, committed=none_of) == []
    assert asked == [media_id(2)] * 2


def test_thumbnails_are_asked_for_the_middle_of_what_is_shown(corpora: dict[str, Corpus]) -> None:
    query = Query(text="red circle", kinds=frozenset(["speech"]), limit=1)
    [moment] = search(query, corpora["index"], pictures=lambda places: [f"{m}#{at:g}" for m, at in places])
    assert moment.thumbnail == f"{media_id(2)}#2"


def test_a_limit_takes_the_best(corpora: dict[str, Corpus]) -> None:
    everything = both(corpora, "circle")
    assert len(everything) > 2
    for limit in (1, 2):
        assert both(corpora, "circle", limit=limit) == everything[:limit]


@pytest.mark.parametrize("text", ["unicorn", "no car", '"car"'])
def test_objects_alone_need_a_class(corpora: dict[str, Corpus], text: str) -> None:
    for corpus in corpora.values():
        with pytest.raises(QueryError, match=r"detected here: .*car"):
            search(Query(text=text, kinds=frozenset(["objects"])), corpus)


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": ""},
        {"text": " \x00\n"},
        {"text": "x" * 501},
        {"media": ["../../etc/passwd"]},
        {"media": ["A" * 32]},
        {"media": ["a" * 32 + "\n"]},
        {"model": "e' OR 1=1"},
        {"limit": 0},
        {"limit": 10**9},
        {"kinds": []},
        {"kinds": ["faces"]},
        {"since": "yesterday"},
        {"regex": ".*"},
    ],
)
def test_queries_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Query.model_validate({"text": "circle", **wrong})


def test_an_empty_corpus_has_no_answers(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for kind in TABLES_AND_INDEX:
        assert search(Query(text="circle", model=MODEL), folder.corpus(kind), embed) == []


def test_random_corpora_give_the_same_answers(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vocabulary = [
        "red", "blue", "circle", "square", "jumps", "running", "falls", "house", "car", "person", "the", "of", "door",
        "opens",
    ]  # fmt: skip
    classes = ["car", "person", "dog"]
    folder = Folder(tmp_path)
    for number in range(1, 41):
        talk = said(*(" ".join(rng.choice(vocabulary, rng.integers(1, 9))) for _ in range(6)), each_s=2.0)
        frames = [
            [(str(rng.choice(classes)), float(np.float32(rng.uniform(0.2, 1)))) for _ in range(rng.integers(0, 4))]
            for _ in range(12)
        ]
        chunks = [
            Chunk(start=at, end=at + 6, tags=[Tag(text=f"a {rng.choice(vocabulary)}", score=float(rng.uniform()))])
            for at in (0.0, 6.0)
        ]
        result = analysed(number, 12.0, transcript=talk, detections=seen(*frames), chunks=chunks)
        folder.add(result, vectors(*rng.uniform(0, 1, 12)))
    corpora = {kind: folder.corpus(kind) for kind in TABLES_AND_INDEX}
    for text in [
        "red circle", '"red circle" jumps', "runing", "car", "2 cars or dog", "person and car within 3 s conf>0.6",
        "house from 0:03 to 0:07", "person opens a door", "at most 1 dog and person", "sqare",
    ]:  # fmt: skip
        assert len(both(corpora, text, limit=100)) > 3, text
