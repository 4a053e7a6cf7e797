"""What the benchmarks of the losses compute: a table of losses, shapes and settings.

NumPy alone, so that the PyTorch side draws the very same arrays. A row states its own sizes where
those of the headline, n rows of d features, do not suit it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
Shape = tuple[int, ...]


class Drawn(NamedTuple):
    """An array to be drawn."""

    shape: Shape
    draw: Callable[[np.random.Generator, Shape], np.ndarray]
    dtype: str = "float32"


def normal(*shape: int, deviation: float = 1.0) -> Drawn:
    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        values = rng.standard_normal(shape, np.float32)
        values *= np.float32(deviation)
        return values

    return Drawn(shape, draw)


def uniform(*shape: int) -> Drawn:
    return Drawn(shape, lambda rng, shape: rng.random(shape, np.float32))


def unit(*shape: int) -> Drawn:
    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        vectors = rng.standard_normal(shape, np.float32)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors

    return Drawn(shape, draw)


def sparse(*shape: int) -> Drawn:
    """No number below zero, and one in fifteen above."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        values = rng.standard_normal(shape, np.float32)
        values -= 1.5
        return np.maximum(values, 0, out=values)

    return Drawn(shape, draw)


def constant(value: float, *shape: int) -> Drawn:
    return Drawn(shape, lambda rng, shape: np.full(shape, value, np.float32))


def integers(low: int, high: int, *shape: int) -> Drawn:
    """From low up to, but without, high."""
    return Drawn(shape, lambda rng, shape: rng.integers(low, high, shape, np.int32), "int32")


def classes(count: int, n: int) -> Drawn:
    """Labels of which all occur equally often."""
    return Drawn((n,), lambda rng, _: rng.permutation(n).astype(np.int32) % count, "int32")


def padded_ids(vocabulary: int, *shape: int) -> Drawn:
    """Token ids, and behind them, from half of the places on, padding: the id 0."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        ids = rng.integers(1, vocabulary, shape, np.int32)
        return np.where(_lengths_mask(rng, shape), ids, np.int32(0))

    return Drawn(shape, draw, "int32")


def token_mask(*shape: int) -> Drawn:
    """Texts of different lengths, of half the tokens or more."""
    return Drawn(shape, lambda rng, shape: _lengths_mask(rng, shape), "bool")


def _lengths_mask(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    lengths = rng.integers(shape[-1] // 2, shape[-1] + 1, shape[:-1])
    return np.arange(shape[-1]) < lengths[..., None]


@dataclass(frozen=True)
class Workload:
    """One loss with its inputs: embeddings and parameters are differentiated, keywords are not.

    `settings` are JSON; a function is its name in the package, or `[name, {keyword: value}]`.
    """

    name: str
    loss: str  # the path below jaxembed.losses
    embeddings: Mapping[str, Drawn]  # go in by position
    keywords: Mapping[str, Drawn] = field(default_factory=dict)
    parameters: Mapping[str, Drawn] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> dict[str, Drawn]:
        return {**self.embeddings, **self.keywords, **self.parameters}

    @property
    def shape(self) -> str:
        """The shapes of the embeddings, such as `2 [1024 384]`."""
        shapes = Counter(drawn.shape for drawn in self.embeddings.values())
        return ", ".join(
            (f"{count} " if count > 1 else "") + f"[{' '.join(map(str, shape))}]"
            for shape, count in shapes.items()
        )

    def arrays(self) -> Arrays:
        """Draws the inputs; the seed is the name, so that a new row changes no other."""
        rng = np.random.default_rng([*self.name.encode()])
        return {name: drawn.draw(rng, drawn.shape) for name, drawn in self.drawn.items()}


def workloads(n: int = 1024, d: int = 384) -> list[Workload]:
    """Makes the whole table. n scales all rows, those with sizes of their own too."""
    table = [
        *_in_batch(n, d),
        *_pairs(n, d),
        *_triplets(n, d),
        *_distillation(n, d),
        *_sparse(n, d),
        *_late_interaction(n),
        *_reranking(n),
    ]
    assert len({row.name for row in table}) == len(table)
    return table


def chosen(table: list[Workload], only: tuple[str, ...]) -> list[Workload]:
    """Takes the rows whose name contains one of the words; all if there are none."""
    for word in only:
        if not any(word in row.name for row in table):
            raise ValueError(f"no loss is named like {word!r}; there are {[r.name for r in table]}")
    return [row for row in table if not only or any(word in row.name for word in only)]


def _in_batch(n: int, d: int) -> list[Workload]:
    pair = {"anchors": normal(n, d), "positives": normal(n, d)}
    guides = {"guide_anchors": normal(n, d), "guide_positives": normal(n, d)}
    copies = {"first": normal(n, d), "second": normal(n, d)}
    ranking, gist = "multiple_negatives_ranking_loss", "gist_embed_loss"
    directions = ["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
    return [
        Workload(ranking, ranking, pair),
        Workload(f"{ranking}, 3 negatives", ranking, pair | {"negatives": normal(n, 3, d)}),
        Workload(f"{ranking}, 4 directions", ranking, pair, settings={"directions": directions}),
        _plain("multiple_negatives_symmetric_ranking_loss", pair),
        Workload(gist, gist, pair, guides),
        Workload(
            f"{gist}, 1 negative",
            gist,
            pair | {"negatives": normal(n, 1, d)},
            guides | {"guide_negatives": normal(n, 1, d)},
        ),
        _plain("mega_batch_margin_loss", pair, settings={"negative_margin": 0.1}),
        _plain("sigmoid_loss", pair),
        _plain("contrastive_tension_loss", copies, {"labels": integers(0, 2, n)}),
        _plain(
            "contrastive_tension_in_batch_negatives_loss",
            copies,
            parameters={"logit_scale": constant(np.log(20))},
        ),
        _plain("global_orthogonal_regularization_loss", {"embeddings": uniform(n, d)}),
    ]


def _pairs(n: int, d: int) -> list[Workload]:
    pair = {"left": normal(n, d), "right": normal(n, d)}
    labels, scores = {"labels": integers(0, 2, n)}, {"scores": uniform(n)}
    euclidean = ["paired_euclidean_distance", {"epsilon": 1e-6}]
    return [
        _plain("contrastive_loss", pair, labels, settings={"margin": 1.0}),
        Workload(
            "contrastive_loss, Euclidean",
            "contrastive_loss",
            pair,
            labels,
            settings={"margin": 28.0, "distance_fn": euclidean},
        ),
        _plain("online_contrastive_loss", pair, labels, settings={"margin": 1.0}),
        _plain("cosine_similarity_loss", pair, scores),
        _plain("cosent_loss", pair, scores),
        _plain("angle_loss", pair, scores),
        Workload("angle_loss, 3 negatives", "angle_loss", pair | {"negatives": normal(n, 3, d)}),
        _plain(
            "softmax_loss",
            pair,
            {"labels": integers(0, 3, n)},
            {"weight": normal(3, 3 * d, deviation=0.03), "bias": normal(3)},
        ),
    ]


def _triplets(n: int, d: int) -> list[Workload]:
    three = {name: normal(n, d) for name in ("anchors", "positives", "negatives")}
    embeddings, labels = {"embeddings": normal(n, d)}, {"labels": classes(64, n)}
    mined = partial(_plain, embeddings=embeddings, keywords=labels)
    return [
        _plain("triplet_loss", three),
        mined("batch_hard_triplet_loss"),
        Workload(
            "batch_hard_triplet_loss, cosine",
            "batch_hard_triplet_loss",
            embeddings,
            labels,
            settings={"margin": 0.1, "distance_fn": "cosine_distance"},
        ),
        mined("batch_hard_soft_margin_triplet_loss"),
        mined("batch_semi_hard_triplet_loss", settings={"margin": 1.0}),
        mined("batch_all_triplet_loss", settings={"margin": 1.0}),
    ]


def _distillation(n: int, d: int) -> list[Workload]:
    student, teacher = {"student": normal(n, d)}, {"teacher": normal(n, d)}
    n_texts, tokens, vocabulary = n // 32, 32, 8192
    return [
        _plain("mse_loss", student, teacher),
        _plain("embed_distill_loss", student, teacher),
        _plain(
            "margin_mse_loss",
            {"queries": normal(n, d), "positives": normal(n, d), "negatives": normal(n, 4, d)},
            {"margins": normal(n, 4, deviation=20.0)},
        ),
        _plain(
            "distill_kl_div_loss",
            {"queries": normal(n, d), "candidates": normal(n, 8, d)},
            {"scores": normal(n, 8, deviation=20.0)},
            settings={"temperature": 20.0},
        ),
        _plain(
            "denoising_auto_encoder_loss",
            {"logits": normal(n_texts, tokens, vocabulary)},
            {"target_ids": padded_ids(vocabulary, n_texts, tokens)},
            settings={"pad_id": 0},
        ),
    ]


def _sparse(n: int, d: int) -> list[Workload]:
    vocabulary, latents = 8192, 2048
    coded = partial(
        _plain,
        embeddings={"first": normal(n, d), "second": normal(n, d)},
        keywords={"last_nonzero": integers(0, 61, latents)},
        parameters={
            "weight": normal(latents, d, deviation=d**-0.5),
            "pre_bias": normal(d, deviation=0.1),
            "latent_bias": normal(latents, deviation=0.1),
        },
    )
    return [
        _plain("flops_loss", {"embeddings": sparse(n, vocabulary)}),
        _plain(
            "splade_loss",
            {"queries": sparse(n, vocabulary), "positives": sparse(n, vocabulary)},
            settings={
                "loss_fn": [
                    "multiple_negatives_ranking_loss",
                    {"scale": 1.0, "similarity_fn": "dot"},
                ],
                "document_regularizer_weight": 3e-3,
                "query_regularizer_weight": 5e-3,
            },
        ),
        coded("csr_reconstruction_loss", settings={"k": 32, "k_aux": 512, "beta": 1.0}),
        coded("csr_loss", settings={"k": 32, "k_aux": 512, "beta": 0.1, "gamma": 1.0}),
    ]


def _late_interaction(n: int) -> list[Workload]:
    d, query_tokens, document_tokens = 128, 32, 64

    def texts(n: int, documents: int) -> dict[str, dict[str, Drawn]]:
        return {
            "embeddings": {
                "queries": unit(n, query_tokens, d),
                "documents": unit(n, documents, document_tokens, d),
            },
            "keywords": {
                "query_mask": token_mask(n, query_tokens),
                "document_mask": token_mask(n, documents, document_tokens),
            },
        }

    def scored(n: int, documents: int, **targets: Drawn) -> dict[str, Any]:
        parts = texts(n, documents)
        return parts | {"keywords": parts["keywords"] | targets}

    ranking = "multi_vector_multiple_negatives_ranking_loss"
    few, some = n // 16, n // 4
    return [
        Workload(ranking, ranking, **texts(few, 2)),
        Workload(f"{ranking}, XTR", ranking, **texts(few, 2), settings={"similarity_fn": "xtr"}),
        _plain("multi_vector_distill_kl_div_loss", **scored(some, 4, scores=normal(some, 4))),
        _plain("multi_vector_margin_mse_loss", **scored(some, 5, margins=normal(some, 4))),
    ]


def _reranking(n: int) -> list[Workload]:
    """Rerankers are scored in pairs; k documents of a query have grades from 0 to 4."""
    k = 32
    one, lists = {"scores": normal(n)}, {"scores": normal(n, k)}
    grades = {"labels": integers(0, 5, n, k)}
    first = {"scores": normal(n, 5)}  # the positive and four negatives
    losses = [
        ("binary_cross_entropy_loss", one, {"labels": integers(0, 2, n)}),
        ("cross_entropy_loss", {"scores": normal(n, 4)}, {"labels": integers(0, 4, n)}),
        ("mse_loss", one, {"labels": uniform(n)}),
        ("margin_mse_loss", first, {"margins": normal(n, 4)}),
        ("multiple_negatives_ranking_loss", first, {}),
        ("listnet_loss", lists, grades),
        ("listmle_loss", lists, grades),
        ("p_listmle_loss", lists, grades),
        ("lambda_loss", lists, grades),
        ("ranknet_loss", lists, grades),
        ("adr_mse_loss", lists, grades),
    ]
    return [_plain(f"reranking.{loss}", scores, labels) for loss, scores, labels in losses]


def _plain(loss: str, *args: Any, **kwargs: Any) -> Workload:
    """A row that is named like its loss."""
    return Workload(loss, loss, *args, **kwargs)
