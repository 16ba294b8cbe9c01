"""Questions about a store, from the command line and from the explorer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flows.cli.paths import whole_path
from tasks.core.errors import ModelNotFound
from tasks.core.models.siglip_weights import resolve_siglip
from tasks.core.models.weights_file import WeightsFile
from tasks.core.search import Moment, Query
from tasks.records.index import Searcher
from tasks.settings import settings
from tasks.store import open_existing


class Finder:
    """Answers queries about one store; the model that reads them is loaded when the first needs it, and kept."""

    def __init__(self, store: str, model: str = "auto", *, indexed: bool | None = None) -> None:
        """`model` is a SigLIP as `embeddings.model` names it; auto is the one that made the store's vectors.

        `indexed`: True needs an index, False searches the tables, None takes an index where there is one.
        Raises StoreUnavailable where there is no such store, ModelNotFound for a model that was named and is not here.
        """
        self._searcher = Searcher(open_existing(store), indexed=indexed)
        self._named = _weights(model) if model != "auto" else None

    def __call__(self, query: Query) -> list[Moment]:
        """The moments that answer, best first. Raises QueryError for a question that cannot be asked."""
        weights = self._weights() if "scenes" in query.kinds and query.model is None else None
        if weights is None:
            return self._searcher.search(query)

        def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
            from tasks.core.models import siglip

            return siglip.load(weights.path).embed_texts(texts)

        return self._searcher.search(query.model_copy(update={"model": weights.info.digest}), embed)

    def notice(self) -> str | None:
        """Why no answer tells what frames look like, where that is so; None where they do."""
        known = self._searcher.corpus().models
        if not known or self._weights():
            return None
        models, folder = ", ".join(sorted(digest[:12] for digest in known)), settings().models
        gone = f", which names {folder}: there is no such folder" if folder and not folder.is_dir() else ""
        return (
            f"What frames look like is left out: the weights that made this store's vectors ({models}) are not here. "
            f"Name them with --model, or put them into REELFLOW_MODELS_DIR{gone}."
        )

    def _weights(self) -> WeightsFile | None:
        known = self._searcher.corpus().models
        if self._named is not None or not known:
            return self._named
        return next(
            (found for name in ("auto", "bundled") if (found := _there(name)) and found.info.digest in known), None
        )


def _weights(name: str) -> WeightsFile:
    return resolve_siglip(whole_path(name), settings().models)


def _there(name: str) -> WeightsFile | None:
    try:
        return _weights(name)
    except ModelNotFound:
        return None
