"""The table of lags: one row for each result that a watcher has made, beside the other tables of the media."""

from __future__ import annotations

from typing import Any

from tasks.core.events.lag import TABLE, Lag, lag_of, write_lag
from tasks.records.results import read_result, table_path
from tasks.store import Store


def keep_lag(store: Store, media_id: str, **times: Any) -> Lag | None:
    """Writes the lag of a media's committed result and returns it; see lag_of. None where the result is not there."""
    found = read_result(store, media_id)
    if found is None:
        return None
    lag = lag_of(found[0], **times)
    with store.workspace() as work:
        part = work / "part.parquet"
        write_lag(lag, part)
        store.put(table_path(TABLE, media_id), part)
    return lag
