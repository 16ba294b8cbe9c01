"""Keys depend on what a stage reads and nothing else; an artifact is whole or it is not there."""

from __future__ import annotations

from pathlib import Path

from tasks.core.options import FrameOptions
from tasks.core.schema import ArtifactRef, Interval, MediaRef, ModelInfo
from tasks.records import artifacts
from tasks.store import open_store


def _ref(store: str, key: str = "0" * 32) -> ArtifactRef:
    uri = open_store(store).uri(f"media/m/audio/{key}")
    return ArtifactRef(media_id="m", stage="audio", key=key, uri=uri)


def test_keys_follow_options_and_inputs() -> None:
    base = artifacts.content_key("frames", 1, {"options": FrameOptions()})
    assert base == artifacts.content_key("frames", 1, {"options": FrameOptions()})
    assert base != artifacts.content_key("frames", 2, {"options": FrameOptions()})
    assert base != artifacts.content_key("frames", 1, {"options": FrameOptions(fps=2)})


def test_keys_ignore_how_many_are_worked_on_together() -> None:
    assert artifacts.content_key(FrameOptions(batch_size=3)) == artifacts.content_key(FrameOptions())


def test_keys_ignore_where_things_are() -> None:
    one = MediaRef(media_id="m", source="/a/x.mp4", bytes=1, store="file:///one")
    two = MediaRef(media_id="m", source="s3://b/y.mp4", bytes=1, store="s3://two")
    assert artifacts.content_key(one) == artifacts.content_key(two)
    assert artifacts.content_key(_ref("/one")) == artifacts.content_key(_ref("/two"))
    assert artifacts.content_key(_ref("/one", "1" * 32)) != artifacts.content_key(_ref("/one"))


def test_keys_follow_weights_not_their_names() -> None:
    model = ModelInfo(name="base.en", digest="aa")
    assert artifacts.content_key(model) == artifacts.content_key(
        model.model_copy(update={"name": "/models/base.en.pt"})
    )
    assert artifacts.content_key(model) != artifacts.content_key(model.model_copy(update={"digest": "bb"}))
    assert artifacts.content_key(model) != artifacts.content_key(model.model_copy(update={"backend": "openvino"}))


def test_keys_follow_lists_of_records() -> None:
    intervals = [Interval(start=0, end=1), Interval(start=2, end=3)]
    assert artifacts.content_key(intervals) != artifacts.content_key(intervals[:1])


def test_an_artifact_is_found_while_it_is_whole(tmp_path: Path) -> None:
    store, ref = open_store(str(tmp_path)), _ref(str(tmp_path))
    assert artifacts.find(store, "m", "audio", ref.key) is None
    with store.workspace() as work:
        (work / "audio.flac").write_bytes(b"sound")
        artifacts.save(store, ref, work)
    found = artifacts.find(store, "m", "audio", ref.key)
    assert found is not None
    assert found.cached
    assert artifacts.artifact_file(found, "audio.flac").read_bytes() == b"sound"
    assert artifacts.intact(store, ref.uri)
    artifacts.artifact_file(found, "audio.flac").write_bytes(b"cut")
    assert artifacts.find(store, "m", "audio", ref.key) is None
    assert not artifacts.intact(store, ref.uri)
