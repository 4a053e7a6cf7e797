"""The settings of losses as flags, with the names of sentence-transformers beside ours.

None is the loss's own default. A loss refuses a flag that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jaxembed.forms import At, Choice
from jaxembed.settings import Count, NotNegative, Positive

Drawn = Annotated[int, (Choice(-1), At(int, least=1))]  # in each step, -1 for all


def also(*names: str):
    """Gives a flag further names."""
    return tyro.conf.arg(aliases=[f"--{name}" for name in names])


@dataclass(frozen=True)
class LossFlags:
    """The settings of losses; each is only for the losses that know it."""

    # Similarities, distances and margins
    scale: Positive | None = None
    """Inverse temperature of similarities (20; contrastive_tension 1; sigmoid 10, learned)."""
    similarity_fn: Annotated[str | None, also("similarity-fct")] = None
    """cosine (cos_sim), dot, euclidean or manhattan."""
    distance_fn: Annotated[str | None, also("distance-metric", "distance-function")] = None
    """EUCLIDEAN, MANHATTAN, COSINE (COSINE_DISTANCE) or, of triplet, DOT_PRODUCT."""
    margin: Annotated[float | None, also("triplet-margin")] = None
    """In units of the distance (triplets 5, contrastive 0.5, gist_embed 0)."""
    size_average: bool | None = None
    """Mean or sum over the pairs (contrastive: mean, online_contrastive: sum)."""
    positive_margin: float | None = None
    """Of mega_batch_margin: the positive should be more similar (0.8)."""
    negative_margin: float | None = None
    """Of mega_batch_margin: the hardest negative should be less similar (0.3)."""
    bias: float | None = None
    """Where the bias of sigmoid starts (-10)."""

    # In-batch negatives
    directions: tuple[str, ...] | None = None
    """query_to_doc and any of query_to_query, doc_to_query, doc_to_doc."""
    partition_mode: Literal["joint", "per_direction"] | None = None
    """One softmax over all directions, or one per direction."""
    hardness_mode: Literal["in_batch_negatives", "hard_negatives", "all_negatives"] | None = None
    """Which negatives weigh more the harder they are."""
    hardness_strength: float | None = None
    """By how much."""
    false_negative_margin: float | None = None
    """A candidate that is closer than the positive by more is no negative."""
    block_size: Count | None = None
    """Rows that are compared with the whole batch at once, for large batches; all if None."""

    # Guides and teachers
    temperature: Positive | None = None
    """Of gist_embed (0.01) and distill_kl_div (1)."""
    student_temperature: Positive | None = None
    """Of the student alone, of distill_kl_div."""
    teacher_temperature: Positive | None = None
    """Of the teacher alone, of distill_kl_div."""
    margin_strategy: Literal["absolute", "relative"] | None = None
    """Whether the margin of gist_embed is subtracted from the guide's similarity or a share."""
    contrast_anchors: bool | None = None
    """Whether gist_embed compares anchors with each other."""
    contrast_positives: bool | None = None
    """Whether gist_embed compares positives with each other."""
    exclude_self: bool | None = None
    """Whether gist_embed never compares a text with itself."""
    distance: Literal["cosine", "mse", "l2"] | None = None
    """From the teacher's embedding, of embed_distill (cosine)."""
    projection_dim: Count | None = None
    """Learns a projection to so many features, those of the teacher (mse, embed_distill)."""

    # Scores and classes
    loss_fn: Annotated[str | None, also("loss-fct")] = None
    """Of cosine_similarity: squared_error (MSELoss), absolute_error, huber_error, smooth_l1_error
    or binary_cross_entropy."""
    score_transform: Annotated[str | None, also("cos-score-transformation")] = None
    """Of cosine_similarity: identity, sigmoid, relu or tanh."""
    num_labels: Count | None = None
    """Classes of softmax; as many as the data has if not given."""
    sentence_embedding_dimension: Count | None = None
    """Width that the classifier of softmax expects; known from the encoder."""
    concatenation_sent_rep: bool | None = None
    """Whether the classifier sees both embeddings."""
    concatenation_sent_difference: bool | None = None
    """Whether it sees their absolute difference."""
    concatenation_sent_multiplication: bool | None = None
    """Whether it sees their product."""
    angle_w: float | None = None
    """Weight of the angle, of angle (1)."""
    angle_tau: Positive | None = None
    """Temperature of the angle (1 / scale)."""
    cosine_w: float | None = None
    """Weight of the cosine, of angle (0)."""
    cosine_tau: Positive | None = None
    """Temperature of the cosine (0.05)."""
    ibn_w: float | None = None
    """Weight of in-batch negatives, of angle (0)."""

    # Regularisers
    mean_weight: float | None = None
    """Of global_orthogonal_regularization: weight of the mean similarity (1)."""
    second_moment_weight: float | None = None
    """Weight of the mean squared similarity (1)."""
    aggregation: Literal["mean", "sum"] | None = None
    """Over the columns of texts (mean)."""

    # Wrappers
    matryoshka_dims: tuple[Count, ...] | None = None
    """Widths at which the embeddings shall be useful."""
    matryoshka_weights: tuple[NotNegative, ...] | None = None
    """The weight of each width; 1 for all if not given."""
    n_dims_per_step: Drawn | None = None
    """Widths that are drawn in each step; -1 for all (matryoshka -1, matryoshka_2d 1)."""
    n_layers_per_step: Drawn | None = None
    """Layers before the last that are drawn in each step; -1 for all (1)."""
    last_layer_weight: float | None = None
    """Weight of the last layer's loss (1)."""
    prior_layers_weight: float | None = None
    """Weight of the other layers' losses (1)."""
    kl_div_weight: float | None = None
    """Weight of the divergence from the last layer (1)."""
    kl_temperature: NotNegative | None = None
    """Its temperature (0.3); 0 leaves it out."""
    layer_weighting: Literal["uniform", "log", "linear"] | None = None
    """How layers weigh by their number."""
