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
from jaxembed.losses.blocks import Constant
from jaxembed.losses.in_batch import (
    gather,
    limited,
    negatives as negatives_of,
    not_closer,
    own,
    own_column,
    prepared,
    with_own_positive,
)
from jaxembed.losses.over_candidates import LogSumExp, Own, excess
from jaxembed.losses.reduction import mean
from jaxembed.losses.streaming import reduce_over_candidates
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import as_float32, clamped_unit, dot
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
    block_size: int | None = None,
    axis_name: Axis | None = None,
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
    anchor and positive the same text. `exclude_self` takes these entries out in any case. Over
    devices the anchors and positives that are compared are those of all of them; in
    sentence-transformers each process compares those of its own rows, so that its loss of a batch
    depends on the number of processes.

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
    shared = {
        "prepare": clamped_unit,
        "negatives_where": negatives_where,
        "where": where,
        "axis_name": axis_name,
    }
    hashes = {"ids": ids, "anchor_ids": anchor_ids, "negative_ids": negative_ids}
    rows, queries, documents = gather(anchors, positives, negatives, **hashes, **shared)
    guided, _, guided_documents = gather(guide_anchors, guide_positives, guide_negatives, **shared)
    rows, guided = prepared(rows, clamped_unit), prepared(guided, clamped_unit)
    guided_positive = with_own_positive(guided, dot)
    slack = margin if margin_strategy == "absolute" else margin * jnp.abs(guided_positive)
    guided = guided._replace(limit=Constant(guided_positive - slack))

    candidates = {"documents": (documents, Constant(guided_documents.embeddings))}
    if contrast_anchors:
        candidates["anchors"] = queries, Constant(guided.anchors)
    if contrast_positives:
        answers = queries._replace(embeddings=rows.positives)
        candidates["positives"] = answers, Constant(guided.positives)

    def parts(rows, candidates, temperature):
        rows, guided = rows[0], rows[1].value

        def compare(x, guided_x, candidates, guided_y):
            """Returns logits, which candidates the guide admits, and which are negatives."""
            similarities = dot(x, candidates.embeddings)  # [n m]
            admitted = not_closer(dot(guided_x, guided_y.value), guided)
            keep = admitted & negatives_of(rows, candidates) & not_closer(similarities, rows)
            return similarities / temperature, admitted, keep

        documents = candidates["documents"]
        own_positive = own(rows, documents[0]) & documents[0].paired[None, :]
        logits, _, keep = compare(rows.anchors, guided.anchors, *documents)
        positive = Own(logits, own_column(rows, documents[0]))
        blocks = [(logits, keep & ~own_positive)]
        for name in sorted(candidates.keys() - {"documents"}):  # a column with itself
            column, guided_column = getattr(rows, name), getattr(guided, name)
            logits, admitted, keep = compare(column, guided_column, *candidates[name])
            others = candidates[name][0]
            stays = admitted & others.real[None, :] & (not exclude_self)
            blocks.append((logits, jnp.where(own(rows, others), stays, keep)))
        return positive, LogSumExp(tuple(blocks))

    rows = limited(rows, as_float32, dot, false_negative_margin)
    if not contrast_positives:
        rows = rows._replace(positives=None)
    return reduce_over_candidates(
        parts,
        lambda of_parts, _: excess(of_parts[1], of_parts[0]),
        (rows, Constant(guided)),
        candidates,
        (temperature,),
        where=where,
        reduce_fn=reduce_fn,
        block_size=block_size,
        axis_name=axis_name,
    )
