"""`python -m flows ingest`, `watch` and `report`: cameras in, what is recorded analysed, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import EXIT_FAILED, EXIT_QUARANTINED, AsJson, Assignments, Store


def watch(
    prefix: Annotated[str, typer.Argument(help="s3://bucket/prefix; a folder is only swept")],
    queue: Annotated[
        str | None, typer.Option(metavar="URL", help="SQS queue that the bucket's notifications go to")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="/health, and /events for stores that call (REELFLOW_WATCH_TOKEN)"),
    ] = None,
    store: Store = None,
    assignments: Assignments = None,
    suffixes: Annotated[list[str] | None, typer.Option("--suffix", help="Only names that end so, e.g. .mp4")] = None,
    glob: Annotated[str | None, typer.Option(help="Only paths below the prefix that match; * also matches /")] = None,
    in_flight: Annotated[int | None, typer.Option(min=1, max=64, help="Objects analysed at the same time")] = None,
    behind: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="New objects that would wait longer are sampled less")
    ] = 6.0,
    levels: Annotated[int, typer.Option(min=1, max=6, help="1: never sample less; 3: down to a quarter")] = 3,
    sweep: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds between two sweeps; 0: none")] = 300.0,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="End when nothing is left to do")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say how the watchers of this store are")] = False,
    json_lines: AsJson = False,
) -> None:
    """Analyse each object of a bucket as soon as a notification tells of it; a sweep finds what none told of.

    Stop it and start it again at any time: nothing is lost and nothing is done twice. SIGTERM ends it when what it has
    begun is done. Exit status as for `analyze`; dead letters count as set aside.
    """
    from flows.cli.console import say
    from flows.runtime.run import watch as run
    from flows.watch.report import WatchReport
    from flows.watch.status import read_all
    from tasks.core.fetch import display_source
    from tasks.core.listing import Selection
    from tasks.settings import settings
    from tasks.store import open_existing

    if status:
        shown = list(read_all(open_existing(store or settings().store), display_source(prefix).startswith))
        for line in (line for found in shown for line in ([found.model_dump_json()] if json_lines else found.lines())):
            say(line)
        if not shown:
            say(f"No watcher of {display_source(prefix)} has written to this store.", err=True)
        raise typer.Exit(0 if shown and all(found.healthy for found in shown) else EXIT_FAILED)

    def heard(report: WatchReport) -> None:
        if json_lines:
            print(report.line(), flush=True)
        else:
            said = f": {report.error['message']}" if report.error else ""
            say(f"{report.status:<12}{report.committed or report.received}  {report.source}{said}")

    done = run(
        prefix,
        store,
        assignments or [],
        heard,
        select=Selection(suffixes=suffixes or [], glob=glob),
        queue=queue,
        listen=listen,
        in_flight=in_flight,
        behind_s=behind,
        levels=levels,
        sweep_s=sweep,
        until_empty=until_empty,
    )
    for notice in done.notices:
        say(notice, err=True, style="yellow")
    say(done.sentence(), err=json_lines)
    counts = done.status.counts
    bad = counts.get("quarantined") or counts.get("dead letter")
    raise typer.Exit(EXIT_FAILED if counts.get("failed") else EXIT_QUARANTINED if bad else 0)


def ingest(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            help="rtsp://, rtmp://, http(s)://, a file; env:NAME or secret://NAME where it holds a password",
        ),
    ] = None,
    camera: Annotated[str | None, typer.Option(metavar="NAME", help="What the camera is called in keys")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="URI", help="Root of the recordings: a folder or s3://bucket/prefix")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of many cameras")] = None,
    window: Annotated[float, typer.Option(help="Windows end at the first key frame at or after, seconds")] = 3.0,
    max_window: Annotated[float, typer.Option(help="Longest window where no key frame comes, seconds")] = 30.0,
    duration: Annotated[float | None, typer.Option(help="End after so many seconds")] = None,
    pace: Annotated[bool, typer.Option("--pace", help="Read a file as fast as it was recorded, as if live")] = False,
    transcode: Annotated[
        bool, typer.Option("--transcode", help="Encode anew (H.264), so that windows are exactly as long as asked")
    ] = False,
    bitrate: Annotated[int, typer.Option(help="Of --transcode, bits per second")] = 1_000_000,
    refresh_rate: Annotated[int, typer.Option(help="Of --transcode: every Nth frame is kept")] = 1,
    transport: Annotated[str, typer.Option(help="How RTSP sends its packets: tcp or udp")] = "tcp",
    private_hosts: Annotated[
        bool | None,
        typer.Option(
            "--private-hosts/--public-hosts",
            help="Whether private addresses may be opened; default: by rtsp, rtmp and srt, which are cameras' own",
        ),
    ] = None,
    keep: Annotated[str | None, typer.Option(metavar="AGE", help="Delete windows that are older: 12h, 30d, 4w")] = None,
    spool: Annotated[Path | None, typer.Option(help="Folder for windows that wait to be sent")] = None,
    spool_bytes: Annotated[int | None, typer.Option(help="Most that one camera's windows take there, bytes")] = None,
    uploads: Annotated[int | None, typer.Option(help="Windows sent at the same time")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object per window, nothing else there")] = False,
) -> None:
    """Record cameras: streams become time-stamped windows in a bucket or folder, for ever or until the source ends.

    Example: `ingest rtsp://192.168.1.20/stream1 --camera gate --to s3://bucket/recordings/`. Exit status: 0 at the end
    of a file or after --duration, 1 where a source is of no use, 2 usage.
    """
    import signal
    import threading

    from flows.cli.console import say
    from flows.ingest.cameras import options, read_config
    from flows.ingest.run import ingest as run
    from tasks.core.errors import OptionError
    from tasks.core.live.address import Address

    kept = {"spool": spool, "spool_bytes": spool_bytes, "uploads": uploads}
    given = {name: value for name, value in kept.items() if value is not None}
    try:
        if config is not None:
            if url is not None or camera is not None:
                raise typer.BadParameter("give a URL with --camera, or --config, not both")
            wanted = read_config(config, to=to, **given)
        elif url is None or camera is None or to is None:
            raise typer.BadParameter("it needs a URL, --camera NAME and --to URI, or --config FILE")
        else:
            one = {"url": url, "transport": transport, "private_hosts": private_hosts, "window": window}
            one |= {"max_window": max(max_window, window), "duration": duration, "pace": pace, "keep": keep}
            one |= {"transcode": transcode, "bitrate": bitrate, "refresh_rate": refresh_rate}
            wanted = options("ingest", to=to, cameras={camera: one}, **given)
    except OptionError as error:
        raise typer.BadParameter(error.message) from None
    if url is not None and Address(url).has_secret:
        say(
            "The password in this address can be read by everybody on this host, in the list of processes; put the "
            "address into the environment and write env:NAME instead.",
            err=True,
            style="yellow",
        )
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    done = run(
        wanted,
        lambda record: print(record.line(), flush=True) if json_lines else say(f"{record.key}  {record.frames} frames"),
        lambda text: say(text, err=True),
        stopping,
        trusted=True,
    )
    say(done.sentence(), err=True)
    raise typer.Exit(EXIT_FAILED if done.failed else 0)


def report(
    prefix: Annotated[
        str | None, typer.Argument(metavar="[PREFIX]", help="Where `ingest` puts windows; without it no gaps are known")
    ] = None,
    store: Store = None,
    cameras: Annotated[list[str] | None, typer.Option("--camera", metavar="NAME", help="Only this one")] = None,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="A day, a moment, yesterday, 7d")] = "today",
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="Before this")] = "tomorrow",
    timezone: Annotated[str, typer.Option("--tz", metavar="ZONE", help="Of days and hours: Europe/Berlin")] = "UTC",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Copy page and tables there")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="The figures as one JSON object on stdout")] = False,
) -> None:
    """Report what cameras saw: visits, alerts, speech, scenes, gaps, lag and cost, by camera, class and local hour.

    Example: `report s3://bucket/recordings/ --camera gate --from yesterday --to today --tz Europe/Berlin`. The page and
    its tables (CSV, Parquet) are kept in the store under reports/.
    """
    import json

    from flows.activity import make_report, period, stored
    from flows.cli.console import count_progress, say
    from tasks.activity import figures
    from tasks.core.errors import OptionError
    from tasks.settings import settings

    try:
        span = period(since, until, timezone)
    except OptionError as error:
        raise typer.BadParameter(error.message) from None
    root = stored(store or settings().store, prefix)
    with count_progress("Report") as counted:
        made, found = make_report(
            root, span, prefix, cameras or [], out, lambda done, of: counted(f"{done} of {of} windows", done, of)
        )
    if json_lines:
        print(json.dumps(json.loads(figures(found)) | made.model_dump(include={"id", "page", "folder"})))
        return
    for notice in made.notices:
        say(notice, err=True, style="yellow")
    say(made.sentence())
    for row in found.classes:
        say(f"  {row.class_:<16} {row.visits} visits, {row.boxes} boxes in {row.frames} frames")
    say(f"  report           {(out / 'report.html').resolve().as_uri() if out else made.page}")


def live_demo(
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where everything is kept; default .reelflow/live-demo/TIME")
    ] = None,
) -> None:
    """Show a camera: the bundled sample over RTSP, recorded, analysed as it comes, followed by a rule, reported."""
    from datetime import UTC, datetime

    from flows.cli.alerts_command import show
    from flows.cli.console import say
    from flows.cli.live_demo import live_demo as run

    folder = folder or Path(".reelflow") / "live-demo" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} holds something; the demonstration begins in a new folder")
    made = run(folder.resolve(), say, show)
    say(made.sentence())
    say(f"report     {made.page}")
    say(f"alerts     python -m flows alerts replay {folder}/rules.yaml --store {folder}/store")
    say(f"explorer   python -m flows explore --store {folder}/store")
