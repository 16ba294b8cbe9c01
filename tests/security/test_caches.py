"""What lies in a cache or a store may have been changed by others: its digest is checked before it is used."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import DamagedArtifact
from tasks.core.models import bundled, yolo, yolo_openvino
from tasks.core.schema import ArtifactRef, Clip
from tasks.core.source_cache import Entry, SourceCache
from tasks.records import artifacts
from tasks.stages import publish
from tasks.stages.speech import CLIPS
from tasks.store import Store, open_store
from tests.core.sources import CONTENT, get
from tests.security.hostile import asked, serving

FORGED = CONTENT[::-1]
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\n\r\n"


def _serve(connection: socket.socket) -> None:
    """The content once with a validator, which holds from then on."""
    if b"if-none-match" in asked(connection).lower():
        connection.sendall(NOT_MODIFIED)
        return
    body = f'HTTP/1.1 200 OK\r\nETag: "v1"\r\nContent-Length: {len(CONTENT)}\r\n\r\n'.encode() + CONTENT
    connection.sendall(body)


def _in_place(path: Path) -> None:
    path.write_bytes(FORGED)


def _with_its_times(path: Path) -> None:
    before = path.stat()
    path.write_bytes(FORGED)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _another_file(path: Path) -> None:
    before = path.stat()
    forged = path.with_suffix(".forged")
    forged.write_bytes(FORGED)
    os.utime(forged, ns=(before.st_atime_ns, before.st_mtime_ns))
    forged.replace(path)


@pytest.mark.parametrize("forge", [_in_place, _with_its_times, _another_file])
def test_a_cached_source_is_not_trusted_by_its_size(tmp_path: Path, forge: Callable[[Path], None]) -> None:
    with serving(_serve) as port:
        url = f"http://127.0.0.1:{port}/a.mp4"
        first = get(url, tmp_path / "cache", allow_private_hosts=True)
        assert get(url, tmp_path / "cache", allow_private_hosts=True).cached
        forge(first.path)
        again = get(url, tmp_path / "cache", allow_private_hosts=True)
    assert again.path.read_bytes() == CONTENT
    assert (again.cached, again.sha256) == (False, first.sha256)


def test_a_cached_source_that_was_only_touched_is_read_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.core import source_cache

    cache = SourceCache(tmp_path / "cache", 2**20)
    path, sha256, size = cache.add([CONTENT], "test", 2**20)
    read: list[Path] = []
    digest = source_cache._digest

    def counted(file: Path) -> str:
        read.append(file)
        return digest(file)

    monkeypatch.setattr(source_cache, "_digest", counted)
    assert cache.find(Entry(sha256, size)) == path
    assert not read
    path.chmod(0o644)
    os.utime(path)
    for _ in range(3):
        assert cache.find(Entry(sha256, size)) == path
    assert read == [path]


def test_a_local_source_with_its_old_time_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(CONTENT)
    os.utime(path, (0, 0))
    first = get(path, tmp_path / "cache")
    path.write_bytes(FORGED)
    os.utime(path, (0, 0))
    second = get(path, tmp_path / "cache")
    assert not second.cached
    assert second.sha256 != first.sha256


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def _artifact(store: Store, stage: str, **files: bytes) -> ArtifactRef:
    media_id, key = "0" * 32, "1" * 32
    uri = store.uri(f"media/{media_id}/{stage}/{key}")
    ref = ArtifactRef(media_id=media_id, stage=stage, key=key, uri=uri, finished=1.0)
    with store.workspace() as work:
        for name, content in files.items():
            (work / name.replace("_json", ".json")).write_bytes(content)
        return artifacts.save(store, ref, work)


def test_an_artifact_that_was_changed_is_not_read(store: Store) -> None:
    made = _artifact(store, "audio", sound=CONTENT)
    found = artifacts.find(store, made.media_id, made.stage, made.key)
    assert found
    assert artifacts.artifact_file(made, "sound").read_bytes() == CONTENT
    store.write(f"media/{made.media_id}/audio/{made.key}/sound", FORGED)
    for ref in (made, found, made.model_copy(update={"sha256": {}})):
        with pytest.raises(DamagedArtifact, match="not what was written"):
            artifacts.artifact_file(ref, "sound")
    with pytest.raises(DamagedArtifact), artifacts.reading([made]):
        artifacts.artifact_file(made, "sound")
    assert artifacts.find(store, made.media_id, made.stage, made.key) is None


def test_what_this_run_wrote_is_known_by_its_own_digest(store: Store) -> None:
    """A manifest that was forged with its file deceives nobody who has the reference of whoever made it."""
    made = _artifact(store, "audio", sound=CONTENT)
    _artifact(store, "audio", sound=FORGED)
    with pytest.raises(DamagedArtifact), artifacts.reading([made]):
        artifacts.artifact_file(made, "sound")


def test_an_artifact_without_digests_is_made_again(store: Store) -> None:
    made = _artifact(store, "audio", sound=CONTENT)
    path = f"media/{made.media_id}/audio/{made.key}/{artifacts.MANIFEST}"
    manifest = store.read(path)
    assert manifest
    store.write(path, json.dumps(json.loads(manifest[0]) | {"sha256": {}}).encode())
    assert artifacts.find(store, made.media_id, made.stage, made.key) is None


def test_a_result_names_only_what_was_checked(store: Store) -> None:
    """Clips are named without being read: those found in the store are checked before."""
    made = _artifact(store, "clips", clip=CONTENT)
    found = artifacts.find(store, made.media_id, made.stage, made.key)
    assert found
    artifacts.check_found([made, found])
    store.write(f"media/{made.media_id}/clips/{made.key}/clip", FORGED)
    artifacts.check_found([made])
    with pytest.raises(DamagedArtifact):
        artifacts.check_found([found])


@pytest.mark.parametrize("uri", ["../../../secret.mp4", "/etc/passwd", "s3://other/secret.mp4", "none.mp4"])
def test_a_result_names_only_clips_of_its_own(store: Store, uri: str) -> None:
    cut = json.dumps([Clip(start=0, end=1, uri=uri).model_dump(mode="json")]).encode()
    assert CLIPS == "clips.json"
    ref = _artifact(store, "clips", clips_json=cut)
    with pytest.raises(DamagedArtifact, match="none of its own"):
        publish._clips(ref)


def test_an_export_that_was_changed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    made: list[str] = []
    export = yolo_openvino._export

    def counted(network: Any, folder: Path) -> None:
        made.append(folder.name)
        export(network, folder)

    monkeypatch.setattr(yolo_openvino, "_export", counted)
    for change in (None, "model.bin", None):
        if change:
            [folder] = [path for path in (tmp_path / "openvino").iterdir() if path.is_dir()]
            for name in (*yolo_openvino.EXPORTED, "facts.json"):
                whole = (folder / name).read_bytes()
                (folder / name).write_bytes(whole[:-50] + bytes(50))
                assert yolo_openvino._facts(folder) is None
                (folder / name).write_bytes(whole)
                assert yolo_openvino._facts(folder)
            (folder / change).write_bytes(bytes(10))
        yolo._models.clear()
        yolo.load(bundled.SHAPES_WEIGHTS, "cpu", "auto", "openvino", 64, tmp_path)
    yolo._models.clear()
    assert len(made) == 2
