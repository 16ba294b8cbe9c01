"""Parameters of runs that name something: what they may be, in the schema that a server enforces and in the flow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from prefect.context import FlowRunContext
from pydantic import Field

from tasks import allowed
from tasks.core.options import AnalyzeOptions
from tasks.core.source_names import CREDENTIALS

_TEXT: dict[str, Any] = {"type": "string", "pattern": CREDENTIALS}
NO_CREDENTIALS = Field(
    json_schema_extra={
        "not": {"$comment": allowed.NO_CREDENTIALS, "anyOf": [_TEXT, {"type": "array", "contains": _TEXT}]}
    }
)
"""A server that enforces schemas refuses such a run before it stores its parameters, and says why."""

Source = Annotated[str, NO_CREDENTIALS]
Sources = Annotated[str | list[str], NO_CREDENTIALS]
Store = Annotated[str | None, NO_CREDENTIALS]
Versions = Annotated[dict[str, str], Field(json_schema_extra={"propertyNames": {"not": {"pattern": CREDENTIALS}}})]


def check(sources: Iterable[str], store: str | None, options: AnalyzeOptions) -> None:
    """Raises NotAllowed for credentials in a parameter and, in a deployment's run, for what lies outside its roots."""
    sources = list(sources)
    for named in [*sources, *([store] if store else [])]:
        allowed.check_credentials(named)
    if not _is_deployed():
        return
    if store:
        allowed.check_store(store)
    for source in sources:
        allowed.check_source(source)
    allowed.check_options(options)


def _is_deployed() -> bool:
    run = FlowRunContext.get()
    return run is not None and run.flow_run is not None and run.flow_run.deployment_id is not None
