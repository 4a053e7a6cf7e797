"""Losses of rerankers, which score a query and a document together: from arrays of scores.

    from jaxembed.losses import reranking
    reranking.lambda_loss(scores, labels=labels, where=where)

Scores come by position: `[n]`, one per pair (pointwise), `[n c]` or `[n m]`, some per row, or
`[q k]`, one per document of a query (listwise and pairwise). Lists of different lengths are padded
to the longest. All losses share these arguments:

- `where`, `[n]` or, for lists, `[q k]`: False takes the row or the document out. What it holds (NaN
  too) has no effect, its gradient is exactly 0, and a query without documents counts for nothing.
- `activation_fn` goes over every single score first, such as `jax.nn.sigmoid`.
- `reduce_fn(values, where)` makes one number of the values per row or per query; None returns the
  values, 0 where there is nothing real. A loss without it is no mean over rows or queries.

Scores are raised to at least float32; labels take their type.
"""

from jaxembed.losses.reranking.listwise import (
    listmle_loss as listmle_loss,
    listnet_loss as listnet_loss,
    p_listmle_loss as p_listmle_loss,
)
from jaxembed.losses.reranking.pairwise import (
    adr_mse_loss as adr_mse_loss,
    lambda_loss as lambda_loss,
    lambda_rank as lambda_rank,
    ndcg_loss1 as ndcg_loss1,
    ndcg_loss2 as ndcg_loss2,
    ndcg_loss2pp as ndcg_loss2pp,
    no_weighting as no_weighting,
    ranknet_loss as ranknet_loss,
)
from jaxembed.losses.reranking.pointwise import (
    binary_cross_entropy_loss as binary_cross_entropy_loss,
    cross_entropy_loss as cross_entropy_loss,
    margin_mse_loss as margin_mse_loss,
    mse_loss as mse_loss,
)
from jaxembed.losses.reranking.ranking import (
    multiple_negatives_ranking_loss as multiple_negatives_ranking_loss,
    sample_negatives as sample_negatives,
)
