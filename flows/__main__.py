"""`python -m flows`: the flows in this process, without a server. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import typer

from flows.cli.alerts_command import app as alerts_app
from flows.cli.arguments import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_QUARANTINED, EXIT_USAGE, AsJson, Assignments, Store
from flows.cli.live_commands import ingest, live_demo, report, watch
from flows.cli.messages_command import message, messages
from flows.cli.when import moment
from tasks.core.schema import AnalyzeReport

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Turn recordings into transcripts, detections and reports. "
    "Start with [bold]python -m flows demo[/bold], then [bold]python -m flows analyze FILE[/bold].",
)
models_app = typer.Typer(
    invoke_without_command=True, help="List model weights, where they are and their digests; fetch more."
)
app.add_typer(models_app, name="models")
app.add_typer(alerts_app, name="alerts")
app.command()(watch)
app.command()(ingest)
app.command()(report)
app.command("live-demo")(live_demo)
app.command()(message)
app.command()(messages)


@app.command()
def demo(store: Store = None, json_lines: AsJson = False) -> None:
    """Analyse the bundled sample with the bundled small models: no network, no weights, under a minute."""
    from flows.cli.console import say_if_new
    from flows.runtime.run import analyze_sources
    from tasks.core.models import bundled

    options = [
        "transcript.model=bundled",
        "transcript.words=true",
        "detections.weights=bundled",
        "embeddings.model=bundled",
        *bundled.SAMPLE_OPTIONS,
    ]
    say_if_new(store)
    raise typer.Exit(_finish(analyze_sources([str(bundled.SAMPLE_CLIP)], store, options), store, json_lines))


@app.command()
def analyze(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Path, file:///, s3://bucket/key or https://")
    ],
    store: Store = None,
    assignments: Assignments = None,
    json_lines: AsJson = False,
) -> None:
    """Analyse media files, one flow run each; what was analysed before is not done again.

    Exit status: 0 all done, 1 something failed, 2 usage, 3 some source was set aside as bad (the others are done).
    """
    from flows.cli.console import say_if_new
    from flows.runtime.run import analyze_sources

    say_if_new(store)
    raise typer.Exit(_finish(analyze_sources(sources, store, assignments or []), store, json_lines))


@app.command()
def backfill(
    prefix: Annotated[str, typer.Argument(help="s3://bucket/prefix, a folder or file:///")],
    store: Store = None,
    assignments: Assignments = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, and estimate time and cost")] = False,
    suffixes: Annotated[list[str] | None, typer.Option("--suffix", help="Only names that end so, e.g. .mp4")] = None,
    glob: Annotated[str | None, typer.Option(help="Only paths below the prefix that match; * also matches /")] = None,
    min_bytes: Annotated[int, typer.Option(min=0, help="Smallest size, bytes")] = 0,
    max_bytes: Annotated[int | None, typer.Option(min=0, help="Largest size, bytes")] = None,
    modified_since: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Only what was written since")
    ] = None,
    in_flight: Annotated[int | None, typer.Option(min=1, max=64, help="Media analysed at the same time")] = None,
    together: Annotated[int, typer.Option(min=1, max=64, help="Most short media that share a flow run")] = 16,
    retry_quarantined: Annotated[bool, typer.Option("--retry-quarantined", help="Try what was set aside")] = False,
    hand_over: Annotated[
        str | None, typer.Option(metavar="FLOW/NAME", help="Give objects to runs of this deployment instead")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=100, help="Objects per deployment run")] = 1,
    json_lines: AsJson = False,
) -> None:
    """Analyse every media object under a bucket prefix or in a folder that is not analysed yet.

    Stop it and start it again at any time: nothing is lost and nothing is done twice. Exit status as for `analyze`.
    """
    from flows.cli.console import matched, say, say_if_new
    from flows.runtime.run import backfill as run
    from flows.runtime.run import plan_backfill
    from tasks.core.listing import Selection

    say_if_new(store)
    try:
        select = Selection(
            suffixes=suffixes or [], glob=glob, min_bytes=min_bytes, max_bytes=max_bytes, modified_since=modified_since
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if dry_run:
        plan = plan_backfill(prefix, store, assignments or [], select, retry_quarantined=retry_quarantined)
        for notice in plan.notices:
            say(notice, err=True, style="yellow")
        print(plan.model_dump_json()) if json_lines else say(plan.sentence())
        raise typer.Exit(0 if matched(plan.listed, prefix, glob) else EXIT_FAILED)

    def heard(found: AnalyzeReport) -> None:
        if json_lines:
            print(found.line(), flush=True)
        elif found.error:
            say(f"{found.status:<12}{found.source}: {found.error['code']}: {found.error['message']}")

    done = run(
        prefix,
        store,
        assignments or [],
        heard,
        select=select,
        in_flight=in_flight,
        together=together,
        retry_quarantined=retry_quarantined,
        hand_over={"deployment": hand_over, "batch": batch} if hand_over else None,
    )
    for notice in done.notices:
        say(notice, err=True, style="yellow")
    say(done.sentence(), err=json_lines)
    failed = done.failed or not matched(done.listed, prefix, glob)
    raise typer.Exit(EXIT_FAILED if failed else EXIT_QUARANTINED if done.quarantined or done.skipped else 0)


@app.command()
def search(
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help='Words, "a phrase", objects (2 cars, person and car within 5 s, conf>0.5), from 1:00 to 2:00',
        ),
    ],
    store: Store = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--in", metavar="KIND", help="speech, objects, scenes or tags; default all")
    ] = None,
    media: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this media")] = None,
    prefix: Annotated[str | None, typer.Option(help="Only sources that begin with this")] = None,
    camera: Annotated[str | None, typer.Option(help="Only this camera")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=moment, metavar="TIME", help="Only media recorded (else analysed) since: a day, yesterday, 7d"
        ),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Only media recorded (else analysed) before")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Most moments")] = 20,
    model: Annotated[str, typer.Option(help="SigLIP that reads the question; auto: the one of the store")] = "auto",
    index: Annotated[
        bool | None, typer.Option("--index/--tables", help="Ask the index, or the tables; default: an index if any")
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object per moment, nothing else there")] = False,
) -> None:
    """Find moments: what was said, which objects are seen, what frames show; the best first.

    Examples: `search "red circle"`, `search '"open the door"' --in speech`, `search "2 persons and car within 5 s"`.
    """
    from pydantic import ValidationError

    from flows.cli.console import say, show_moments
    from flows.cli.find import Finder
    from tasks.core.search import Query, QueryError
    from tasks.settings import settings

    asked = {"text": question, "media": media or [], "prefix": prefix, "camera": camera, "since": since, "until": until}
    try:
        query = Query.model_validate({**asked, "limit": limit} | ({"kinds": kinds} if kinds else {}))
        find = Finder(store or settings().store, model, indexed=index)
        if "scenes" in query.kinds and (notice := find.notice()):
            say(notice, err=True, style="yellow")
        moments = find(query)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]).replace("kinds", "--in").replace("text", "QUERY")
        raise typer.BadParameter(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    except QueryError as error:
        raise typer.BadParameter(str(error)) from error
    if json_lines:
        for moment in moments:
            print(moment.line())
    else:
        show_moments(moments)


@app.command("build-index")
def build_index(store: Store = None, json_lines: AsJson = False) -> None:
    """Bring the search index of a store up to date; only what is new or changed is read.

    The index is disposable: delete its folder and build it again. Without one, searches read the tables.
    """
    from dataclasses import asdict

    from flows.cli.console import count_progress, say
    from tasks.records.index import build_index as build
    from tasks.settings import settings
    from tasks.store import open_existing

    root = open_existing(store or settings().store)
    with count_progress("Index") as counted:
        done = build(root, lambda read, of: counted(f"{read} of {of} media read", read, of))
    if json_lines:
        print(json.dumps(asdict(done)))
        return
    say(
        f"{done.media} media ({done.new} new, {done.changed} changed, {done.gone} gone), {done.segments} segments of "
        f"speech, {done.vectors} frames; {done.bytes / 1e6:.1f} MB in {done.seconds:.1f} s."
    )


@app.command()
def explore(
    store: Store = None,
    host: Annotated[str, typer.Option(help="Address to listen at; others than loopback need a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8710,
    token: Annotated[
        str | None, typer.Option(envvar="REELFLOW_EXPLORER_TOKEN", help="What visitors need; a random one if none")
    ] = None,
    names: Annotated[list[str] | None, typer.Option("--name", help="Host name that browsers may use")] = None,
    model: Annotated[str, typer.Option(help="SigLIP that reads the questions; auto: the one of the store")] = "auto",
) -> None:
    """Open the explorer: a web page to find moments in a store and watch them."""
    from flows.cli.console import say
    from flows.cli.find import Finder
    from flows.explorer import serve as run
    from tasks.settings import settings

    root = store or settings().store
    find = Finder(root, model)
    if notice := find.notice():
        say(notice, err=True, style="yellow")
    run(root, find, host=host, port=port, token=token, names=names or (), say=say)


@app.command("text-bank")
def text_bank(
    bank: Annotated[
        str, typer.Argument(help="auto, default, shapes, or a YAML file of tags and descriptions")
    ] = "auto",
    store: Store = None,
    assignments: Assignments = None,
    json_lines: AsJson = False,
) -> None:
    """Embed a bank of tags and descriptions; media are described with it by `--set tags.bank=...`.

    Copy tasks/core/text_banks/default.yaml, edit it and give its path. The model is `--set embeddings.model=...`.
    """
    from flows.cli.console import say
    from flows.runtime.run import text_bank as run

    done = run(bank, store, assignments or [])
    print(done.model_dump_json()) if json_lines else say(done.sentence())


@app.command()
def options() -> None:
    """List every option of `--set` with its default."""
    from flows.cli.console import say
    from tasks.core.options import describe_options

    for name, default, description in describe_options():
        say(f"{name + '=' + json.dumps(default):<40} {description}")


@app.command()
def doctor(store: Store = None) -> None:
    """Check ffmpeg, CPU, GPU, memory, disk, Prefect, Dask, weights and the store; say what to do about each fault."""
    from flows.cli.console import say
    from flows.cli.doctor import check_all

    worst = 0
    for check in check_all(store):
        mark, style = {"ok": ("ok  ", "green"), "note": ("note", "cyan"), "fault": ("FAIL", "red")}[check.state]
        say(f"{mark}  {check.name:<10} {check.found}", style=style)
        if check.advice:
            say(f"      {'':<10} -> {check.advice}")
        worst = max(worst, EXIT_FAILED if check.state == "fault" else 0)
    raise typer.Exit(worst)


@app.command()
def serve(
    pool: Annotated[str, typer.Option(help="Work pool of type process")] = "reelflow-process",
    limit: Annotated[int, typer.Option(min=1, max=256, help="Flow runs at a time")] = 4,
    poll: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks for new runs")] = 1.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that runs in flight get when this is ended")] = 300.0,
) -> None:
    """Execute the deployments' runs from one warm process: `prefect worker start` without seconds of imports a run.

    Start it instead of that worker, or beside it, after `python -m deployments apply` and `prefect deploy --all`.
    """
    from flows.runtime.serve import serve as execute

    execute(pool, limit=limit, poll_s=poll, grace_s=grace)


@models_app.callback()
def models(context: typer.Context) -> None:
    """List model weights: what is here, where, and its digest."""
    if context.invoked_subcommand is None:
        from flows.cli.weights import show_models

        show_models()


@models_app.command("fetch")
def fetch_model(name: Annotated[str, typer.Argument(help="For example base.en, large-v3 or yolo11n.pt")]) -> None:
    """Download weights into REELFLOW_MODELS_DIR (or the library's own cache) and check them."""
    from flows.cli.weights import fetch_weights

    fetch_weights(name)


def _finish(reports: Iterable[AnalyzeReport], store: str | None, json_lines: bool) -> int:
    from flows.cli.console import show_report
    from flows.runtime.run import committed_result

    status, noticed = set(), set[str]()
    for done in reports:
        status.add(done.status)
        if json_lines:
            print(done.line(), flush=True)
        else:
            show_report(done, committed_result(done, store), noticed)
    return EXIT_FAILED if "failed" in status else EXIT_QUARANTINED if "quarantined" in status else 0


def main() -> None:
    """Entry point: turns errors that a user can mend into one sentence and an exit status."""
    import logging

    from flows.cli.console import Interrupted, Spoken, say
    from tasks.core.errors import ReelflowError
    from tasks.core.options import UnknownOption

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    logging.getLogger("reelflow.cluster").addHandler(Spoken())
    try:
        app(prog_name="python -m flows")
    except UnknownOption as error:
        say(str(error), err=True)
        sys.exit(EXIT_USAGE)
    except Interrupted:
        say("Interrupted. The same command goes on from what is finished.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except ReelflowError as error:
        say(error.message, err=True, style="red")
        if error.detail:
            say(error.detail, err=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
