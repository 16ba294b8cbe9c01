"""A text bank embedded ahead of the runs that describe media with it."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows import parameters
from flows.summary import label, plain
from flows.task_runner import ClusterTaskRunner
from tasks.core.options import AnalyzeOptions, DetectionOptions, EmbeddingOptions, TagOptions, TranscriptOptions
from tasks.models import resolve_models
from tasks.settings import settings
from tasks.stages.text_bank import bank_ref, embed_text_bank, load_bank_vectors
from tasks.store import open_store


class TextBankReport(BaseModel):
    """One text bank as vectors of one model."""

    bank: str
    model: str
    tags: int
    descriptions: int
    vectors: str
    """URI of the .npz file in the store."""
    cached: bool
    """The same texts had been embedded with the same model before."""

    def sentence(self) -> str:
        """The report for a person."""
        done = "was there already" if self.cached else "embedded"
        return (
            f"Text bank {self.bank}, {self.tags} tags and {self.descriptions} descriptions, as vectors of "
            f"{self.model}: {done}. {self.vectors}"
        )


def _run_name() -> str:
    return f"text bank: {label(flow_run.parameters.get('bank', ''))}"


@flow(
    name="build-text-bank",
    flow_run_name=_run_name,
    task_runner=ClusterTaskRunner(),
    validate_parameters=True,
)
def build_text_bank(
    bank: str = "auto",
    store: parameters.Store = None,
    embeddings: EmbeddingOptions = EmbeddingOptions(),  # noqa: B008
) -> TextBankReport:
    """Turns a bank of tags and descriptions into vectors of a SigLIP model, once per model and content.

    Args:
        bank: auto, a bank that comes with Reelflow (default, shapes), a name in the models folder's text_banks/, or
            the path of a YAML file. It is read by the worker.
        store: Root of the store: a folder, file:///... or s3://bucket/prefix. Default: REELFLOW_STORE of the worker.
        embeddings: The model, its device and precision.
    """
    options = AnalyzeOptions(
        transcript=TranscriptOptions(enabled=False),
        detections=DetectionOptions(enabled=False),
        embeddings=embeddings.model_copy(update={"enabled": True}),
        tags=TagOptions(bank=bank),
    )
    parameters.check([], store, options)
    root = open_store(store or settings().store)
    if settings().dask_address:
        models, _ = resolve_models.submit(options).result()
    else:
        models, _ = resolve_models(options)
    ref = bank_ref(models)
    cached = root.size(ref.path) is not None
    if not cached:
        embed_text_bank.submit(root.address, ref, models["embeddings"], options.tags, options.embeddings).result()
    found = load_bank_vectors(root, ref)
    report = TextBankReport(
        bank=ref.name,
        model=models["embeddings"].name,
        tags=len(found.tags),
        descriptions=len(found.descriptions),
        vectors=root.uri(ref.path),
        cached=cached,
    )
    create_markdown_artifact(plain(report.sentence()), key="text-bank", description=f"Text bank {ref.name}")
    return report
