"""Text banks in the store: each embedded once per model and content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.core import text_bank
from tasks.core.errors import BadTextBank, DamagedArtifact
from tasks.core.models import siglip_weights
from tasks.core.options import EmbeddingOptions, TagOptions
from tasks.core.schema import BankRef, ModelInfo
from tasks.records.lookup import same_weights
from tasks.settings import settings
from tasks.stages.stage import RETRY
from tasks.store import Store, open_store

if TYPE_CHECKING:
    from tasks.core.bank_vectors import BankVectors
    from tasks.core.models.siglip import SiglipModel

FILE = "bank.npz"


def bank_ref(models: dict[str, ModelInfo]) -> BankRef:
    """The bank and the model of a run, as find_models found them."""
    return BankRef(name=models["tags"].name, digest=models["tags"].digest, model=models["embeddings"].digest)


@task(task_run_name="text bank: {bank.name}", tags=["gpu"], **RETRY)
def embed_text_bank(
    store: str, bank: BankRef, model: ModelInfo, options: TagOptions, embedding: EmbeddingOptions
) -> BankRef:
    """Leaves the bank's vectors in the store, unless they are there.

    Raises BadTextBank where this host's file is not the one that the run began with.
    """
    from tasks.core.bank_vectors import embed_bank, save_vectors

    root = open_store(store)
    if root.size(bank.path) is None:
        path = text_bank.resolve_bank(options.bank, settings().models, bundled=model.bundled)
        texts = text_bank.read_bank(path)
        if texts.digest != bank.digest:
            raise BadTextBank(f"{path} is not the text bank that this run began with; give every worker the same file.")
        reader = load_embedder(model, embedding)
        vectors = embed_bank(texts, reader.embed_texts, reader.logit_scale, reader.logit_bias)
        with root.workspace() as work:
            save_vectors(vectors, work / FILE)
            root.put(bank.path, work / FILE)
    return bank


def load_bank_vectors(store: Store, bank: BankRef) -> BankVectors:
    """The vectors of a bank that was embedded. Raises DamagedArtifact, having taken it away to be made again."""
    from tasks.core.bank_vectors import load_vectors

    try:
        return load_vectors(store.local(bank.path))
    except DamagedArtifact:
        store.delete(bank.path)
        raise


def load_embedder(model: ModelInfo, options: EmbeddingOptions) -> SiglipModel:
    """The network, loaded by this process's first call and kept."""
    from tasks.core.models import siglip

    file = siglip_weights.resolve_siglip(options.model, settings().models)
    return siglip.load(same_weights(file, model), options.device, options.precision)
