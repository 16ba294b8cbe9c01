"""What fires: one rule over the windows of one camera, in order, from the state that the last one left.

A rule fires once for a visit, at the first frame at which all that it asks for holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from pydantic import Field

from tasks.core.alerts.clock import Hours
from tasks.core.alerts.place import Line, inside
from tasks.core.alerts.rules import Rule, words
from tasks.core.schema import Record
from tasks.core.tracking.records import Sight, TrackedWindow

DEAD_BAND: Final = 0.01
"""Parts of the frame on either side of a line in which an object is on neither."""
SETTLED: Final = 2
"""Frames in a row on a side, until an object is there: boxes jitter over a line."""


class Phrase(Record):
    """Something that was said."""

    start: float
    end: float
    text: str


class Facts(Record):
    """What a window holds beside its objects; times are Unix seconds."""

    phrases: tuple[Phrase, ...] = ()
    tags: dict[str, float | None] = Field(default_factory=dict)
    """Probability by tag, best first; None from models that give none."""


class Watch(Record):
    """One visit as one rule sees it."""

    visit: str
    start: float
    classes: tuple[str, ...] = ()
    hits: tuple[bool, ...] = ()
    """Of the last n sampled frames."""
    since: float | None = None
    """Since when it has fulfilled what is asked of a frame."""
    last: Sight | None = None
    """Its last frame that counted."""
    side: int = 0
    """Of the line, where it has settled: -1 left, 1 right, 0 nowhere yet."""
    settled: tuple[float, float] | None = None
    """Where it was when it was last seen to be there."""
    leaning: int = 0
    """Frames in a row on the other side."""
    crossed: bool = False
    met: float | None = None
    """When all but the phrase was first fulfilled."""
    fired: bool = False
    ended: bool = False


class Interval(Record):
    """Hours in which an object is to be absent, or not."""

    start: float
    seen: bool = False
    frames: int = 0


class RuleState(Record):
    """What a rule remembers of a camera after a window."""

    label: str = ""
    """Of the window."""
    time: float = 0.0
    """Until which frames were looked at."""
    watches: tuple[Watch, ...] = ()
    phrases: tuple[Phrase, ...] = ()
    """Those that may still meet an object."""
    hours: Interval | None = None
    tagged: bool = False
    """The last window had the tag."""
    sent: float | None = None
    """When an alert was last not held back; a cooldown begins there."""


class Alert(Record):
    """One rule, one visit: stored once. All of it follows from the windows up to the moment."""

    id: str
    rule: str
    rule_digest: str
    camera: str
    visit: str
    """Or what else it is about: hours, a phrase, a stretch of windows."""
    kind: Literal["visit", "absence", "phrase", "tag"]
    start: float
    """When the visit began; Unix time, as all."""
    time: float
    """When all that the rule asks for held first."""
    classes: tuple[str, ...] = ()
    why: str
    window: str
    """Label of the window."""
    source: str
    media_id: str | None = None
    media_time: float | None = None
    """Seconds into the window."""
    box: tuple[float, float, float, float] | None = None
    image: str | None = None
    """Path in the store of the frame, with the box drawn; None where no frame is stored."""
    cooldown: bool = False
    """Held back, because the rule has sent one a moment ago."""


def evaluate(
    rule: Rule, timezone: str, tracked: TrackedWindow, facts: Facts, state: RuleState
) -> tuple[list[Alert], RuleState]:
    """The alerts of one window, and the state for the next. The rule must watch the window's camera."""
    run = _Run(rule, timezone, tracked, facts, state)
    if rule.absent:
        run.absence()
    elif rule.classes:
        run.objects()
    elif rule.phrase:
        run.spoken()
    else:
        run.tagged()
    return run.alerts, run.state()


def alert_id(rule_digest: str, visit: str) -> str:
    """32 hex digits, of the rule and the visit alone."""
    return hashlib.sha256(f"{rule_digest}/{visit}".encode()).hexdigest()[:32]


class _Run:
    def __init__(self, rule: Rule, timezone: str, tracked: TrackedWindow, facts: Facts, state: RuleState) -> None:
        self.rule, self.timezone, self.tracked, self.facts, self.before = rule, timezone, tracked, facts, state
        self.digest = rule.digest(timezone)
        self.alerts: list[Alert] = []
        self.watches = {watch.visit: watch for watch in state.watches}
        self.phrases, self.hours, self.tag, self.sent = state.phrases, state.hours, state.tagged, state.sent

    def state(self) -> RuleState:
        return RuleState(
            label=self.tracked.window.label,
            time=max([self.before.time, *self.tracked.times]),
            watches=tuple(self.watches.values()),
            phrases=self.phrases,
            hours=self.hours,
            tagged=self.tag,
            sent=self.sent,
        )

    def objects(self) -> None:
        rule, end = self.rule, max([self.before.time, *self.tracked.times])
        voted = {visit.visit: visit for visit in self.tracked.visits}
        sights = self._sights()
        for now in sorted(set(self.tracked.times) | set(sights)):
            here = sights.get(now, {})
            for visit, sight in here.items():
                known = voted[visit]
                watch = self.watches.get(visit) or Watch(visit=visit, start=known.start)
                self.watches[visit] = _seen(watch, rule, sight, known.class_)
            if now in self.tracked.times:
                for visit, watch in self.watches.items():
                    if visit not in here:
                        self.watches[visit] = _unseen(watch, rule)
            if self._is_time(now):
                self._fire_objects(now)
        if rule.phrase:
            self.phrases += self._said(rule.phrase)
            self._fire_meetings()
            self.phrases = tuple(each for each in self.phrases if each.end + rule.within_s >= end - self._longest())
        for name, known in voted.items():
            if known.ended and name in self.watches:
                self.watches[name] = self.watches[name].model_copy(update={"ended": True})
        keep_s = rule.within_s if rule.phrase else -1.0
        self.watches = {
            visit: watch
            for visit, watch in self.watches.items()
            if not watch.ended or (watch.last is not None and watch.last.time + keep_s >= end)
        }

    def absence(self) -> None:
        when = self.rule.when or Hours()
        voted = {visit.visit: visit for visit in self.tracked.visits}
        seen = [
            now
            for now, here in self._sights().items()
            for visit, sight in here.items()
            if voted[visit].class_ in self.rule.classes and _counts(self.rule, sight)
        ]
        last = self.before.time or self.tracked.window.start
        for now in self.tracked.times:
            for start, end in when.ended(last, now, self.timezone):
                known = self.hours if self.hours and self.hours.start == start else None
                if known is None or not known.seen:
                    looked = f"{known.frames if known else 0} frames were looked at"
                    what = f"no {' or '.join(self.rule.classes)}; {looked}"
                    self._fire("absence", f"{start:.0f}", start, end, what, self.rule.classes)
            holding = when.holding(now, self.timezone)
            if holding:
                if self.hours is None or self.hours.start != holding[0]:
                    self.hours = Interval(start=holding[0])
                self.hours = Interval(
                    start=holding[0], seen=self.hours.seen or now in seen, frames=self.hours.frames + 1
                )
            last = now

    def spoken(self) -> None:
        for phrase in self._said(self.rule.phrase or ""):
            if self._is_time(phrase.start):
                self._fire(
                    "phrase", f"{round(phrase.start * 1000)}", phrase.start, phrase.start, f"said: {phrase.text}"
                )

    def tagged(self) -> None:
        wanted = (self.rule.tag or "").casefold()
        found = [
            name
            for rank, (name, sure) in enumerate(self.facts.tags.items())
            if name.casefold() == wanted and (rank == 0 if sure is None else sure >= self.rule.probability)
        ]
        window = self.tracked.window
        if found and self._is_time(window.start):
            if not self.tag:
                self._fire("tag", window.label, window.start, window.start, f"shows: {found[0]}")
            self.tag = True
        elif window.media_id:
            self.tag = False

    def _fire_objects(self, now: float) -> None:
        rule = self.rule
        met = [watch for watch in self.watches.values() if _is_met(watch, rule, now)]
        if len(met) < rule.count:
            return
        for watch in met if rule.count == 1 else [max(met, key=lambda each: (each.start, each.visit))]:
            if watch.met is None:
                self.watches[watch.visit] = watch = watch.model_copy(update={"met": now})
            if not rule.phrase and not watch.fired:
                self._fire_visit(watch, now, f"{len(met)} at the same time" if rule.count > 1 else "")

    def _fire_meetings(self) -> None:
        for watch in list(self.watches.values()):
            if watch.fired or watch.met is None or watch.last is None:
                continue
            first, last = watch.met - self.rule.within_s, watch.last.time + self.rule.within_s
            meeting = [each for each in self.phrases if first <= each.start <= last]
            if meeting:
                said = min(meeting, key=lambda each: each.start)
                self._fire_visit(watch, max(watch.met, said.start), f"said: {said.text}")

    def _fire_visit(self, watch: Watch, now: float, more: str) -> None:
        self.watches[watch.visit] = watch.model_copy(update={"fired": True})
        stayed = f"for {now - (watch.since or now):.1f} s" if self.rule.dwell_s else ""
        place = "crossed the line" if self.rule.line else "in the zone" if self.rule.zone else ""
        why = " ".join(part for part in (" or ".join(watch.classes), place, stayed, more) if part)
        self._fire("visit", watch.visit, watch.start, now, why, watch.classes, watch.last)

    def _fire(
        self,
        kind: Literal["visit", "absence", "phrase", "tag"],
        subject: str,
        start: float,
        now: float,
        why: str,
        classes: tuple[str, ...] = (),
        sight: Sight | None = None,
    ) -> None:
        window = self.tracked.window
        visit = subject if kind == "visit" else f"{kind}:{window.camera}:{subject}"
        cooling = self.sent is not None and now < self.sent + self.rule.cooldown_s
        if not cooling:
            self.sent = now
        self.alerts.append(
            Alert(
                id=alert_id(self.digest, visit),
                rule=self.rule.name,
                rule_digest=self.digest,
                camera=window.camera,
                visit=visit,
                kind=kind,
                start=start,
                time=now,
                classes=classes,
                why=why,
                window=window.label,
                source=window.source,
                media_id=sight.media_id if sight else window.media_id,
                media_time=sight.media_time if sight else max(0.0, round(now - window.start, 3)),
                box=sight.place if sight else None,
                cooldown=cooling,
            )
        )

    def _sights(self) -> dict[float, dict[str, Sight]]:
        found: dict[float, dict[str, Sight]] = {}
        for seen in self.tracked.seen:
            for sight in seen.sights:
                found.setdefault(sight.time, {})[seen.visit] = sight
        return dict(sorted(found.items()))

    def _said(self, wanted: str) -> tuple[Phrase, ...]:
        return tuple(each for each in self.facts.phrases if _contains(words(each.text), words(wanted)))

    def _is_time(self, now: float) -> bool:
        return self.rule.when is None or self.rule.when.holding(now, self.timezone) is not None

    def _longest(self) -> float:
        return self.rule.within_s + self.rule.dwell_s


def _seen(watch: Watch, rule: Rule, sight: Sight, voted: str) -> Watch:
    hit = voted in rule.classes and _counts(rule, sight)
    change = _with_hit(watch, rule, hit, sight.time)
    if hit:
        change |= {"last": sight, "classes": (voted,)}
    if rule.line is not None:
        change |= _at_line(watch, rule.line, sight)
    return watch.model_copy(update=change)


def _unseen(watch: Watch, rule: Rule) -> Watch:
    return watch.model_copy(update=_with_hit(watch, rule, False, 0.0))


def _with_hit(watch: Watch, rule: Rule, hit: bool, now: float) -> dict[str, object]:
    hits = (*watch.hits, hit)[-rule.frames.n :]
    since = watch.since if any(hits) else None
    return {"hits": hits, "since": now if since is None and hit else since}


def _counts(rule: Rule, sight: Sight) -> bool:
    return sight.confidence >= rule.confidence and (rule.zone is None or inside(sight.foot, rule.zone))


def _at_line(watch: Watch, line: Line, sight: Sight) -> dict[str, object]:
    away = line.side(sight.foot)
    side = 0 if abs(away) < DEAD_BAND else 1 if away > 0 else -1
    if side == 0:
        return {}
    if side == watch.side:
        return {"settled": sight.foot, "leaning": 0}
    leaning = watch.leaning + 1
    if leaning < SETTLED:
        return {"leaning": leaning}
    way = watch.side and watch.settled and line.between(watch.settled, sight.foot)
    wanted = {"left": -1, "right": 1, "any": side}[line.to]
    return {"side": side, "settled": sight.foot, "leaning": 0, "crossed": watch.crossed or bool(way and side == wanted)}


def _is_met(watch: Watch, rule: Rule, now: float) -> bool:
    return (
        sum(watch.hits) >= rule.frames.k
        and watch.since is not None
        and now - watch.since >= rule.dwell_s - 1e-6
        and (rule.line is None or watch.crossed)
    )


def _contains(said: Sequence[str], wanted: Iterable[str]) -> bool:
    sought = list(wanted)
    return any(list(said[at : at + len(sought)]) == sought for at in range(len(said) - len(sought) + 1))
