import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from distributed import LocalCluster
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import doctor
from tasks.core.sandbox import confine, landlock


@pytest.mark.parametrize("name", ["store", "some/where/store"])
def test_a_store_that_does_not_exist_is_said_and_not_made(tmp_path: Path, name: str) -> None:
    check = doctor.check_store(str(tmp_path / name))
    assert check.state == "note"
    assert "does not exist yet" in check.found
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).mkdir(parents=True)
    assert doctor.check_store(str(tmp_path / name)).state == "ok"


def test_a_store_that_cannot_be_made_is_a_fault() -> None:
    check = doctor.check_store("/proc/nowhere/store")
    assert check.state == "fault"
    assert "--store" in check.advice


def test_a_models_folder_that_does_not_exist_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_MODELS_DIR", str(tmp_path / "models"))
    weights = next(check for check in doctor.check_all(str(tmp_path)) if check.name == "weights")
    assert weights.state == "fault"
    assert "REELFLOW_MODELS_DIR" in weights.advice
    assert str(tmp_path / "models") in weights.advice


def test_weights_that_are_missing_are_said_with_where_they_were_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "REELFLOW_MODELS_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    weights = next(check for check in doctor.check_all(str(tmp_path)) if check.name == "weights")
    assert weights.state == "note"
    for said in ("transcript", "detections", "embeddings", str(tmp_path), "models fetch"):
        assert said in weights.advice


@pytest.mark.parametrize(("status", "state"), [(200, "note"), (401, "ok")])
def test_a_prefect_server_that_asks_nobody_who_they_are_is_noted(status: int, state: str) -> None:
    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith("/health") else status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_address[1]}/api"}):
            check = doctor._prefect()
        server.shutdown()
    assert check.state == state
    assert ("PREFECT_SERVER_API_AUTH_STRING" in check.advice) is (state == "note")


def test_a_cluster_that_takes_code_from_everybody_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1", "resources": {"CPU": 1, "GPU": 1}}
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", **open_to_all) as cluster:
        monkeypatch.setenv("REELFLOW_DASK_ADDRESS", cluster.scheduler_address)
        check = doctor._dask()
    assert check.state == "note"
    assert "certificates" in check.advice


def test_a_cluster_with_another_certificate_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_DASK_ADDRESS", "tls://127.0.0.1:1")
    check = doctor._dask()
    assert check.state == "fault"
    assert "certificate" in check.advice


def test_a_host_that_cannot_confine_decoders_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "lacking", list)
    assert doctor._confinement().state == "ok"
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(doctor, "lacking", confine.lacking)
    found = doctor._confinement()
    assert found.state == "note"
    assert "Landlock" in found.found
    assert "only media that you trust" in found.advice
