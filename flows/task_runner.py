"""The task runner of every flow: cheap to import, Dask comes with the first run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner


class ClusterTaskRunner(TaskRunner[PrefectFuture[Any]]):
    """Stands in a flow's declaration for the runner that each of its runs gets: see flows/runtime/dask_runner.py.

    Importing Dask takes as long as half of Prefect, and a flow that is only declared, deployed or scheduled needs none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def duplicate(self) -> Any:
        """The runner of one flow run."""
        from flows.runtime.dask_runner import DaskClusterTaskRunner

        return DaskClusterTaskRunner()

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> NoReturn:
        """Never called: flows submit to the duplicate."""
        raise RuntimeError("Tasks are submitted to the runner of a flow run; call the flow.")
