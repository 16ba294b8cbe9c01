"""Fixtures for every test: where real media and weights lie, and tiny media generated once per session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import media as generate
from tests.object_store import object_store
from tests.prefect_home import new_prefect_home, use_prefect_home


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    if not Path(value).is_dir():
        pytest.skip(f"{variable} names no folder")
    return Path(value)


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """Folder with speech/ and video/ (REELFLOW_TEST_MEDIA); skips without it."""
    return _folder("REELFLOW_TEST_MEDIA")


@pytest.fixture(scope="session")
def shared_cases(shared_media: Path) -> Path:
    """Folder of inputs that went wrong once, beside the one with real media; skips without it."""
    folder = shared_media.parent / "cases"
    if not folder.is_dir():
        pytest.skip("there is no folder named cases beside REELFLOW_TEST_MEDIA")
    return folder


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of real weights (REELFLOW_MODELS_DIR); skips without it."""
    return _folder("REELFLOW_MODELS_DIR")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`sample("talk")`, `sample("cover_art", ".mp3")`: media of tests/media.py, made once per session; read only.

    Copy the file before changing it. Keyword arguments go to the generator.
    """
    made: dict[str, Path] = {}

    def get(name: str, suffix: str = ".mp4", **arguments: object) -> Path:
        key = repr((name, suffix, sorted(arguments.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp("media")
            made[key] = getattr(generate, name)(folder / f"{name}{suffix}", **arguments)
        return made[key]

    return get


@pytest.fixture(scope="session")
def talk(sample: Callable[..., Path]) -> Path:
    """4 s of numbered frames (192x108, 25 fps, H.264) with clicks at 0.5, 1.5 and 2.75 s (AAC)."""
    return sample("talk")


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """Environment of a client of a real S3 server (moto, over HTTP on loopback)."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture(scope="session")
def seaweedfs_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a client of the S3 server of `make up` (SeaweedFS, on disk)."""
    with object_store(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store.environment


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server with a database of its own, and a local cluster of two workers: one of each in a process."""
    home = new_prefect_home(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        use_prefect_home(patch, home)
        patch.delenv("REELFLOW_DASK_ADDRESS", raising=False)
        patch.setenv("REELFLOW_WORKERS", "2")
        patch.setenv("REELFLOW_CACHE_DIR", str(home / "cache"))
        from flows.runtime.run import engine as started

        with started():
            yield
