"""Cases of jaxembed/losses/pairs.py."""

from jaxembed import losses
from tests.losses.cases.case import Case, pair, scores
from tests.losses.references import pairs as references

CASES = [
    Case(
        "cosine_similarity_loss",
        losses.cosine_similarity_loss,
        references.cosine_similarity_loss,
        pair,
        scores,
    ),
]
