"""Whoever may start runs of a deployment reads and writes nothing with them that it was not meant for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks._corpus import tiny
from tests.prefect_home import DATABASE, new_prefect_home, use_prefect_home

SECRET_LINE = "hush: {line of a private file"


class Deployed:
    """The flows as deployments of a server, and runs of them as a worker executes them."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        self.database = database

    def start(self, entrypoint: str, parameters: dict[str, Any], *, enforced: bool = False) -> Any:
        """A run that waits for a worker. Raises httpx.HTTPStatusError where the server refuses its parameters."""
        from prefect.client.orchestration import get_client
        from prefect.utilities.callables import parameter_schema

        flow = _flow(entrypoint)
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow(flow)
            schema = parameter_schema(flow).model_dump_for_openapi()
            deployment = client.create_deployment(
                flow_id, name="default", parameter_openapi_schema=schema, enforce_parameter_schema=enforced
            )
            return client.create_flow_run_from_deployment(deployment, parameters=parameters)

    def run(self, entrypoint: str, **parameters: Any) -> Any:
        """The final state of such a run."""
        from prefect.flow_engine import run_flow

        started = self.start(entrypoint, parameters)
        return run_flow(_flow(entrypoint), flow_run=started, parameters=parameters, return_type="state")

    def tells(self, text: str) -> list[str]:
        """Tables that hold the text."""
        with closing(sqlite3.connect(self.database)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {table: str(connection.execute(f'SELECT * FROM "{table}"').fetchall()) for table in tables}  # noqa: S608
        return [table for table, content in rows.items() if text in content]


def _flow(entrypoint: str) -> Any:
    from flows.analyze_media import analyze_media
    from flows.backfill_prefix import backfill_prefix
    from flows.build_text_bank import build_text_bank

    return {"analyze": analyze_media, "backfill": backfill_prefix, "bank": build_text_bank}[entrypoint]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder, home = tmp_path_factory.mktemp("host"), new_prefect_home(tmp_path_factory)
    for name in ("inbox", "store", "models/text_banks", "private"):
        (folder / name).mkdir(parents=True)
    (folder / "private" / "diary.yaml").write_text(f"{SECRET_LINE}\n")
    (folder / "private" / "diary.mp4").write_bytes(tiny(1))
    (folder / "inbox" / "link.mp4").symlink_to(folder / "private" / "diary.mp4")
    (folder / "models" / "text_banks" / "link.yaml").symlink_to(folder / "private" / "diary.yaml")
    (folder / "models" / "text_banks" / "broken.yaml").write_text(f"name: broken\n{SECRET_LINE}\n")
    with pytest.MonkeyPatch.context() as patch:
        use_prefect_home(patch, home)
        for name in ("REELFLOW_DASK_ADDRESS", "REELFLOW_ALLOWED_SOURCES", "REELFLOW_ALLOWED_STORES"):
            patch.delenv(name, raising=False)
        patch.setenv("REELFLOW_STORE", str(folder / "store"))
        patch.setenv("REELFLOW_MODELS_DIR", str(folder / "models"))
        patch.setenv("REELFLOW_CACHE_DIR", str(folder / "cache"))
        from flows.runtime.local_server import prefect_api

        with prefect_api():
            yield Deployed(folder, home / DATABASE)


@pytest.mark.parametrize(
    ("entrypoint", "parameters"),
    [
        ("analyze", {"source": "{here}/private/diary.mp4"}),
        ("analyze", {"source": "{here}/inbox/../private/diary.mp4"}),
        ("analyze", {"source": "{here}/inbox/link.mp4"}),
        ("analyze", {"source": ["{here}/inbox/a.mp4", "/etc/passwd"]}),
        ("analyze", {"source": "s3://someone-elses/a.mp4"}),
        ("analyze", {"source": "http://169.254.169.254/latest/meta-data"}),
        ("analyze", {"source": "secret://someone-elses"}),
        ("analyze", {"source": "{here}/inbox/a.mp4", "store": "{here}/private"}),
        ("analyze", {"source": "{here}/inbox/a.mp4", "options": {"tags": {"bank": "{here}/private/diary.yaml"}}}),
        ("analyze", {"source": "{here}/inbox/a.mp4", "options": {"detections": {"weights": "/etc/shadow"}}}),
        ("analyze", {"source": "{here}/inbox/a.mp4", "options": {"transcript": {"model": "{here}/private/diary.mp4"}}}),
        ("backfill", {"prefix": "{here}/private"}),
        ("backfill", {"prefix": "{here}/inbox", "store": "s3://someone-elses/store"}),
        ("bank", {"bank": "{here}/private/diary.yaml"}),
        ("bank", {"bank": "default", "embeddings": {"model": "/etc"}}),
    ],
)
def test_a_run_of_a_deployment_stays_inside_its_roots(
    deployed: Deployed, entrypoint: str, parameters: dict[str, Any]
) -> None:
    state = deployed.run(entrypoint, **_placed(parameters, deployed.folder))
    assert state.is_failed()
    assert "NotAllowed" in state.message, state.message
    assert {path.name for path in (deployed.folder / "private").iterdir()} == {"diary.yaml", "diary.mp4"}
    assert not deployed.tells("line of a private")


def _placed(value: Any, here: Path) -> Any:
    if isinstance(value, str):
        return value.format(here=here)
    if isinstance(value, list):
        return [_placed(item, here) for item in value]
    return {name: _placed(item, here) for name, item in value.items()}


@pytest.mark.parametrize(("bank", "says"), [("broken", "line 3, column 1: is no YAML"), ("link", "no text bank link")])
def test_no_line_of_a_bank_is_quoted(deployed: Deployed, bank: str, says: str) -> None:
    """Not of one in its folder either, which others may fill with links."""
    state = deployed.run("bank", bank=bank, embeddings={"model": "bundled"})
    assert state.is_failed()
    assert says in state.message
    assert not deployed.tells("line of a private")


def test_what_lies_in_the_inbox_is_read(deployed: Deployed) -> None:
    """A file that is missing there is reported as such."""
    state = deployed.run("analyze", source=str(deployed.folder / "inbox" / "new.mp4"))
    assert state.name == "Quarantined"
    assert "there is no such file" in state.message


def test_the_command_line_stays_free(deployed: Deployed) -> None:
    """Whoever types it may read the file anyway."""
    from flows.analyze_media import analyze_media

    source = str(deployed.folder / "private" / "gone.mp4")
    state: Any = analyze_media(source=source, store=str(deployed.folder / "store"), return_state=True)
    assert "there is no such file" in state.message


@pytest.mark.parametrize(
    ("entrypoint", "parameters"),
    [
        ("analyze", {"source": "https://me:hush@host/a.mp4"}),
        ("analyze", {"source": ["https://host/a.mp4", "https://host/b.mp4?token=hush"]}),
        ("analyze", {"source": "https://host/a.mp4", "store": "s3://key:hush@bucket/store"}),
        ("analyze", {"source": "https://host/a.mp4", "versions": {"https://host/a.mp4?token=hush": "1"}}),
        ("backfill", {"prefix": "s3://key:hush@bucket/in"}),
    ],
)
def test_credentials_in_a_parameter_are_refused_before_they_are_stored(
    deployed: Deployed, entrypoint: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        deployed.start(entrypoint, parameters, enforced=True)
    if "versions" not in parameters:
        assert "give secret://NAME" in caught.value.response.text
    assert not deployed.tells("hush")


def test_a_server_that_enforces_nothing_is_made_up_for(deployed: Deployed) -> None:
    state = deployed.run("analyze", source="https://me:stored-now@host/a.mp4")
    assert state.is_failed()
    assert "Change these credentials: they are stored now" in state.message
    assert deployed.tells("stored-now") == ["flow_run"]
