"""The explorer's answers: moments, media, pictures and the media themselves, read from the store and never written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from flows.explorer import catalog, page, sightings
from flows.explorer.kept import Kept
from flows.explorer.pictures import Pictures, parse_box, parse_xywh
from flows.explorer.source import Source, send_source, source_of
from tasks.core.activity.period import midnight
from tasks.core.alerts.clock import zone
from tasks.core.schema import Result
from tasks.core.search.query import MEDIA_ID, Moment, Query, QueryError
from tasks.records.results import VIEWS, read_result, result_path
from tasks.store import Store

Find = Callable[[Query], Sequence[Moment]]

MOST_LISTED: Final = 240
MOST_FOUND: Final = 200
"""Items of one answer."""

HTTP_GONE_AWAY: Final = 499
"""Nobody waits for this answer."""

_LAST_DAY: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""Of those that have a day after them."""

_STATIC: Final = Path(__file__).parent / "static"
_SEALED: Final = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
"""Of a report, which brings its own policy: it runs apart from the explorer and cannot read it, but save files."""

_REFRESHED: Final = {"cache-control": "private, no-cache"}
_KEPT: Final = {"cache-control": "private, max-age=600"}


@dataclass(frozen=True)
class _Streams:
    """What streaming needs of a result, which may itself be large."""

    source: Source
    clips: list[str | None]


class Api:
    """One method for each kind of address; all but `search` block, and run in threads."""

    def __init__(self, store: Store, find: Find, runs_url: str | None) -> None:
        """`find` is asked one question at a time, so that what a person types does not pile up."""
        self._store = store
        self._find = find
        self._runs_url = runs_url
        self._turn = asyncio.Lock()
        self._catalog = catalog.Catalog(store)
        self._pictures = Pictures(store)
        self._sightings = sightings.Sightings(store)
        self._streams: Kept[str, _Streams | None] = Kept(256, keep_s=30.0)

    async def search(self, request: Request) -> Response:
        """Moments that answer `q`, best first."""
        query = _query(request.query_params)
        async with self._turn:
            if await request.is_disconnected():  # more was typed meanwhile
                return Response(status_code=HTTP_GONE_AWAY)
            return await run_in_threadpool(self._search, query)

    def _search(self, query: Query) -> Response:
        started = time.perf_counter()
        try:
            moments = self._find(query)
        except QueryError as error:
            raise HTTPException(400, str(error)) from None
        seconds = time.perf_counter() - started
        rows = self._catalog.rows(sorted({moment.media_id for moment in moments}))
        found = [self._moment(moment, rows.get(moment.media_id)) for moment in moments]
        return _json({"moments": found, "seconds": round(seconds, 4), "more": len(found) == query.limit < MOST_FOUND})

    def newest(self, request: Request) -> Response:
        """The media of the store, newest first."""
        given = request.query_params
        count = _number(given, "limit", 24, MOST_LISTED)
        rows, more = self._catalog.newest(_filters(given), count)
        return _json(
            {
                "media": [catalog.card(row) for row in rows],
                "more": more and count < MOST_LISTED,
                "cameras": self._catalog.cameras(),
            }
        )

    def alerts(self, request: Request) -> Response:
        """The alerts of the store, newest first, with what became of their messages."""
        asked, count, place = _asked(request.query_params)
        found = self._sightings.alerts(asked, count)
        ledgers = self._sightings.deliveries(found.rows)
        cards = [sightings.alert_card(row, ledger, place) for row, ledger in zip(found.rows, ledgers, strict=True)]
        return self._listed(cards, found, place)

    def visits(self, request: Request) -> Response:
        """The visits of the store, by the time at which they began, newest first."""
        asked, count, place = _asked(request.query_params)
        found = self._sightings.visits(asked, count)
        return self._listed([sightings.visit_card(visit, place) for visit in found.rows], found, place)

    def _listed(self, cards: list[dict[str, Any]], found: sightings.Page[Any], place: str) -> Response:
        return _json(
            {
                "items": cards,
                "after": found.last if found.more else None,
                "cut": found.cut,
                "most": sightings.MOST_A_DAY,
                "cameras": self._sightings.cameras()[: sightings.MOST_CAMERAS],
                "zone": place,
            }
        )

    def alert_picture(self, request: Request) -> Response:
        """The frame at which a rule fired, small."""
        alert_id = str(request.path_params["alert_id"])
        if not MEDIA_ID.fullmatch(alert_id):
            raise HTTPException(404, "There is no such alert.")
        return _picture(self._pictures.alert(alert_id))

    def frame(self, request: Request) -> Response:
        """The frame that was sampled at second `t`, small, with the `box` drawn that is given in parts of it."""
        media_id, given = _media_id(request), request.query_params
        box = parse_box(given.get("box", ""))
        return _picture(self._pictures.frame(media_id, _seconds(given.get("t", "0")), box))

    def media(self, request: Request) -> Response:
        """Everything about one media."""
        result = self._result(request)
        return _json(page.media_page(self._store, result, self._runs_url))

    def source(self, request: Request) -> Response:
        """The media itself."""
        return send_source(self._stream(request).source, request)

    def clip(self, request: Request) -> Response:
        """One clip, by its number in the result."""
        clips, number = self._stream(request).clips, int(request.path_params["number"])
        path = clips[number] if number < len(clips) else None
        if path is None or self._store.size(path) is None:
            raise HTTPException(404, "There is no such clip.")
        kind = "video/mp4" if path.endswith(".mp4") else "audio/mp4"
        return FileResponse(self._store.local(path, version=path), headers=_KEPT, media_type=kind)

    def picture(self, request: Request) -> Response:
        """One picture of the storyboard: `xywh` of it, the one at second `t`, or the one in the middle."""
        media_id, given = _media_id(request), request.query_params
        if "xywh" in given:
            crop = parse_xywh(given["xywh"])
            found = self._pictures.crop(media_id, crop) if crop else None
        else:
            found = self._pictures.at(media_id, _seconds(given.get("t", "0")))
        return _picture(found)

    def file(self, request: Request) -> Response:
        """A download; a report opens in the browser, sealed off from the explorer."""
        media_id, name = _media_id(request), request.path_params["name"]
        _, path = page.files(media_id).get(name, ("", None))
        if path is None or self._store.size(path) is None:
            raise HTTPException(404, "There is no such file; analyse the media again to make it.")
        if name == "report.html":
            headers = {**_REFRESHED, "content-security-policy": _SEALED}
            return FileResponse(self._store.local(path), headers=headers, media_type="text/html; charset=utf-8")
        return FileResponse(self._store.local(path), headers=_REFRESHED, filename=f"{media_id[:8]}-{name}")

    def is_known(self, request: Request) -> bool:
        """Has the media of this address a result?"""
        return self._store.size(result_path(_media_id(request))) is not None

    def _result(self, request: Request) -> Result:
        found = read_result(self._store, _media_id(request))
        if found is None:
            raise HTTPException(404, "The store has no result of this media.")
        return found[0]

    def _stream(self, request: Request) -> _Streams:
        media_id = _media_id(request)
        found = self._streams.get(media_id, partial(self._read_streams, media_id))
        if found is None:
            raise HTTPException(404, "The store has no result of this media.")
        return found

    def _read_streams(self, media_id: str) -> _Streams | None:
        found = read_result(self._store, media_id)
        if found is None or found[0].media_id != media_id:
            return None
        return _Streams(source_of(found[0]), [page.clip_path(media_id, clip) for clip in found[0].clips])

    def _moment(self, moment: Moment, row: catalog.Row | None) -> dict[str, Any]:
        return {
            **moment.model_dump(exclude={"thumbnail"}),
            **(catalog.names(row) if row else {"name": moment.source, "camera": None, "recorded": None}),
            "picture": self._crop(moment),
        }

    def _crop(self, moment: Moment) -> str | None:
        """Address of a moment's thumbnail; only a part of its own media's storyboard has one."""
        sheet, _, crop = (moment.thumbnail or "").partition("#xywh=")
        if sheet != self._store.uri(f"media/{moment.media_id}/{VIEWS['storyboard']}") or parse_xywh(crop) is None:
            return None
        return f"/api/media/{moment.media_id}/picture?xywh={crop}"


def _media_id(request: Request) -> str:
    found = str(request.path_params["media_id"])
    if not MEDIA_ID.fullmatch(found):
        raise HTTPException(404, "There is no such media.")
    return found


def _picture(found: bytes | None) -> Response:
    if found is None:
        return FileResponse(_STATIC / "nothing.svg", headers=_REFRESHED, media_type="image/svg+xml")
    return Response(found, headers=_KEPT, media_type="image/jpeg")


def _query(given: QueryParams) -> Query:
    fields: dict[str, Any] = {"text": given.get("q", ""), "limit": _number(given, "limit", 24, MOST_FOUND)}
    if kinds := given.getlist("kind"):
        fields["kinds"] = kinds
    if media := given.get("media", "").strip():
        fields["media"] = [media]
    filters = _filters(given)
    fields |= {name: getattr(filters, name) for name in ("prefix", "camera", "since", "until")}
    try:
        return Query(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise HTTPException(400, f"{field}: {first['msg']}") from None


def _filters(given: QueryParams) -> catalog.Filters:
    media = given.get("media", "").strip() or None
    if media and not MEDIA_ID.fullmatch(media):
        raise HTTPException(400, "media: an id has 32 digits, 0 to 9 and a to f.")
    until = _day(given, "until")
    return catalog.Filters(
        media=media,
        prefix=given.get("prefix", "").strip() or None,
        camera=given.get("camera", "").strip() or None,
        since=_day(given, "since"),
        until=until + timedelta(days=1) if until else None,
    )


def _asked(given: QueryParams) -> tuple[sightings.Asked, int, str]:
    """Which alerts or visits, how many, and by whose clock."""
    place = given.get("zone", "").strip() or "UTC"
    try:
        zone(place)
    except (LookupError, ValueError, OSError):
        raise HTTPException(400, "zone: write a time zone as Europe/Berlin or UTC.") from None
    times: dict[str, float] = {}
    if day := _day(given, "day"):
        if day.year < 1970:
            raise HTTPException(400, "day: there are none before 1970.")
        times = {"begin": midnight(day.date(), place), "end": midnight((day + timedelta(days=1)).date(), place)}
    camera, after = given.get("camera") or None, given.get("after")
    asked = sightings.Asked(camera, **times, after=sightings.parse_cursor(after) if after else None)
    if after and asked.after is None:
        raise HTTPException(400, "after: give what the last answer ended with.")
    return asked, _number(given, "limit", 24, MOST_LISTED), place


def _day(given: QueryParams, name: str) -> datetime | None:
    """Midnight UTC at which a day begins."""
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        return min(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC), _LAST_DAY)
    except ValueError:
        raise HTTPException(400, f"{name}: write a day as 2026-11-21.") from None


def _number(given: QueryParams, name: str, default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise HTTPException(400, f"{name}: write a number from 0 to {most}.")
    return min(int(text), most)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e7:
        raise HTTPException(400, "t: write seconds from the start of the media.")
    return found


def _json(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"cache-control": "no-store"})
