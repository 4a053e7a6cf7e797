"""Every loss as a pure function of embedding arrays; README.md here says which to use when."""

from jaxembed.losses.pairs import cosine_similarity_loss as cosine_similarity_loss
from jaxembed.losses.ranking import (
    multiple_negatives_ranking_loss as multiple_negatives_ranking_loss,
    multiple_negatives_symmetric_ranking_loss as multiple_negatives_symmetric_ranking_loss,
)
