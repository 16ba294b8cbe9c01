"""`make live-demo`: a stream becomes windows, visits, one alert and a report, on loopback alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tasks.alerts import stored_alerts
from tasks.store import open_store
from tests.source_tree import ROOT


@pytest.mark.slow
def test_a_camera_is_recorded_analysed_followed_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "REELFLOW_"))}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "REELFLOW_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "flows", "live-demo", "--folder", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    visits = pd.read_parquet(folder / "store/tables/visits")
    assert {"circle", "square", "star"} <= set(visits["class"])
    stars = sorted(visits["visit"][visits["class"] == "star"])
    alerts = list(stored_alerts(open_store(str(folder / "store"))))
    assert sorted(alert.visit for alert in alerts) == stars, "one for each; there is one unless the stream broke off"
    assert len([line for line in lines if "a star appears  demo  " in line]) == len(stars), done.stdout
    page = next(line for line in lines if line.startswith("report ")).split()[-1]
    text = Path(page.removeprefix("file://")).read_text()
    assert "a star appears" in text
    assert "data:image/jpeg" in text, "with the picture of the alert"
    windows = pd.read_csv(Path(page.removeprefix("file://")).with_name("windows.csv"))
    assert set(windows["state"]) == {"analysed"}
    assert windows["duration_s"].sum() >= 15 - 0.5
    again = [sys.executable, "-m", "flows", "live-demo", "--folder", str(folder)]
    assert subprocess.run(again, cwd=ROOT, env=environment, capture_output=True, timeout=300).returncode == 2
