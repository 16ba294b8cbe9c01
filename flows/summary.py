"""What the Prefect UI shows of a run: markdown and tables, safe whatever the media was called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flows.backfill.report import BackfillReport
from tasks.core.schema import AnalyzeReport, Result
from tasks.core.source_names import short_name

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~])")


def label(source: object) -> str:
    """The last part of a source as a name for a run, see short_name; how many where there are several."""
    return short_name(str(source)) if not isinstance(source, list) else f"{len(source)} sources"


def plain(text: str) -> str:
    """Text that markdown and HTML leave as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def markdown(result: Result) -> str:
    """The facts of one result, to be read in half a minute."""
    media, video = result.media, result.media.video
    lines = [f"# {plain(label(result.source))}", ""]
    if result.notice:
        lines += [f"> **Note:** {plain(result.notice)}", ""]
    picture = f", {video.width} x {video.height} at {float(video.fps):.2f} frames/s" if video else ", no video"
    lines += [f"{media.duration_s:.1f} s{picture}, {'with' if media.audio else 'no'} sound", ""]
    if result.transcript.segments:
        lines += [f"## Said ({result.transcript.language})", ""]
        lines += [f"- `{segment.start:7.2f}` {plain(segment.text)}" for segment in result.transcript.segments[:40]]
        lines += [f"- and {len(result.transcript.segments) - 40} more"] if len(result.transcript.segments) > 40 else []
    if gaps := result.transcript.gaps:
        lines += ["", f"{result.transcript.gaps_s:.1f} s of speech in {len(gaps)} places have no text."]
    elif not result.transcript.segments:
        lines += [f"## Said\n\nNothing: {result.silence}."]
    if result.detections.classes:
        frames = f"{result.frames_with_boxes} of {result.detections.frames_sampled} frames"
        lines += ["", f"## Seen in {frames}", "", "| class | boxes |", "|---|---|"]
        lines += [f"| {plain(name)} | {count} |" for name, count in result.detections.classes.items()]
    if result.caption or result.tags:
        lines += ["", "## Shown", ""]
        lines += [plain(result.caption.text), ""] if result.caption else []
        lines += [", ".join(plain(tag.text) for tag in result.tags)]
    lines += ["", f"Report: `{result.artifacts['report'].replace('`', '')}`"]
    return "\n".join(lines)


def stage_rows(result: Result) -> list[dict[str, Any]]:
    """One row per stage: runs, seconds, bytes, cost."""
    return [
        {
            "stage": name,
            "runs": timing.runs,
            "cached": timing.cached,
            "wall s": round(timing.wall_s, 2),
            "cpu s": round(timing.cpu_s, 2),
            "queue s": round(timing.queue_s, 2),
            "MB out": round(timing.bytes_out / 1e6, 2),
            "USD": f"{result.cost.get(name, 0.0):.6f}",
        }
        for name, timing in result.timing.items()
    ]


def source_rows(reports: Iterable[AnalyzeReport]) -> list[dict[str, Any]]:
    """One row per source: what became of it, and why."""
    return [
        {
            "source": report.source,
            "status": report.status,
            "code": (report.error or {}).get("code", ""),
            "message": (report.error or {}).get("message", ""),
            "result": report.result or "",
        }
        for report in reports
    ]


def backfill(report: BackfillReport) -> str:
    """What a backfill came to."""
    rows = {
        "listed": f"{report.listed} ({report.bytes / 1e9:.3f} GB)",
        "done": report.done,
        "analysed before": report.cached,
        "handed over": report.handed_over,
        "set aside": report.quarantined,
        "skipped": report.skipped,
        "failed": report.failed,
        "seconds": f"{report.seconds:.1f}",
        "USD": f"{report.cost_usd:.6f}",
    }
    lines = [
        f"# {plain(report.prefix)}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]
    lines += [line for notice in report.notices for line in ("", f"> **Note:** {plain(notice)}")]
    if report.failed:
        lines += ["", "Run the backfill again for those that failed; those set aside need `retry_quarantined`."]
    return "\n".join([*lines, "", f"Store: `{report.store.replace('`', '')}`"])


def quarantined(report: AnalyzeReport) -> str:
    """Why one source was set aside."""
    error = report.error or {}
    return f"# {plain(label(report.source))}\n\n**{plain(error.get('code', ''))}**: {plain(error.get('message', ''))}"
