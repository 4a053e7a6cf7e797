"""GISTEmbed: a guide model says which in-batch candidates are too similar to be negatives.

The arguments that all in-batch losses share are explained in `jaxembed.losses.in_batch`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxembed.losses.arguments import (
    check_choice,
    check_leading,
    check_not_negative,
    check_positive,
    takes_columns,
)
from jaxembed.losses.in_batch import (
    Candidates,
    gather,
    logsumexp,
    negatives as negatives_of,
    not_closer,
    own,
    pick,
)
from jaxembed.losses.reduction import mean, reduce
from jaxembed.similarity import clamped_cosine
from jaxembed.typing import (
    Embeddings,
    Ids,
    NegativeIds,
    Negatives,
    NegativesWhere,
    ReduceFn,
    Scalar,
    Where,
)


@takes_columns
def gist_embed_loss(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Negatives | None = None,
    *,
    guide_anchors: Float[Array, "n e"],
    guide_positives: Float[Array, "n e"],
    guide_negatives: Float[Array, "n k e"] | None = None,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    negative_ids: NegativeIds | None = None,
    temperature: Scalar = 0.01,
    margin_strategy: str = "absolute",
    margin: Scalar = 0.0,
    contrast_anchors: bool = True,
    contrast_positives: bool = True,
    exclude_self: bool = False,
    false_negative_margin: Scalar | None = None,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the ranking loss over the candidates that the guide does not find closer.

    With `q` anchors, `p` positives and `d` all documents (positives and negatives of every row),
    the candidates of row i are

        cos(q_i, d_j)  all documents
        cos(q_i, q_j)  all anchors      if contrast_anchors
        cos(p_i, p_j)  all positives    if contrast_positives

        value_i = logsumexp(candidates / temperature) - cos(q_i, p_i) / temperature

    less those whose cosine under the guide is greater than `t_i = g_i - margin` ("absolute") or
    `g_i - margin |g_i|` ("relative"), where `g_i` is the guide's cosine of `(q_i, p_i)`. The own
    positive always stays.

    An anchor's similarity to itself, 1, leaves only by that rule: it stays where the guide finds
    anchor and positive the same text. `exclude_self` takes these entries out in any case.

    Args:
        guide_anchors: embeddings of the same texts by the guide, constants; of any width.
        margin: the greater, the more candidates go. One below 0 is taken from an array only.

    Raises:
        ValueError: shapes that do not agree, negatives of student or guide alone, an unknown
            margin_strategy, a number out of range.

    Source: Solatorio, GISTEmbed: Guided In-sample Selection of Training Negatives for Text
    Embedding Fine-tuning, 2024 (without a margin).

    >>> anchors, positives = jnp.eye(2, 3), jnp.array([[0.9, 0.1, 0.3], [0.1, 0.9, 0.3]])
    >>> guide = {"guide_anchors": jnp.eye(2), "guide_positives": jnp.eye(2) + 0.1}
    >>> gist_embed_loss(anchors, positives, **guide, temperature=1.0).round(4)
    Array(0.8524, dtype=float32)
    """
    check_positive(temperature=temperature)
    check_choice("margin_strategy", margin_strategy, ("absolute", "relative"))
    check_not_negative(margin=margin)
    if (negatives is None) != (guide_negatives is None):
        raise ValueError("negatives and guide_negatives go together; got one of them")
    check_leading(anchors.shape[:1], guide_anchors=guide_anchors)
    if negatives is not None:
        check_leading(negatives.shape[:2], guide_negatives=guide_negatives)
    masks = {"where": where, "negatives_where": negatives_where}
    rows, queries, documents = gather(
        anchors,
        positives,
        negatives,
        ids=ids,
        anchor_ids=anchor_ids,
        negative_ids=negative_ids,
        **masks,
    )
    guide_rows, _, guide_documents = gather(
        guide_anchors, guide_positives, guide_negatives, **masks
    )
    own_positive = own(rows, documents) & documents.paired[None, :]
    similarities = clamped_cosine(rows.anchors, documents.embeddings)  # [n m]
    guided = clamped_cosine(guide_rows.anchors, guide_documents.embeddings)
    positive, guided_positive = pick(similarities, own_positive), pick(guided, own_positive)
    slack = margin if margin_strategy == "absolute" else margin * jnp.abs(guided_positive)
    threshold = guided_positive - slack

    def keep(similarities: Array, guided: Array, candidates: Candidates) -> Array:
        admitted = not_closer(guided, threshold, 0.0)
        negative = negatives_of(rows, candidates)
        return admitted & negative & not_closer(similarities, positive, false_negative_margin)

    def with_itself(student: Array, guide: Array, candidates: Candidates) -> Array:
        """The logits of a column with itself; the diagonal is left to the guide."""
        similarities, guided = clamped_cosine(student, student), clamped_cosine(guide, guide)
        itself = own(rows, candidates)
        stays = not_closer(guided, threshold, 0.0) & candidates.real[None, :] & (not exclude_self)
        kept = jnp.where(itself, stays, keep(similarities, guided, candidates))
        return jnp.where(kept, similarities / temperature, -jnp.inf)

    kept = keep(similarities, guided, documents) | own_positive
    blocks = [jnp.where(kept, similarities / temperature, -jnp.inf)]
    if contrast_anchors:
        blocks.append(with_itself(rows.anchors, guide_rows.anchors, queries))
    if contrast_positives:
        blocks.append(with_itself(rows.positives, guide_rows.positives, queries))
    return reduce(logsumexp(*blocks) - positive / temperature, where, reduce_fn)
