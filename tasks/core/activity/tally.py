"""Adds up what cameras saw.

Everything counts where it lies by its own time; cost, bytes and lag of a window where it begins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from statistics import median
from typing import Any, Final

from tasks.core.activity.period import Period, place, shares
from tasks.core.activity.rows import (
    Activity,
    AlertRow,
    CameraTotals,
    ClassRow,
    ClassTotals,
    GapRow,
    HealthRow,
    HourRow,
    VisitRow,
    WindowRow,
)
from tasks.core.schema import Result

JOINED_S: Final = 0.1
"""Windows that lie closer join: less is the rounding of two estimates."""

Spans = list[tuple[float, float]]


class Tally:
    """Takes rows in any order, each once; `activity` is what they come to."""

    def __init__(self, period: Period, cameras: Iterable[str]) -> None:
        self._period = period
        self._cameras = {name: _Camera() for name in cameras}
        self._hours: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._class_hours: dict[tuple[str, str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._dwells: dict[str, list[float]] = defaultdict(list)
        self.windows: list[WindowRow] = []
        self.visits: list[VisitRow] = []
        self.alerts: list[AlertRow] = []
        self.gaps: list[GapRow] = []
        self.health: list[HealthRow] = []

    def window(self, row: WindowRow, result: Result | None = None) -> None:
        """A window of which a part lies in the period, with what was found in it."""
        span = self._period.clip(row.start, row.end)
        begins = self._period.holds(row.start)
        if span is None and not begins:
            return
        camera = self._cameras[row.camera]
        found = self._found(row, result) if result else {}
        row = row.model_copy(update=found)
        self.windows.append(row)
        camera.counts["windows"] += 1
        camera.counts[row.state] += 1
        if span:
            camera.recorded.append(span)
        for name in ("speech_s", "words", "scenes"):
            camera.counts[name] += getattr(row, name)
        if begins:
            hour = self._hour(row.camera, row.start)
            hour["windows"] += 1
            hour["cost_usd"] += row.cost_usd
            camera.counts["cost_usd"] += row.cost_usd
            camera.counts["bytes"] += row.bytes or 0
            if row.lag_s is not None:
                camera.lags.append(row.lag_s)

    def _found(self, row: WindowRow, result: Result) -> dict[str, Any]:
        """What a result adds to the hours; and the window's own figures, of the part that lies in the period."""
        found: dict[str, Any] = defaultdict(int)
        for start, end in merged((row.start + s.start, row.start + s.end) for s in result.transcript.segments):
            if span := self._period.clip(start, end):
                found["speech_s"] += span[1] - span[0]
                self._share(row.camera, span, "speech_s")
        for segment in result.transcript.segments:
            if self._period.holds(row.start + segment.start):
                found["words"] += len(segment.text.split())
        for scene in result.scenes:
            if self._period.holds(row.start + scene.time):
                found["scenes"] += 1
                self._hour(row.camera, row.start + scene.time)["scenes"] += 1
        for frame in result.detections.frames:
            at = row.start + frame.time
            if not self._period.holds(at):
                continue
            found["frames_sampled"] += 1
            found["boxes"] += len(frame.boxes)
            seen: dict[str, int] = defaultdict(int)
            for box in frame.boxes:
                seen[box.class_] += 1
            for name, count in seen.items():
                hour = self._class_hours[row.camera, name, place(self._period.hours, at)]
                hour["boxes"] += count
                hour["frames"] += 1
                hour["most"] = max(hour["most"], count)
        return found

    def visit(self, row: VisitRow) -> None:
        """A visit, whole: its part that lies in the period is taken, and none where it has none."""
        span = self._period.clip(row.start, row.end)
        if span is None and not self._period.holds(row.start):
            return
        dwell_s = span[1] - span[0] if span else 0.0
        row = row.model_copy(update={"dwell_s": round(dwell_s, 3), "lasts": row.lasts or row.end >= self._period.end})
        self.visits.append(row)
        self._cameras[row.camera].counts["visits"] += 1
        self._dwells[row.class_].append(row.dwell_s)
        if self._period.holds(row.start):
            number = place(self._period.hours, row.start)
            self._hours[row.camera, number]["visits"] += 1
            self._class_hours[row.camera, row.class_, number]["visits"] += 1
        for number, held in shares(self._period.hours, *span) if span else ():
            self._class_hours[row.camera, row.class_, number]["dwell_s"] += held

    def alert(self, row: AlertRow) -> None:
        if self._period.holds(row.time):
            self.alerts.append(row)
            self._cameras[row.camera].counts["alerts"] += 1
            self._hour(row.camera, row.time)["alerts"] += 1

    def gap(self, row: GapRow) -> None:
        if span := self._period.clip(row.start, row.end):
            self.gaps.append(row.model_copy(update={"start": span[0], "end": span[1]}))

    def ill(self, row: HealthRow) -> None:
        """Something was wrong with a camera."""
        if span := self._period.clip(row.start, row.end):
            self.health.append(row.model_copy(update={"start": span[0], "end": span[1]}))

    def activity(
        self, *, made: float, source: str, ledgers: bool, tracked_until: dict[str, float], notices: list[str]
    ) -> Activity:
        """What everything came to; `made` is now, and nobody knows what lies behind it."""
        until = max(min(self._period.end, made), self._period.begin)
        for name, camera in self._cameras.items():
            for span in merged(camera.recorded, JOINED_S):
                camera.counts["recorded_s"] += span[1] - span[0]
                self._share(name, span, "recorded_s")
            gaps = merged((gap.start, gap.end) for gap in self.gaps if gap.camera == name)
            for gap in gaps:
                camera.counts["gap_s"] += gap[1] - gap[0]
                self._share(name, gap, "gap_s")
            known = merged([*camera.recorded, *gaps], JOINED_S)
            accounted = sum(min(end, until) - start for start, end in known if start < until)
            camera.counts["unexplained_s"] = max(0.0, until - self._period.begin - accounted) if ledgers else 0.0
        edges = self._period.hours
        return Activity(
            period=self._period,
            until=until,
            made=made,
            source=source,
            ledgers=ledgers,
            cameras=[camera.totals(name, tracked_until.get(name)) for name, camera in sorted(self._cameras.items())],
            classes=self._classes(),
            hours=[
                HourRow(camera=name, start=start, end=end, **_numbers(HourRow, self._hours.get((name, number), {})))
                for name in sorted(self._cameras)
                for number, (start, end) in enumerate(pairwise(edges))
                if start < until or (name, number) in self._hours
            ],
            class_hours=[
                ClassRow.model_validate(
                    {"camera": name, "class": kind, "start": edges[number], "end": edges[number + 1]}
                    | _numbers(ClassRow, found)
                )
                for (name, kind, number), found in sorted(self._class_hours.items())
            ],
            windows=sorted(self.windows, key=lambda row: (row.camera, row.start, row.link)),
            visits=sorted(self.visits, key=lambda row: (row.start, row.camera, row.visit)),
            alerts=sorted(self.alerts, key=lambda row: (row.time, row.id)),
            gaps=sorted(self.gaps, key=lambda row: (row.start, row.camera)),
            health=sorted(self.health, key=lambda row: (row.start, row.camera, row.kind)),
            notices=notices,
        )

    def _classes(self) -> list[ClassTotals]:
        """The class that most was seen of first."""
        found = []
        for name in {kind for _, kind, _ in self._class_hours} | set(self._dwells):
            hours = [hour for (_, kind, _), hour in self._class_hours.items() if kind == name]
            dwells = self._dwells.get(name, [])
            values = {
                "class": name,
                "visits": len(dwells),
                "dwell_s": round(sum(dwells), 3),
                "dwell_median_s": round(median(dwells), 3) if dwells else None,
                "dwell_longest_s": max(dwells, default=None),
                "boxes": round(sum(hour["boxes"] for hour in hours)),
                "frames": round(sum(hour["frames"] for hour in hours)),
                "most": round(max((hour["most"] for hour in hours), default=0)),
            }
            found.append(ClassTotals.model_validate(values))
        return sorted(found, key=lambda row: (-row.visits, -row.boxes, row.class_))

    def _hour(self, camera: str, at: float) -> dict[str, float]:
        return self._hours[camera, place(self._period.hours, at)]

    def _share(self, camera: str, span: tuple[float, float], name: str) -> None:
        for number, held in shares(self._period.hours, *span):
            self._hours[camera, number][name] += held


class _Camera:
    def __init__(self) -> None:
        self.counts: dict[str, float] = defaultdict(float)
        self.recorded: Spans = []
        self.lags: list[float] = []

    def totals(self, name: str, tracked_until: float | None) -> CameraTotals:
        lags = sorted(self.lags)
        return CameraTotals(
            camera=name,
            tracked_until=tracked_until,
            lag_median_s=round(median(lags), 3) if lags else None,
            lag_p95_s=round(lags[min(len(lags) - 1, int(0.95 * len(lags)))], 3) if lags else None,
            **_numbers(CameraTotals, self.counts),
        )


def merged(spans: Iterable[tuple[float, float]], joined_s: float = 0.0) -> Spans:
    """The intervals in order, those that overlap or lie at most so close as one."""
    found: Spans = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + joined_s:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _numbers(kind: type[HourRow | ClassRow | CameraTotals], counts: dict[str, float]) -> dict[str, Any]:
    """What was counted, under the names of the row's fields: whole numbers, seconds to the millisecond, dollars."""
    return {
        name: counts[name] if name == "cost_usd" else round(counts[name], 3 if name.endswith("_s") else None)
        for name in kind.model_fields
        if name in counts
    }
