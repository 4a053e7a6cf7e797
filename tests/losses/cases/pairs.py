"""Cases of jaxembed/losses/pairs.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import losses, similarity
from jaxembed.losses import elementwise
from jaxembed.losses.arguments import clean
from jaxembed.losses.reduction import mean
from tests.losses.cases.case import (
    Arrays,
    D,
    binary_labels,
    cases_of,
    ids_of_negatives,
    mask_of_negatives,
    pair,
    scores,
    text_ids,
    with_negatives,
)
from tests.losses.references import pairs as references

CLASSES = 4
# Distances of the pairs are about 2.5 and 5.
EUCLIDEAN = partial(similarity.paired_euclidean_distance, epsilon=1e-6)
MANHATTAN = partial(similarity.paired_manhattan_distance, epsilon=1e-6)


def soft_labels(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": rng.uniform(0, 1, size=n)}


def one_class(label: int):
    return lambda rng, n: {"labels": np.full(n, label)}


def labels_with_others(rng: np.random.Generator, n: int) -> Arrays:
    """0, 1 and a label that is neither."""
    labels = rng.integers(0, 3, size=n)
    labels[0] %= 2
    return {"labels": labels}


def probabilities(rng: np.random.Generator, n: int) -> Arrays:
    return {"scores": rng.uniform(0, 1, size=n)}


def quarters(rng: np.random.Generator, n: int) -> Arrays:
    """Scores with ties, exact in float32; so is one minus them."""
    return {"scores": rng.integers(0, 5, size=n) / 4}


def grades(rng: np.random.Generator, n: int) -> Arrays:
    return {"scores": rng.integers(0, 3, size=n)}


def quarters_and_ids(rng: np.random.Generator, n: int) -> Arrays:
    return {**quarters(rng, n), **text_ids(rng, n)}


def quarters_ids_and_mask(k: int):
    def make(rng: np.random.Generator, n: int) -> Arrays:
        arrays = {**quarters(rng, n), **ids_of_negatives(k)(rng, n)}
        return {name: arrays[name] for name in ("scores", "ids", "negatives_where")}

    return make


def pair_of_odd_width(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    return tuple(x[:, : D - 1] for x in pair(rng, n))


def negatives_of_odd_width(k: int):
    return lambda rng, n: tuple(x[..., : D - 1] for x in with_negatives(k)(rng, n))


def class_logits(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    return (2 * rng.normal(size=(n, CLASSES)),)


def classes(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": rng.integers(0, CLASSES, size=n)}


def classifier(parts: int):
    """Parameters of a linear layer on that many vectors."""
    return lambda rng: {
        "weight": rng.normal(size=(parts * D, CLASSES)),
        "bias": rng.normal(size=CLASSES),
    }


def classifier_loss(left, right, *, weight, bias, labels, where=None, reduce_fn=mean, **parts):
    """The package's own parts put together: features, linear layer, cross-entropy."""
    left, right = clean(where, left, right)
    features = losses.pair_features(left, right, **parts)
    logits = features @ weight + bias[None]
    return losses.softmax_loss(logits, labels=labels, where=where, reduce_fn=reduce_fn)


contrastive = cases_of(references, "contrastive_loss")
online = cases_of(references, "online_contrastive_loss", reduction="total")
cosine_similarity = cases_of(references, "cosine_similarity_loss", rows=scores)
cosent = cases_of(references, "cosent_loss", reduction=None)
angle = cases_of(references, "angle_loss", reduction=None)
softmax = cases_of(references, "softmax_loss", embeddings=class_logits, rows=classes)
features = cases_of(
    references,
    "softmax_loss",
    loss=classifier_loss,
    reference=references.classifier_loss,
    rows=classes,
)

CASES = [
    contrastive("default", rows=binary_labels),
    contrastive("euclidean", rows=binary_labels, distance_fn=EUCLIDEAN, margin=3.0),
    contrastive("manhattan_and_soft_labels", rows=soft_labels, distance_fn=MANHATTAN, margin=5.5),
    online("default", rows=binary_labels),
    online("euclidean", rows=labels_with_others, distance_fn=EUCLIDEAN, margin=3.0),
    online("negatives_alone", rows=one_class(0), distance_fn=MANHATTAN, margin=5.5),
    online("positives_alone", rows=one_class(1)),
    cosine_similarity("default"),
    cosine_similarity(
        "huber",
        loss_fn=partial(elementwise.huber_error, delta=0.4),
        score_transform=jnp.tanh,
    ),
    cosine_similarity(
        "smooth_l1",
        loss_fn=partial(elementwise.smooth_l1_error, beta=0.4),
        score_transform=jax.nn.relu,
    ),
    cosine_similarity(
        "cross_entropy", rows=probabilities, loss_fn=elementwise.binary_cross_entropy
    ),
    cosine_similarity(
        "absolute",
        rows=probabilities,
        loss_fn=elementwise.absolute_error,
        score_transform=jax.nn.sigmoid,
    ),
    cosent("default", rows=scores),
    cosent("ties", rows=quarters, scale=3.0, similarity_fn=similarity.paired_euclidean),
    cosent("grades", rows=grades, scale=0.5, similarity_fn=similarity.paired_dot),
    angle("default", pair, quarters),
    angle("odd_width", pair_of_odd_width, scores, scale=7.0),
    angle("negatives", with_negatives(2)),
    angle(
        "negatives_and_scores",
        negatives_of_odd_width(2),
        lambda rng, n: {**quarters(rng, n), "negatives_where": mask_of_negatives(rng, n, 2)},
    ),
    angle(
        "published",
        pair,
        quarters_and_ids,
        angle_tau=1.0,
        cosine_w=1.0,
        ibn_w=1.0,
    ),
    angle(
        "all_terms",
        with_negatives(2),
        quarters_ids_and_mask(2),
        angle_w=0.3,
        angle_tau=0.2,
        cosine_w=0.5,
        cosine_tau=0.1,
        ibn_w=2.0,
    ),
    softmax("default"),
    features("pair_features", parameters=classifier(3)),
    features(
        "products_alone",
        parameters=classifier(1),
        concatenation_sent_rep=False,
        concatenation_sent_difference=False,
        concatenation_sent_multiplication=True,
    ),
]
