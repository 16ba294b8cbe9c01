"""`python -m deployments`: what prefect.yaml refers to, and the whole stack on one machine."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Deployments: `check` prefect.yaml, `apply` pools and automations, then `prefect deploy --all`. "
    "`up` does all of it on this machine.",
)


FolderOption = Annotated[Path | None, typer.Option(help="Where the stack keeps its files [default: .reelflow/stack]")]


@app.command()
def check() -> None:
    """Find misspelt keys, entry points that cannot be imported and parameters that do not exist in prefect.yaml."""
    from deployments.registry import check as faults_of
    from flows.cli.console import say

    faults = faults_of()
    for fault in faults:
        say(fault, err=True, style="red")
    if faults:
        raise typer.Exit(1)
    say("prefect.yaml: every key, entry point and parameter exists.")


@app.command()
def apply(
    pool: Annotated[
        str | None, typer.Option(help="Where deployments run: process, docker, kubernetes or ecs", metavar="KIND")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, change nothing")] = False,
) -> None:
    """Make the work pools, automations and blocks on the server of PREFECT_API_URL; a second time nothing changes.

    REELFLOW_STORE (s3://...) and AWS_* become the blocks aws-credentials/reelflow and s3-bucket/reelflow;
    REELFLOW_NOTIFY_URL gets a message when a run fails. After it: prefect deploy --all
    """
    from deployments.apply import apply as changes
    from deployments.pools import KINDS
    from flows.cli.console import say

    if pool is not None and pool not in KINDS:
        raise typer.BadParameter(f"{pool!r} is none of {', '.join(KINDS)}", param_hint="--pool")
    for change in changes(pool, dry_run=dry_run):
        say(f"{change.did:<10} {change.what}{': ' + change.detail if change.detail else ''}")


@app.command()
def certificates(folder: Annotated[Path, typer.Argument(help="Where ca.crt, tls.crt and tls.key are written")]) -> None:
    """Make the certificate of a Dask cluster that several processes or hosts share; where there is one it stays.

    Who has the files may run code on the cluster, nobody else. It is valid for a year: see infra/README.md.
    """
    from flows.cli.console import say
    from flows.runtime.dask_security import DAYS, tls_environment, write_certificate

    if write_certificate(folder):
        say(f"Made a certificate in {folder}, valid for {DAYS} days. Copy the folder to every host.", err=True)
    else:
        say(f"{folder} holds a certificate already, which stays.", err=True)
    say("Scheduler, workers and flows find it by these variables:", err=True)
    for name, value in tls_environment(folder.absolute()).items():
        say(f"export {name}={shlex.quote(value)}")


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535)] = 4200,
    s3_port: Annotated[int, typer.Option(min=1, max=65535)] = 9000,
    dask_port: Annotated[int, typer.Option(min=1, max=65535)] = 8786,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535)] = 8787,
    folder: FolderOption = None,
    bundled: Annotated[
        bool | None,
        typer.Option(
            help="Analyse with the bundled small models unless a run says otherwise [default: without weights]"
        ),
    ] = None,
) -> None:
    """Start the whole stack on this machine: Prefect, S3, Dask scheduler, CPU and GPU-tagged workers, Prefect worker.

    Everything listens on 127.0.0.1 and is kept under .reelflow/; `down` ends it. What the S3 server holds stays.
    """
    from deployments import stack
    from flows.cli.console import say
    from tasks.settings import settings

    place = folder or stack.FOLDER
    use_bundled = bundled if bundled is not None else settings().models is None
    ports = stack.Ports(prefect=prefect_port, s3=s3_port, dask=dask_port, dashboard=dashboard_port)
    say("Starting Reelflow on this machine (a first start takes a minute):")
    started = stack.up(ports, place, use_bundled=use_bundled)
    say(stack.invitation(started, place, use_bundled=use_bundled))


@app.command()
def down(folder: FolderOption = None) -> None:
    """End exactly what `up` started."""
    from deployments import stack
    from flows.cli.console import say

    ended = stack.down(folder or stack.FOLDER)
    say(f"Ended {ended} processes." if ended else "No stack runs in this checkout.")


@app.command()
def status(folder: FolderOption = None) -> None:
    """Show the parts of the stack, whether they run, and the memory that they hold."""
    from deployments import processes, stack
    from flows.cli.console import say

    found = stack.running(folder or stack.FOLDER)
    if found is None:
        say("No stack runs in this checkout; `make up` starts one.")
        raise typer.Exit(1)
    for process in found.processes:
        say(f"  {process.name:<16} {'runs' if processes.alive(process) else 'ENDED':<6} {process.log}")
    members = processes.members(found.id)
    say(f"{len(members)} processes hold {processes.memory(found.id) / 2**30:.1f} GiB")
    say("\n".join(found.pages))


def main() -> None:
    """Entry point: turns errors that a user can mend into one sentence and an exit status."""
    from flows.cli.console import say
    from tasks.core.errors import ReelflowError

    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        app(prog_name="python -m deployments")
    except ReelflowError as error:
        say(error.message, err=True, style="red")
        if error.detail:
            say(error.detail, err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
