"""Rooms in a store: when each was marked as cleaned, and who has been there since."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from tasks.core.activity.tally import merged
from tasks.core.errors import DamagedArtifact, StoreConflict
from tasks.core.messages.book import Book, Room
from tasks.core.messages.cleaning import LOOK_BACK_S, Mark, RoomMarks, RoomState, seconds_in
from tasks.core.records import json_bytes
from tasks.store import Store
from tasks.visits import sights_between, tracked_until, visits_between

LOOK_AROUND_S: Final = 30.0
"""Visits that lie closer are looked up together."""
TRIES: Final = 50
"""Others who mark the same room at the same moment."""


def mark_cleaned(store: Store, room: str, mark: Mark) -> Mark:
    """Notes that a room was cleaned, once for each message; the mark that stands.

    Raises StoreConflict where others kept writing, DamagedArtifact.
    """
    path = _path(room)
    for _ in range(TRIES):
        marks, tag = _read(store, room)
        after = marks.marked(mark)
        if after != marks:
            try:
                store.commit(path, json_bytes(after), tag)
            except StoreConflict:
                continue
        return next((each for each in after.marks if each.id == mark.id), mark)
    raise StoreConflict(f"{room} was marked by others all the time; send the message again.")


def room_state(store: Store, name: str, room: Room, now: float, leave_out: str = "") -> RoomState:
    """Who has been in a room since it was last marked as cleaned, or for LOOK_BACK_S; one mark may be left out."""
    cleaned = _read(store, name)[0].last_before(now, leave_out)
    since = max(cleaned.at if cleaned else 0.0, now - LOOK_BACK_S)
    state = RoomState(
        room=name, camera=room.camera, cleaned=cleaned, since=since, known_until=tracked_until(store, room.camera)
    )
    visits = [each for each in visits_between(store, room.camera, since, now) if each.class_ in room.classes]
    if room.zone is None:
        stays = [(min(each.end, now) - max(each.start, since), min(each.end, now)) for each in visits]
    else:
        wanted = {each.visit for each in visits}
        spans = merged(((max(each.start, since), min(each.end, now)) for each in visits), LOOK_AROUND_S)
        sights = (
            (visit, sight)
            for start, end in spans
            for visit, sight in sights_between(store, room.camera, start, end)
            if visit in wanted
        )
        stays = list(seconds_in(sights, room.zone).values())
    return state.model_copy(
        update={
            "visits": len(stays),
            "seconds": round(sum(seconds for seconds, _ in stays), 3),
            "last": max((last for _, last in stays), default=None),
        }
    )


def room_states(store: Store, book: Book, now: float) -> Sequence[RoomState]:
    """Every room of the book, in its order."""
    return [room_state(store, name, room, now) for name, room in book.rooms.items()]


def _read(store: Store, room: str) -> tuple[RoomMarks, str | None]:
    found = store.read(_path(room))
    if found is None:
        return RoomMarks(room=room), None
    try:
        return RoomMarks.model_validate_json(found[0]), found[1]
    except ValidationError as error:
        path = store.uri(_path(room))
        raise DamagedArtifact(f"{path} holds no marks of a room; mend or delete it", detail=str(error)) from error


def _path(room: str) -> str:
    return f"rooms/{hashlib.sha256(room.encode(errors='surrogateescape')).hexdigest()[:32]}.json"
