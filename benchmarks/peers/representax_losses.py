"""Computes the losses with the functions of Representax, for loss_time.py, which starts it.

Lines of JSON: its versions first; then it answers `{"load": name, "n": …, "d": …}` with the value,
the norm of the gradient and the bytes of temporaries of the compiled program, `{"measure": name}`
with the seconds of a call, and `{"grow": name}` with how far a call raises resident memory. A call
is value and gradient of the loss over the embeddings and the loss's own parameters, compiled ahead
of time. "multiple_negatives_ranking_loss, tiled" with `"block": rows` is the ranking loss that has
so many rows of scores at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from answering import serve
from jax import Array
from loss_workloads import Arrays, Workload, workloads
from representax.core import LateInteractionRepresentation
from representax.tasks.classification import losses as classification
from representax.tasks.contrastive_tension import losses as tension
from representax.tasks.cross_encoder import losses as reranking
from representax.tasks.distillation import losses as distillation
from representax.tasks.guided import gist_loss_terms
from representax.tasks.late_interaction import late_interaction_loss_terms
from representax.tasks.mega_batch.losses import mega_batch_margin_loss_terms
from representax.tasks.pairwise import losses as pairwise
from representax.tasks.reconstruction.losses import denoising_autoencoder_loss_terms
from representax.tasks.regularization.losses import global_orthogonal_regularization_terms
from representax.tasks.retrieval import MNRTask, retrieval_batch
from representax.tasks.triplet import losses as triplet
from sides import resident_growth
from timing import enough_repeats, seconds_per_call

TILED = ", tiled"


class Prepared(NamedTuple):
    """A loss of two trees: what is differentiated, and what is not."""

    loss: Callable[[Any, Any], Array]
    differentiated: Any
    given: Any


Prepare = Callable[..., Prepared]


def ranking(arrays: Arrays, *, symmetric: bool = False, block: int | None = None) -> Prepared:
    """All documents are one array, as the encoder would return them."""
    anchors, documents = arrays["anchors"], arrays["positives"]
    if "negatives" in arrays:
        documents = np.concatenate([documents, *unstacked(arrays["negatives"])])
    mask = np.eye(len(anchors), len(documents), dtype=bool)
    batch = retrieval_batch(query=anchors, document=documents, positive_mask=mask)
    task = MNRTask(symmetric=symmetric)

    def loss(embeddings: Any, batch: Any) -> Array:
        return task.loss_from_embeddings(*embeddings, batch, row_chunk_size=block).loss

    return Prepared(loss, (anchors, documents), batch)


def gist(arrays: Arrays) -> Prepared:
    def columns(of: str) -> tuple[np.ndarray, ...]:
        negatives = unstacked(arrays.get(f"{of}negatives"))
        return (arrays[f"{of}anchors"], arrays[f"{of}positives"], *negatives)

    return Prepared(
        lambda x, guides: gist_loss_terms(x, guides).loss, columns(""), columns("guide_")
    )


def over_pairs(terms: Callable[..., Any], **fixed: Any) -> Prepare:
    """Losses of left and right embeddings and labels, which are numbers there."""

    def prepare(arrays: Arrays, **settings: Any) -> Prepared:
        left, right, labels = arrays.values()
        if settings.pop("distance_fn", None):
            settings["metric"] = "euclidean"

        def loss(pair: Any, labels: Array) -> Array:
            return terms(*pair, labels, **fixed, **settings).loss

        return Prepared(loss, (left, right), labels.astype(np.float32))

    return prepare


def over_columns(terms: Callable[..., Any], **fixed: Any) -> Prepare:
    """Losses of embeddings alone."""

    def prepare(arrays: Arrays, **settings: Any) -> Prepared:
        return Prepared(
            lambda columns, _: terms(*columns, **fixed, **settings).loss, [*arrays.values()], None
        )

    return prepare


def over_labeled(terms: Callable[..., Any], **fixed: Any) -> Prepare:
    """Losses that find their triplets by the labels."""

    def prepare(
        arrays: Arrays, distance_fn: str = "euclidean_distance", **settings: Any
    ) -> Prepared:
        metric = distance_fn.removesuffix("_distance")

        def loss(embeddings: Array, labels: Array) -> Array:
            return terms(embeddings, labels, metric=metric, **fixed, **settings).loss

        return Prepared(loss, arrays["embeddings"], arrays["labels"])

    return prepare


def softmax(arrays: Arrays) -> Prepared:
    def loss(x: Any, labels: Array) -> Array:
        features = classification.pair_features(x["left"], x["right"])
        logits = features @ x["weight"].T + x["bias"]
        return classification.softmax_classification_loss_terms(logits, labels).loss

    labels = arrays.pop("labels")
    return Prepared(loss, arrays, labels)


def embedding_distillation(distance: str) -> Prepare:
    """The columns of embeddings are stacked; here there is one."""

    def prepare(arrays: Arrays) -> Prepared:
        def loss(student: Array, teacher: Array) -> Array:
            terms = distillation.embedding_distillation_loss_terms
            return terms(student, teacher, distance=distance).loss

        return Prepared(loss, arrays["student"][None], arrays["teacher"][None])

    return prepare


def margin_distillation(arrays: Arrays) -> Prepared:
    columns = (arrays["queries"], arrays["positives"], stacked(arrays["negatives"]))
    return Prepared(
        lambda x, margins: distillation.margin_mse_loss_terms(*x, margins).loss,
        columns,
        arrays["margins"],
    )


def distribution_distillation(arrays: Arrays, *, temperature: float) -> Prepared:
    def loss(x: Any, scores: Array) -> Array:
        terms = distillation.distribution_kl_loss_terms
        return terms(*x, scores, temperature=temperature).loss

    columns = (arrays["queries"], stacked(arrays["candidates"]))
    return Prepared(loss, columns, arrays["scores"])


def reconstruction(arrays: Arrays, *, pad_id: int) -> Prepared:
    def loss(logits: Array, target_ids: Array) -> Array:
        return denoising_autoencoder_loss_terms(logits, target_ids, pad_token_id=pad_id).loss

    return Prepared(loss, arrays["logits"], arrays["target_ids"])


def late_interaction(arrays: Arrays) -> Prepared:
    """Document k of row i is number k n + i of all."""
    queries, documents = arrays["queries"], np.concatenate(unstacked(arrays["documents"]))
    masks = arrays["query_mask"], np.concatenate(unstacked(arrays["document_mask"]))
    positives = np.eye(len(queries), len(documents), dtype=bool)

    def loss(tokens: Any, given: Any) -> Array:
        masks, positives = given
        texts = map(LateInteractionRepresentation, tokens, masks)
        return late_interaction_loss_terms(*texts, positives, temperature=1.0).loss

    return Prepared(loss, (queries, documents), (masks, positives))


def over_scores(function: Callable[..., Array], label_type: Any = np.float32) -> Prepare:
    """Losses of scores and labels, none of which is padding."""

    def prepare(arrays: Arrays) -> Prepared:
        scores, labels = arrays.values()
        valid = np.ones(labels.shape, bool)
        return Prepared(
            lambda scores, given: function(scores, *given),
            scores,
            (labels.astype(label_type), valid),
        )

    return prepare


def score_margins(arrays: Arrays) -> Prepared:
    """The class itself takes one negative; this is its function for all of them."""
    scores, margins = arrays["scores"], arrays["margins"]

    def loss(scores: Array, given: Any) -> Array:
        return reranking.score_mse(scores[:, :1] - scores[:, 1:], *given)

    return Prepared(loss, scores, (margins, np.ones(margins.shape, bool)))


def score_ranking(arrays: Arrays) -> Prepared:
    scores = arrays["scores"]
    given = np.zeros(len(scores), np.int32), np.ones(scores.shape, bool)
    return Prepared(lambda scores, given: reranking.cross_mnr_loss(scores, *given), scores, given)


def unstacked(columns: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Parts an array along its second axis."""
    return () if columns is None else tuple(np.ascontiguousarray(np.moveaxis(columns, 1, 0)))


def stacked(columns: np.ndarray) -> np.ndarray:
    """Puts the second axis first, where the columns of Representax are."""
    return np.ascontiguousarray(np.moveaxis(columns, 1, 0))


PEERS: dict[str, Prepare] = {
    "multiple_negatives_ranking_loss": ranking,
    "multiple_negatives_symmetric_ranking_loss": partial(ranking, symmetric=True),
    "gist_embed_loss": gist,
    "mega_batch_margin_loss": over_columns(mega_batch_margin_loss_terms),
    "contrastive_tension_loss": over_pairs(tension.contrastive_tension_loss_terms),
    "contrastive_tension_in_batch_negatives_loss": over_columns(
        tension.contrastive_tension_in_batch_loss_terms
    ),
    "global_orthogonal_regularization_loss": over_columns(
        lambda embeddings: global_orthogonal_regularization_terms((embeddings,))
    ),
    "contrastive_loss": over_pairs(pairwise.contrastive_loss_terms),
    "online_contrastive_loss": over_pairs(pairwise.online_contrastive_loss_terms),
    "cosine_similarity_loss": over_pairs(pairwise.cosine_regression_loss_terms),
    "cosent_loss": over_pairs(pairwise.pair_ranking_loss_terms),
    "angle_loss": over_pairs(pairwise.pair_ranking_loss_terms, similarity="angle"),
    "softmax_loss": softmax,
    "triplet_loss": over_columns(triplet.explicit_triplet_loss_terms),
    "batch_hard_triplet_loss": over_labeled(triplet.batch_hard_triplet_loss_terms),
    "batch_hard_soft_margin_triplet_loss": over_labeled(
        triplet.batch_hard_triplet_loss_terms, soft_margin=True
    ),
    "batch_semi_hard_triplet_loss": over_labeled(triplet.batch_semi_hard_triplet_loss_terms),
    "batch_all_triplet_loss": over_labeled(triplet.batch_all_triplet_loss_terms),
    "mse_loss": embedding_distillation("mse"),
    "embed_distill_loss": embedding_distillation("cosine"),
    "margin_mse_loss": margin_distillation,
    "distill_kl_div_loss": distribution_distillation,
    "denoising_auto_encoder_loss": reconstruction,
    "multi_vector_multiple_negatives_ranking_loss": late_interaction,
    "reranking.binary_cross_entropy_loss": over_scores(reranking.binary_cross_entropy),
    "reranking.cross_entropy_loss": over_scores(reranking.multiclass_cross_entropy, np.int32),
    "reranking.mse_loss": over_scores(reranking.score_mse),
    "reranking.margin_mse_loss": score_margins,
    "reranking.multiple_negatives_ranking_loss": score_ranking,
    "reranking.listnet_loss": over_scores(reranking.listnet_loss),
    "reranking.listmle_loss": over_scores(reranking.list_mle_loss),
    "reranking.p_listmle_loss": over_scores(partial(reranking.list_mle_loss, position_aware=True)),
    "reranking.lambda_loss": over_scores(reranking.lambda_loss),
    "reranking.ranknet_loss": over_scores(reranking.ranknet_loss),
}
# Forms of these losses that Representax does not have.
MISSING = {
    "multiple_negatives_ranking_loss, 4 directions",
    "angle_loss, 3 negatives",
    "multi_vector_multiple_negatives_ranking_loss, XTR",
}


class Loss:
    """A compiled loss with its inputs on the device."""

    def __init__(self, workload: Workload, **options: Any):
        prepared = PEERS[workload.loss](workload.arrays(), **workload.settings, **options)
        inputs = jax.device_put((prepared.differentiated, prepared.given))
        self.inputs = jax.block_until_ready(inputs)
        function = jax.jit(jax.value_and_grad(prepared.loss))
        self.program = function.lower(*self.inputs).compile()
        self.repeats = 1

    def __call__(self) -> Any:
        return jax.block_until_ready(self.program(*self.inputs))


def load(request: dict[str, Any], losses: dict[str, Loss]) -> dict[str, Any]:
    """Compiles a loss and computes it once; others before it are forgotten."""
    name = request["load"]
    table = {row.name: row for row in workloads(request["n"], request["d"])}
    workload = table[name.removesuffix(TILED)]
    for other in {*losses} - {workload.name, workload.name + TILED}:
        del losses[other]
    if name in MISSING or workload.loss not in PEERS:
        return {"known": False}
    options = {"block": request["block"]} if name.endswith(TILED) else {}
    loss = losses[name] = Loss(workload, **options)
    value, gradient = loss()
    squares = sum(float(jnp.vdot(part, part)) for part in jax.tree.leaves(gradient))
    del gradient
    loss.repeats = enough_repeats(loss)
    return {
        "known": True,
        "value": float(value),
        "gradient_norm": math.sqrt(squares),
        "temporaries": loss.program.memory_analysis().temp_size_in_bytes,
    }


def answer(request: dict[str, Any], losses: dict[str, Loss]) -> dict[str, Any]:
    if "load" in request:
        return load(request, losses)
    if "grow" in request:
        return {"resident_growth": resident_growth(losses[request["grow"]])}
    loss = losses[request["measure"]]
    return {"seconds": seconds_per_call(loss, loss.repeats)}


def main() -> None:
    losses: dict[str, Loss] = {}
    packages = ("representax", "jax", "equinox")
    serve(lambda request: answer(request, losses), packages)


if __name__ == "__main__":
    main()
