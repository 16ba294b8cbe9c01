"""Milliseconds to answer a question: a million frame vectors in the index, and 2,000 media in a folder and on S3.

Large: parts of 2,000 media with 500 made-up vectors each (scenes of 20 alike frames, 96 directions that matter less and
less, as real embeddings have) and 50 segments of 12 made-up words (frequencies by Zipf's law), indexed by `build`, then
asked by words, phrases, misspelt words and vectors. The check: recall of the ten nearest frames against comparison with
every vector.

Store: 2,000 copies of one real result, that of `python -m flows demo`, with times shifted, words exchanged and vectors
of 768 random numbers, asked for words, objects and meaning together, through the tables and through the index. Cold is
a new process's first question (for S3 with an empty cache; the operating system's file cache stays), without Python's
imports. The check: to words and objects both give the same answers; with meaning the vector index may differ, `as
tables` is the share of moments that do not. S3 is a moto server in a process of its own over HTTP on loopback: a real
bucket adds its round trip for each request.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._results import Row, Table, median, parser, percentile, publish
from benchmarks._s3_server import counted_requests, s3_server
from benchmarks._search_corpus import MODEL, Made, copy_result, large_corpus, large_parts
from tasks.core.search import Embed, Moment, Query, search
from tasks.core.search.build import build
from tasks.core.search.corpus import Scope
from tasks.core.search.lance import LanceCorpus, open_index

NAME = "search"
BUCKET = "search"
LEAST_RECALL = 0.95
ASKED = 40
"""Questions of each sort; the first of all is cold and told apart."""


def main(argv: Sequence[str]) -> None:
    options = parser(NAME, __doc__)
    options.add_argument("--frames", type=int, default=1_000_000)
    options.add_argument("--segments", type=int, default=100_000)
    options.add_argument("--sizes", type=int, nargs="*", default=[768, 1152], help="numbers of a vector")
    options.add_argument("--copies", type=int, default=2000, help="media of the store; 0 leaves this part out")
    options.add_argument("--result", type=Path, help="a folder store with one analysed media, instead of the demo's")
    arguments = options.parse_args(argv)
    tables = []
    with tempfile.TemporaryDirectory() as name:
        if arguments.sizes:
            sides = [large(Path(name) / str(size), arguments, size) for size in arguments.sizes]
            tables += [
                Table(
                    f"Index of {arguments.frames:,} vectors and {arguments.segments:,} segments", [s[0] for s in sides]
                ),
                Table("Questions to it", [row for side in sides for row in side[1]]),
            ]
        if arguments.copies:
            tables += stores(Path(name), arguments)
    publish(arguments, NAME, __doc__, tables, packages=("lancedb", "pyarrow", "rapidfuzz", "snowballstemmer", "moto"))


def large(folder: Path, arguments: Any, size: int) -> tuple[Row, list[Row]]:
    """(how the index was built, how it answers)"""
    made = large_corpus(folder, arguments.frames, arguments.segments, size, ASKED)
    parts, read = large_parts(folder)
    began, cpu = time.perf_counter(), time.process_time()
    built = build(folder / "index", parts, read)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    again = build(folder / "index", parts, read)
    parquet = sum(file.stat().st_size for file in (folder / "tables").rglob("*.parquet"))
    shutil.rmtree(folder / "tables")
    index = open_index(folder / "index")
    assert index is not None, "there is no index"
    recall = recall_at_10(index, made)
    assert recall >= LEAST_RECALL, f"recall {recall:.3f}"
    row: Row = {
        "numbers": size,
        "build s": took,
        "build CPU s": cpu,
        "build again s": again.seconds,
        "index MB": built.bytes / 1e6,
        "tables MB": parquet / 1e6,
        "recall@10": recall,
    }
    rows: list[Row] = [
        {"numbers": size, "question": what, **asked} for what, asked in large_questions(folder / "index", made)
    ]
    shutil.rmtree(folder)
    return row, rows


def recall_at_10(index: LanceCorpus, made: Made) -> float:
    shares = []
    for question, nearest in zip(made.questions, made.nearest, strict=True):
        found, _ = index.frames(question, MODEL, 400, Scope())
        shares.append(len({(frame.media_id, frame.time) for frame in found[:10]} & nearest) / 10)
    return sum(shares) / len(shares)


def large_questions(folder: Path, made: Made) -> Iterable[tuple[str, Row]]:
    words, rng = made.words, np.random.default_rng(1)

    def some(low: int, high: int, count: int) -> list[str]:
        return [" ".join(words[at] for at in rng.integers(low, high, count)) for _ in range(ASKED)]

    sorts: dict[str, tuple[list[str], list[str]]] = {
        "a rare word": (["speech"], some(2000, 20_000, 1)),
        "a frequent word": (["speech"], some(0, 20, 1)),
        "two words": (["speech"], some(5, 200, 2)),
        "a phrase": (["speech"], [f'"{text}"' for text in some(0, 20, 2)]),
        "a misspelt word": (["speech"], [text[:3] + "x" + text[3:] for text in some(500, 5000, 1)]),
        "meaning": (["scenes"], some(0, 200, 2)),
        "all kinds": (["speech", "objects", "scenes", "tags"], some(5, 200, 2)),
        "all kinds, one prefix in ten": (["speech", "objects", "scenes", "tags"], some(5, 200, 2)),
    }
    for what, (kinds, texts) in sorts.items():
        prefix = "s3://recordings/1" if "prefix" in what else None
        queries = [
            Query.model_validate({"text": text, "kinds": kinds, "model": MODEL, "prefix": prefix}) for text in texts
        ]
        opened = open_index(folder)
        assert opened is not None
        yield what, timed(functools.partial(_ask, opened), queries, made.questions)[0]


def _ask(index: LanceCorpus, query: Query, embed: Embed) -> list[Moment]:
    return search(query, index, embed)


def stores(folder: Path, arguments: Any) -> list[Table]:
    from tasks.records.index import Searcher, build_index
    from tasks.store import open_store

    real = arguments.result or folder / "demo"
    if not arguments.result:
        command = [sys.executable, "-m", "flows", "demo", "--store", str(real)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows: list[Row] = []
    builds: list[Row] = []
    texts = ["red circle", '"blue square"', "star jumps", "cirlce", "2 squares", "circle and star within 5 s", "ring"]
    queries = [Query(text=texts[at % len(texts)], model=MODEL) for at in range(ASKED)]
    with s3_server(folder, BUCKET):
        for place in ("folder", "S3"):
            store = open_store(f"s3://{BUCKET}/store" if place == "S3" else str(folder / "copies"))
            copy_result(open_store(str(real)), store, arguments.copies, 768)
            answers = []
            for indexed in (False, True):
                if indexed:
                    built = build_index(store)
                    builds.append({"store": place, "build s": built.seconds, "index MB": built.bytes / 1e6,
                                   "segments": built.segments, "vectors": built.vectors})  # fmt: skip
                elif place == "S3":
                    shutil.rmtree(folder / "cache", ignore_errors=True)
                searcher = Searcher(store, indexed=indexed)
                vectors = np.random.default_rng(2).standard_normal((ASKED, 768)).astype(np.float32)
                with counted_requests() as sent:
                    asked, found = timed(searcher.search, queries, vectors)
                answers.append(found)
                through = "index" if indexed else "tables"
                rows.append({"store": place, "through": through, **asked, "requests": len(sent) or None})
            assert all(answers[0]), "a question has no answer"
            plain = [query.model_copy(update={"model": None}) for query in queries[: len(texts)]]
            sides = [Searcher(store, indexed=indexed) for indexed in (False, True)]
            for query in plain:
                assert sides[0].search(query) == sides[1].search(query), f"other answers to {query.text}"
            rows[-1] = {**rows[-1], "as tables": same_moments(*answers)}
    note = "`requests` to S3 are those of all questions together; what is known of a media is taken for true for 10 s."
    return [
        Table(f"Questions to a store of {arguments.copies:,} media", rows, note),
        Table("Its index", builds),
    ]


def same_moments(one: list[list[Moment]], other: list[list[Moment]]) -> float:
    """Share of the moments that are in both answers to a question."""
    pairs = [({m.line() for m in a}, {m.line() for m in b}) for a, b in zip(one, other, strict=True)]
    return sum(len(a & b) for a, b in pairs) / sum(max(len(a), len(b)) for a, b in pairs)


def timed(
    ask: Callable[[Query, Embed], list[Moment]], queries: Sequence[Query], vectors: NDArray[np.float32]
) -> tuple[dict[str, float], list[list[Moment]]]:
    """Milliseconds of the first question and of those after it, and the answers."""
    took, answers, cpu = [], [], time.process_time()
    for at, query in enumerate(queries):
        began = time.perf_counter()
        answers.append(ask(query, lambda texts, at=at: vectors[at : at + 1]))  # type: ignore[misc]
        took.append(1000 * (time.perf_counter() - began))
    spent = 1000 * (time.process_time() - cpu) / len(queries)
    warm = took[1:]
    return {"first ms": took[0], "median ms": median(warm), "95% ms": percentile(warm, 0.95), "CPU ms": spent}, answers
