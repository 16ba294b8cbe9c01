"""Images by digest. What docker and a registry would say is said by a stand-in on PATH; neither can be had in tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra import pins
from tests.infra.manifests import INFRA, compose, interpolated
from tests.infra.test_compose import SECRETS

COMPOSE = (INFRA / "compose.yaml").read_text("utf-8")
KNOWN = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pins, "SETTINGS", tmp_path / ".env")
    monkeypatch.setattr("sys.argv", ["pins"])
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=x\nREELFLOW_POSTGRES_IMAGE=postgres:16\n# a comment\n")
    return tmp_path / ".env"


def docker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_every_image_of_others_can_be_pinned() -> None:
    given = dict.fromkeys(SECRETS, "x")
    services = interpolated(compose(), given)["services"].values()
    used = {service["image"] for service in services if not service["image"].startswith("reelflow:")}
    used |= {service["build"]["args"]["BASE"] for service in services if "build" in service}
    assert used == set(pins.images(COMPOSE).values())
    assert f"\nARG BASE={pins.images(COMPOSE)['REELFLOW_BASE_IMAGE']}\n" in (INFRA / "Dockerfile").read_text("utf-8")
    assert len(used) == 3


def test_a_pin_is_written_checked_and_used(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pins", "--check"])
    with pytest.raises(SystemExit, match=r"Not pinned in infra/\.env: REELFLOW_.*REELFLOW_POSTGRES_IMAGE"):
        pins.main()
    monkeypatch.setattr("sys.argv", ["pins"])
    docker(tmp_path, monkeypatch, f'[ "$1 $2 $3" = "buildx imagetools inspect" ] && echo {KNOWN}')
    pins.main()
    written = settings.read_text()
    assert written.startswith("POSTGRES_PASSWORD=x\n# a comment\n")
    assert written.count("REELFLOW_POSTGRES_IMAGE=") == 1
    environment = dict(re.findall(r"^(\w+)=(.*)$", written, re.MULTILINE)) | dict.fromkeys(SECRETS, "x")
    services = interpolated(compose(), environment)["services"]
    assert services["postgres"]["image"] == f"postgres:17-bookworm@{KNOWN}"
    assert services["prefect-server"]["build"]["args"]["BASE"] == f"python:3.11-slim-bookworm@{KNOWN}"
    monkeypatch.setattr("sys.argv", ["pins", "--check"])
    with pytest.raises(SystemExit) as done:
        pins.main()
    assert done.value.code == 0


@pytest.mark.parametrize("script", ["echo no such host >&2; exit 1", "echo latest", f"echo {KNOWN[:-1]}"])
def test_what_is_no_digest_is_never_written(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    before = settings.read_text()
    docker(tmp_path, monkeypatch, script)
    with pytest.raises(SystemExit, match="is not known here, nothing was written"):
        pins.main()
    assert settings.read_text() == before


def test_without_docker_nothing_is_written(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = settings.read_text()
    with pytest.raises(SystemExit, match="is not known here, nothing was written"):
        pins.main()
    assert settings.read_text() == before


def test_no_digest_stands_in_the_repository_that_nobody_has_checked() -> None:
    """Where one is wanted, `make pins` asks for it; one that was copied from elsewhere could be anything."""
    for path in (INFRA / "compose.yaml", INFRA / "Dockerfile", *(INFRA / "kubernetes").rglob("*.yaml")):
        assert "@sha256:" not in path.read_text("utf-8"), path
