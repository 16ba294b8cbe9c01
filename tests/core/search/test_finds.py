from itertools import pairwise
from typing import Any

from tasks.core.search.finds import Find, K, fuse, ordered


def find(kind: Any, start: float, end: float, media: str = "a", **changes: Any) -> Find:
    return Find(media, start, end, kind, 1.0, f"{kind} {start:g}", **changes)


def test_ranks_are_fused_and_overlaps_joined() -> None:
    speech = [find("speech", 0, 4), find("speech", 10, 14)]
    seen = [find("objects", 11, 12), find("objects", 30, 31), find("objects", 2, 9)]
    moments = fuse({"speech": speech, "objects": seen})
    assert [(m.start, m.end, m.kind) for m in moments] == [(11, 12, "objects"), (0, 4, "speech"), (30, 31, "objects")]
    assert [m.score for m in moments] == [1 / (K + 1) + 1 / (K + 2), 1 / (K + 1) + 1 / (K + 3), 1 / (K + 2)]
    assert moments[0].why == "objects 11; speech 10"


def test_moments_of_a_media_never_overlap_and_other_media_are_apart() -> None:
    one = [find("speech", at, at + 3, media) for at in range(0, 30, 2) for media in "ab"]
    two = [find("tags", at, at + 7) for at in range(0, 30, 5)]
    moments = fuse({"speech": one, "tags": two})
    assert {m.media_id for m in moments} == {"a", "b"}
    for media in "ab":
        spans = sorted((m.start, m.end) for m in moments if m.media_id == media)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_each_kind_counts_once_for_a_moment() -> None:
    [moment] = fuse({"speech": [find("speech", 0, 9)], "objects": [find("objects", 0, 3), find("objects", 1, 5)]})
    assert moment.score == 2 / (K + 1)


def test_a_tag_of_the_whole_media_is_a_moment_only_where_there_is_no_other() -> None:
    whole = [find("tags", 0, 100, "a", role="whole"), find("tags", 0, 50, "b", role="whole")]
    moments = fuse({"tags": whole, "speech": [find("speech", 40, 44, "a")]})
    assert [(m.media_id, m.start, m.end) for m in moments] == [("a", 40, 44), ("b", 0, 50)]
    assert moments[0].why == "speech 40; tags 0"


def test_support_is_never_a_moment() -> None:
    support = [find("objects", 0, 5, role="support"), find("objects", 50, 55, role="support")]
    assert [(m.start, m.kind) for m in fuse({"objects": support, "speech": [find("speech", 4, 6)]})] == [(4, "speech")]
    assert fuse({"objects": support}) == []


def test_an_instant_overlaps_what_it_lies_in() -> None:
    assert len(fuse({"speech": [find("speech", 5, 8)], "objects": [find("objects", 5, 5)]})) == 1
    assert len(fuse({"speech": [find("speech", 5, 8)], "objects": [find("objects", 8, 8)]})) == 2


def test_the_order_does_not_depend_on_the_order_of_finding() -> None:
    finds = [find("speech", at, at + 1, media) for at in range(5) for media in "ba"]
    assert ordered(finds, 4) == ordered(reversed(finds), 4)
    assert [f.media_id for f in ordered(finds, 5)] == ["a"] * 5
