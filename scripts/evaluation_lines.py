"""What is said of an evaluation before it, a line each: prompts, similarity, ids in common."""

from __future__ import annotations

from collections.abc import Iterator

from prompts import Prompts

from jaxembed.encoders import Encoder
from jaxembed.evaluators import Evaluator, RetrievalEvaluator


def evaluation_lines(
    encoder: Encoder, prompts: Prompts, similarity: str, evaluator: Evaluator
) -> Iterator[str]:
    """Yields what a reader of the metrics may not expect; nothing for a plain model and data."""
    if line := prompts.line():
        yield line
    if similarity != encoder.similarity:
        yield f"similarity: {similarity}, of --similarity; the model's own is {encoder.similarity}"
    elif similarity != "cosine":
        yield f"similarity: {similarity}, the model's own"
    yield from same_id_lines(evaluator)


def same_id_lines(evaluator: Evaluator, name: str = "") -> Iterator[str]:
    """Says where queries have the ids of documents, which they may find or not."""
    for own, each in getattr(evaluator, "evaluators", {}).items():
        yield from same_id_lines(each, f"{name}{own}/")
    if isinstance(evaluator, RetrievalEvaluator) and (count := evaluator.n_same_ids):
        where = f"{name.rstrip('/')}: " if name else ""
        queries = f"{where}{count} of {len(evaluator.queries)} queries have the id of a document"
        if evaluator.exclude_same_id:
            yield f"{queries}, which they never find (--exclude-same-id)"
        else:
            yield f"{queries}, which they may find; --exclude-same-id prevents it, as MTEB does"
