"""The registry of objectives: one for every published loss class, and further ones.

A new loss is an `Objective` here, and needs nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxembed import losses
from jaxembed.metrics import in_batch_accuracy
from jaxembed.objectives.choices import (
    ALIASES,
    DISTANCES,
    ERRORS,
    PAIRED_SIMILARITIES,
    REDUCTIONS,
    SIAMESE_DISTANCES,
    SIMILARITIES,
    TRANSFORMS,
    TRIPLET_DISTANCES,
)
from jaxembed.objectives.classification import accuracy, init_classifier, softmax_of_pairs
from jaxembed.objectives.denoising import denoise, init_decoder
from jaxembed.objectives.distillation import (
    distill_embeddings,
    distill_margins,
    distill_scores,
    init_projection,
)
from jaxembed.objectives.objective import Objective, Own, Wrapper
from jaxembed.objectives.regularization import regularize_columns
from jaxembed.objectives.tension import (
    init_logit_scale,
    init_second_encoder,
    init_second_encoder_and_scale,
    learned_scale,
    tension_of_pairs,
)
from jaxembed.objectives.wrappers import at_dims, at_layers, at_layers_and_dims
from jaxembed.typing import Roles


def _in_batch_accuracy(columns: list[Array], keywords: Mapping[str, Any]) -> dict[str, Array]:
    anchors, positives = columns[:2]
    found = in_batch_accuracy(anchors, positives, where=keywords.get("where"))
    return {"in_batch_accuracy": found}


def _logits(key: Array, *, scale: float, bias: float) -> dict[str, Array]:
    return {**init_logit_scale(scale), "bias": jnp.asarray(bias, jnp.float32)}


PAIR = ("left", "right")
SCORED = Roles(PAIR, {"scores": float})
LABELLED_PAIR = Roles(PAIR, {"labels": float})
CLASSES = Roles(("texts",), {"labels": int})
RANKED = Roles(("anchors", "positives"), negatives=True, ids=True)
CANDIDATES = ("queries", "positives", "negatives")
GUIDED = ("guide_anchors", "guide_positives", "guide_negatives")
TWO_COPIES = Roles(("first", "second"), ids=True, same_as={"second": "first"})

# What entries have in common.
ranked = partial(
    Objective,
    roles=RANKED,
    plan="no_duplicates",
    choices={"similarity_fn": SIMILARITIES},
    metrics=_in_batch_accuracy,
)
guided = partial(
    Objective,
    loss=losses.gist_embed_loss,
    roles=replace(RANKED, labels=dict.fromkeys(GUIDED, float), optional=frozenset(GUIDED)),
    networks={"guide": ("anchors", "positives", "negatives")},
    plan="no_duplicates",
    metrics=_in_batch_accuracy,
)
siamese = partial(
    Objective,
    roles=LABELLED_PAIR,
    bounds={"labels": (0, 1)},
    choices={"distance_fn": SIAMESE_DISTANCES, "reduce_fn": REDUCTIONS},
)
batch_triplets = partial(
    Objective,
    roles=CLASSES,
    plan="group_by_label",
    choices={"distance_fn": DISTANCES},
    compares_rows=True,
)
distilled_embeddings = partial(
    Objective,
    roles=Roles(("texts",), {"teacher": float}, optional=frozenset({"teacher"}), several=True),
    own=Own("projection (projection_dim)", init_projection),
    networks={"teacher": ("texts",)},
    truncate=("teacher", "teacher_texts"),
)

ENTRIES = (
    Objective(
        "cosine_similarity",
        "CosineSimilarityLoss",
        losses.cosine_similarity_loss,
        SCORED,
        bounds={"scores": (-1, 1)},  # of a cosine
        choices={"loss_fn": ERRORS, "score_transform": TRANSFORMS},
    ),
    ranked(
        "multiple_negatives_ranking",
        "MultipleNegativesRankingLoss",
        losses.multiple_negatives_ranking_loss,
    ),
    ranked(
        "multiple_negatives_symmetric_ranking",
        "MultipleNegativesSymmetricRankingLoss",
        losses.multiple_negatives_symmetric_ranking_loss,
    ),
    Objective(
        "triplet",
        "TripletLoss",
        losses.triplet_loss,
        Roles(("anchors", "positives"), negatives=True, needs_negatives=True),
        choices={"distance_fn": TRIPLET_DISTANCES},
        metrics=_in_batch_accuracy,
    ),
    distilled_embeddings("mse", "MSELoss", partial(distill_embeddings, distance="mse")),
    Objective(
        "margin_mse",
        "MarginMSELoss",
        distill_margins,
        Roles(
            ("queries", "positives"),
            {"margins": float, "scores": float},
            negatives=True,
            needs_negatives=True,
            optional=frozenset({"margins", "scores"}),
        ),
        networks={"teacher": CANDIDATES},
        choices={"similarity_fn": PAIRED_SIMILARITIES},
    ),
    siamese("contrastive", "ContrastiveLoss", losses.contrastive_loss),
    Objective(
        "softmax",
        "SoftmaxLoss",
        softmax_of_pairs,
        Roles(PAIR, {"labels": int}),
        own=Own("classifier", init_classifier),
        metrics=accuracy,
    ),
    batch_triplets("batch_hard_triplet", "BatchHardTripletLoss", losses.batch_hard_triplet_loss),
    batch_triplets(
        "batch_semi_hard_triplet", "BatchSemiHardTripletLoss", losses.batch_semi_hard_triplet_loss
    ),
    batch_triplets(
        "batch_hard_soft_margin_triplet",
        "BatchHardSoftMarginTripletLoss",
        losses.batch_hard_soft_margin_triplet_loss,
    ),
    batch_triplets("batch_all_triplet", "BatchAllTripletLoss", losses.batch_all_triplet_loss),
    siamese("online_contrastive", "OnlineContrastiveLoss", losses.online_contrastive_loss),
    Objective(
        "contrastive_tension",
        "ContrastiveTensionLoss",
        tension_of_pairs,
        replace(TWO_COPIES, labels={"same_text": float}, optional=frozenset({"same_text"})),
        own=Own("second encoder", init_second_encoder, lambda own: {}),
        plan="contrastive_tension",
        bounds={"same_text": (0, 1)},
        choices={"similarity_fn": PAIRED_SIMILARITIES},
        copied=frozenset({"first"}),
    ),
    Objective(
        "contrastive_tension_in_batch_negatives",
        "ContrastiveTensionLossInBatchNegatives",
        losses.contrastive_tension_in_batch_negatives_loss,
        TWO_COPIES,
        own=Own("second encoder, scale", init_second_encoder_and_scale, learned_scale),
        plan="no_duplicates",
        choices={"similarity_fn": SIMILARITIES},
        metrics=_in_batch_accuracy,
        copied=frozenset({"first"}),
    ),
    Objective(
        "angle",
        "AnglELoss",
        losses.angle_loss,
        Roles(PAIR, {"scores": float}, negatives=True, ids=True, optional=frozenset({"scores"})),
    ),
    Objective(
        "cosent",
        "CoSENTLoss",
        losses.cosent_loss,
        SCORED,
        choices={"similarity_fn": PAIRED_SIMILARITIES},
    ),
    guided("gist_embed", "GISTEmbedLoss"),
    guided("cached_gist_embed", "CachedGISTEmbedLoss", mini_batch_size=32),
    Objective(
        "denoising_auto_encoder",
        "DenoisingAutoEncoderLoss",
        denoise,
        Roles(
            ("damaged", "original"),
            same_as={"damaged": "original"},
            noisy=frozenset({"damaged"}),
        ),
        own=Own("decoder", init_decoder, lambda own: {}),
        decoded=frozenset({"original"}),
    ),
    Objective(
        "mega_batch_margin",
        "MegaBatchMarginLoss",
        losses.mega_batch_margin_loss,
        replace(RANKED, negatives=False),
        plan="no_duplicates",
        choices={"similarity_fn": SIMILARITIES},
        metrics=_in_batch_accuracy,
    ),
    Objective(
        "distill_kl_div",
        "DistillKLDivLoss",
        distill_scores,
        Roles(
            ("queries", "positives"),
            {"scores": float},
            negatives=True,
            optional=frozenset({"scores"}),
        ),
        networks={"teacher": CANDIDATES},
        choices={"similarity_fn": PAIRED_SIMILARITIES},
        compares_rows=True,
    ),
    ranked(
        "cached_multiple_negatives_ranking",
        "CachedMultipleNegativesRankingLoss",
        losses.multiple_negatives_ranking_loss,
        mini_batch_size=32,
    ),
    ranked(
        "cached_multiple_negatives_symmetric_ranking",
        "CachedMultipleNegativesSymmetricRankingLoss",
        losses.multiple_negatives_symmetric_ranking_loss,
        mini_batch_size=32,
    ),
    distilled_embeddings("embed_distill", "EmbedDistillLoss", distill_embeddings),
    Objective(
        "global_orthogonal_regularization",
        "GlobalOrthogonalRegularizationLoss",
        regularize_columns,
        Roles(("texts",), ids=True, several=True),
        plan="no_duplicates",
        choices={"similarity_fn": SIMILARITIES},
    ),
    Objective(
        "sigmoid",
        "",
        losses.sigmoid_loss,
        replace(RANKED, negatives=False),
        own=Own("scale, bias", _logits, lambda own: {**learned_scale(own), "bias": own["bias"]}),
        plan="no_duplicates",
        choices={"similarity_fn": SIMILARITIES},
        metrics=_in_batch_accuracy,
    ),
)

REGISTRY: dict[str, Objective] = {entry.name: entry for entry in ENTRIES}
for name, published, wrapper in (
    ("matryoshka", "MatryoshkaLoss", Wrapper(at_dims, layers=False)),
    ("matryoshka_2d", "Matryoshka2dLoss", Wrapper(at_layers_and_dims, layers=True)),
    ("adaptive_layer", "AdaptiveLayerLoss", Wrapper(at_layers, layers=True)),
):
    REGISTRY[name] = replace(
        REGISTRY["multiple_negatives_ranking"], name=name, published=published, wrapper=wrapper
    )


def named(name: str, **settings: Any) -> Objective:
    """Returns the objective of a name, with settings by our names or the published ones.

    A wrapper takes the name of what it wraps as `inner_loss`.

    Raises:
        ValueError: an unknown name, or a setting that the objective does not take.

    >>> loss = named("matryoshka", inner_loss="triplet", matryoshka_dims=(64, 32), margin=0.5)
    >>> loss.roles.texts, loss.settings["margin"], loss.settings["matryoshka_dims"]
    (('anchors', 'positives'), 0.5, (64, 32))
    """
    if name not in REGISTRY:
        raise ValueError(f"unknown loss {name!r}; choose one of {', '.join(REGISTRY)}")
    objective = REGISTRY[name]
    settings = {
        "inner_loss" if ALIASES.get(key) == "inner_loss" else key: value
        for key, value in settings.items()
    }
    inner = settings.pop("inner_loss", None)
    if inner is not None:
        if inner not in REGISTRY:
            raise ValueError(f"unknown inner_loss {inner!r}; choose one of {', '.join(REGISTRY)}")
        objective = objective.wrapping(REGISTRY[inner])
    return objective.with_settings(**settings)
