"""Data + metric -> `evaluate(embed) -> dict[str, float]`: they know texts and arrays, no model."""

from jaxembed.evaluators.binary_classification import (
    BinaryClassificationEvaluator as BinaryClassificationEvaluator,
)
from jaxembed.evaluators.mteb import MtebEncoder as MtebEncoder
from jaxembed.evaluators.paraphrase_mining import (
    ParaphraseMiningEvaluator as ParaphraseMiningEvaluator,
)
from jaxembed.evaluators.protocols import (
    EmbedFn as EmbedFn,
    Evaluator as Evaluator,
    Role as Role,
)
from jaxembed.evaluators.reranking import RerankingEvaluator as RerankingEvaluator
from jaxembed.evaluators.retrieval import RetrievalEvaluator as RetrievalEvaluator
from jaxembed.evaluators.similarity import SimilarityEvaluator as SimilarityEvaluator
from jaxembed.evaluators.translation import TranslationEvaluator as TranslationEvaluator
from jaxembed.evaluators.triplet import TripletEvaluator as TripletEvaluator
