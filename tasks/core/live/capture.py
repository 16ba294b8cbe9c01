"""One connection of one camera: packets in, windows in the spool, and word of all of it to whoever supervises."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import av

from tasks.core.errors import ReelflowError, UnsupportedCodec
from tasks.core.live import journal as journals
from tasks.core.live import recording
from tasks.core.live.clock import FileClock, RunClock, Source, Timing
from tasks.core.live.cutter import Cutter, Jump, Limits, new_sets
from tasks.core.live.health import Health, picture_of
from tasks.core.live.journal import About, Journal
from tasks.core.live.names import WindowRecord, key, rfc3339, stamp
from tasks.core.live.recording import Cut, can_hold, suffix
from tasks.core.live.spool import Spool
from tasks.core.live.streams import Layout, Sample, Stream, layout_of, picture_size
from tasks.core.schema import Record

BEAT_S = 1.0
"""How often the supervisor hears that frames come."""
ROOM_SHARE = 0.5
"""A file is read on only while less of the spool than this is in use: nothing of it may be dropped."""

READINGS, MOMENT_S = 10, 0.005

Send = Callable[[str, dict[str, Any]], None]
"""Sends a message: its kind and what it says."""


class Task(Record):
    """What a camera's process is asked to do."""

    camera: str
    spool: str
    """Folder of its spool."""
    spool_bytes: int
    window_s: float = 3.0
    longest_s: float = 30.0
    transport: Literal["tcp", "udp"] = "tcp"
    private_hosts: bool = False
    open_s: float = 10.0
    read_s: float = 10.0
    duration_s: float | None = None
    pace: bool = False
    transcode: bool = False
    bitrate: int = 1_000_000
    refresh_rate: int = 1
    health: bool = True
    sequence: int = 0
    """Of the last window that is known of."""
    end: float | None = None
    """Where that window ended, Unix time."""
    keep_time: bool = False
    """The media's own time counts, not that of its arrival: a file that is read as fast as it goes."""
    started: float = 0.0
    """With keep_time: Unix time of the media's beginning."""
    start_uncertainty_s: float = 0.0
    run: str = ""
    """Name of the run, where it is to be one for any number of tries; else it is named after its beginning."""


@dataclass
class Clocks:
    """The host's clocks; tests put others in their place."""

    wall: Callable[[], float] = time.time
    mono: Callable[[], float] = time.monotonic

    def both(self) -> tuple[float, float]:
        """Wall and monotonic time of one moment: a process that is held up between the two reads again."""
        before, wall, after = self.mono(), self.wall(), self.mono()
        for _ in range(READINGS):
            if after - before < MOMENT_S:
                break
            before, wall, after = self.mono(), self.wall(), self.mono()
        return wall, before


class Capture:
    """Turns samples into windows in the spool. Feed it, then finish it."""

    def __init__(
        self,
        task: Task,
        layout: Layout,
        send: Send,
        clocks: Clocks | None = None,
        *,
        journal: bool = True,
        sender: Source = "rtcp-sr",
    ) -> None:
        self.task = task
        self._sender = sender
        self.send = send
        self.clocks = clocks or Clocks()
        self.spool = Spool(Path(task.spool), task.spool_bytes)
        self.journal = Journal(self.spool.journal if journal and not task.keep_time else None)
        self.sequence = task.sequence
        self.end = task.end
        self.layout = layout
        self.frames = 0
        self._cutter = Cutter(layout, Limits(task.window_s, task.longest_s))
        self._interrupted = False
        self._stepped = 0.0
        self._undecodable = 0
        self._health = Health() if task.health and layout.video is not None else None
        self._decode = picture_of(layout.streams[0]) if self._health else None
        self._new_run()

    def feed(self, sample: Sample, arrived: float | None = None) -> None:
        """Takes a packet. `arrived` (monotonic) is when it had been captured at the latest, by default now."""
        self.see(sample, arrived)
        if sample.stream == 0 and (extradata := new_sets(self.layout, sample)) is not None:
            self._relayout(sample, extradata)
        self.keep(sample)

    def see(self, sample: Sample, arrived: float | None = None) -> None:
        """Notes when a packet came; what becomes of it is to be kept."""
        wall, mono = self.clocks.both()
        if not self._stepped and (step := self._clock.stepped(wall, mono)):
            self._stepped = step
        if sample.stream == 0:
            self.frames += 1
            if sample.pts is not None:
                media = float(sample.pts * self.layout.streams[0].time_base)
                self._clock.arrived(media, mono if arrived is None else arrived)
                if sample.captured is not None:
                    self._clock.captured(media, sample.captured)
        sample.arrived = wall - (mono - arrived) if arrived is not None else wall

    def keep(self, sample: Sample | Layout) -> None:
        """Takes a packet whose arrival has been seen, or another one made of it, or the layout of what follows."""
        if isinstance(sample, Layout):
            self._change(sample)
            return
        if sample.stream == 0 and sample.key and sample.pts is not None:
            self._look(sample, float(sample.pts * self.layout.streams[0].time_base))
        self.journal.add(sample)
        for given in self._cutter.feed(sample):
            self._given(given)
        if self._cutter.undecodable != self._undecodable:
            if not self._undecodable:
                self.send("mark", {"at": self.clocks.wall(), "cause": "decoder"})
            self._undecodable = self._cutter.undecodable

    def _look(self, sample: Sample, media_s: float) -> None:
        health = self._health
        if health is not None and self._decode is not None and health.wants(sample, media_s):
            picture = self._decode(sample)
            if picture is not None:
                health.look(picture, media_s, sample.arrived)

    def finish(self) -> None:
        """The stream has ended: what is open becomes a window, however short."""
        for given in self._cutter.flush():
            self._given(given)
        self.journal.end()

    def follow(self, layout: Layout) -> None:
        """What comes next is of this layout, which may be the same."""
        if not self.task.transcode and _facts(layout) != _facts(self.layout):
            self._change(layout)

    def break_off(self) -> None:
        """What comes next has another clock: what is open becomes a window, and a new run begins."""
        for given in self._cutter.flush():
            self._given(given)
        self.send("jump", {"seconds": 0.0})
        self._new_run()

    def change(self, extradata: bytes, key_frame: Sample) -> None:
        """The stream says that from this key frame on it has other parameters."""
        self._relayout(key_frame, extradata)

    def _relayout(self, sample: Sample, extradata: bytes) -> None:
        video = self.layout.streams[0]
        width, height = picture_size(video.codec, extradata, sample.data)
        changes = {"extradata": extradata, "width": width or video.width, "height": height or video.height}
        self._change(changed(self.layout, changes))

    def _change(self, layout: Layout) -> None:
        self.layout = layout
        if self._health is not None and layout.video is not None:
            self._decode = picture_of(layout.streams[0])
        self._cutter.change(layout)
        self.journal.layout(layout)

    def _new_run(self) -> None:
        wall, mono = self.clocks.both()
        task, set_back = self.task, self._stepped < 0
        self._stepped = 0.0
        self._run_end: float | None = None
        self._not_before = None if set_back else self.end
        if task.keep_time:
            self._clock: RunClock | FileClock = FileClock(task.started, task.start_uncertainty_s)
        else:
            self._clock = RunClock(wall, mono, self._not_before, self._sender)
        self.run = task.run or f"{stamp(wall)}-{self.sequence + 1:08d}"
        self._begin_journal()

    def _begin_journal(self) -> None:
        about = About(self.run, self.sequence + 1, self._run_end, self._not_before)
        self.journal.begin(about, self.layout, self._cutter.open_samples)

    def _given(self, given: Cut | Jump) -> None:
        if isinstance(given, Jump):
            self.send("jump", {"seconds": given.seconds})
            self._new_run()
            return
        frame_s = (given.end_s - given.first_s) / max(1, given.frames)
        timing = self._clock.close(given.first_s, given.end_s, frame_s)
        self._keep(given, timing)
        if self._health is not None:
            self._health.clock(timing.sender_off_s is not None, timing.start)
            if given.end_s - given.first_s >= self.task.window_s / 2:
                self._health.window(given.frames / (given.end_s - given.first_s), timing.start)
            self.send("health", {"at": timing.end, "states": dict(self._health.since)})
        self._run_end = timing.end
        if self._stepped:
            self.send("step", {"at": timing.end, "seconds": self._stepped})
            self._new_run()
        else:
            self._begin_journal()

    def _keep(self, cut: Cut, timing: Timing) -> None:
        record = self._record(cut, timing)
        self.sequence = record.sequence
        if self.task.keep_time:
            while self.spool.taken() > ROOM_SHARE * self.task.spool_bytes:
                time.sleep(0.05)
        kept: WindowRecord | None = None
        cause = "spool_overflow"
        try:
            kept = self.spool.add(record, lambda path: recording.write(cut, path))
        except (av.FFmpegError, ReelflowError, ValueError) as error:
            cause = "decoder"
            self.send("notice", {"text": f"a window could not be written ({type(error).__name__}); its time is a gap"})
        if kept is None:
            self.send("lost", {"record": record.model_dump(mode="json"), "cause": cause})
        else:
            self.end = record.ends
            self.send("window", {"record": kept.model_dump(mode="json")})

    def _record(self, cut: Cut, timing: Timing) -> WindowRecord:
        video = cut.layout.video
        lead, sound = cut.layout.streams[0], cut.layout.audio
        start = round(timing.start, 3)
        media_s = cut.end_s - cut.first_s
        return WindowRecord(
            camera=self.task.camera,
            run=self.run,
            sequence=self.sequence + 1,
            key=key(self.task.camera, start, self.sequence + 1, suffix(cut.layout)),
            start=rfc3339(start),
            start_uncertainty_ms=round(timing.uncertainty_s * 1000, 1),
            clock=timing.source,
            media_duration_s=round(media_s, 6),
            wall_duration_s=round(round(timing.end, 3) - start, 3),
            frames=cut.frames,
            fps=round(cut.frames / media_s, 3),
            width=video.width if video else 0,
            height=video.height if video else 0,
            codec=lead.codec,
            audio_codec=sound.codec if sound else "",
            bytes=0,
            keyframe_aligned=cut.aligned,
            gap_before_s=round(max(0.0, start - self.end), 3) if self.end is not None else 0.0,
            residual_ms=round(timing.residual_s * 1000, 1),
            interrupted=self._interrupted,
        )


def recover(task: Task, send: Send) -> Task:
    """Puts what a killed process had received into the spool; gives back the task with what is known then.

    Doing it twice gives the same windows under the same names.
    """
    spool = Spool(Path(task.spool), task.spool_bytes)
    records = list(journals.read(spool.journal))
    about, layout = (*records[:2], None, None)[:2]
    if isinstance(about, About) and isinstance(layout, Layout) and not task.keep_time:
        replayed = _Replay(task, about, layout, send)
        for record in records[2:]:
            replayed.take(record)
        replayed.end_interrupted()
        end = replayed.end if replayed.end is not None else task.end
        task = task.model_copy(update={"sequence": max(task.sequence, replayed.sequence), "end": end})
    spool.journal.unlink(missing_ok=True)
    return task


class _Replay(Capture):
    """A capture whose clock shows when each packet came."""

    def __init__(self, task: Task, about: About, layout: Layout, send: Send) -> None:
        self._now = 0.0
        before = about.start if about.start is not None else about.not_before
        known = {"sequence": about.sequence - 1, "run": about.run, "end": before, "health": False}
        clocks = Clocks(lambda: self._now, lambda: self._now)
        super().__init__(task.model_copy(update=known), layout, send, clocks, journal=False)
        self._run_end, self._not_before = about.start, about.not_before
        self._clock = RunClock(0.0, 0.0, about.not_before)
        if about.start is not None:
            self._clock.resume(about.start)

    def take(self, record: About | Layout | Sample) -> None:
        if isinstance(record, Layout):
            self._change(record)
        elif isinstance(record, Sample):
            self._now = record.arrived
            self.feed(record)

    def end_interrupted(self) -> None:
        self._interrupted = True
        self.finish()


def _facts(layout: Layout) -> list[Stream]:
    """What tells layouts apart; parameter sets on the wire do so themselves."""
    return [replace(stream, extradata=b"") if stream.annexb else stream for stream in layout.streams]


def changed(layout: Layout, changes: dict[str, Any]) -> Layout:
    """The same streams, with other parameters of the video."""
    with av.open(io.BytesIO(layout.header), format="nut") as nut:
        streams: list[Any] = list(nut.streams)
        return layout_of(streams, changes)


def usable(container: Any, send: Send) -> list[Any]:
    """The streams of a container that are recorded: the first video and the first sound.  Raises UnsupportedCodec."""
    videos = [
        s for s in container.streams.video if s.codec_context and not s.disposition & av.stream.Disposition.attached_pic
    ]
    sounds = [s for s in container.streams.audio if s.codec_context]
    chosen = [*videos[:1], *sounds[:1]]
    left_out = [
        s.codec_context.codec.canonical_name for s in chosen if not can_hold(s.codec_context.codec.canonical_name)
    ]
    found = [s for s in chosen if s.codec_context.codec.canonical_name not in left_out]
    if not found or (videos and found[0].type != "video"):
        raise UnsupportedCodec(f"nothing in the stream can be recorded as it is ({', '.join(left_out) or 'no media'})")
    if left_out:
        send("notice", {"text": f"sound in {left_out[0]} fits no container as it is and is left out"})
    return found
