"""Data + metric -> `evaluate(embed) -> dict[str, float]`: they know texts and arrays, no model."""

from jaxembed.evaluators.binary_classification import (
    BinaryClassificationEvaluator as BinaryClassificationEvaluator,
)
from jaxembed.evaluators.classification import (
    ClassificationEvaluator as ClassificationEvaluator,
)
from jaxembed.evaluators.clustering import ClusteringEvaluator as ClusteringEvaluator
from jaxembed.evaluators.label_accuracy import (
    LabelAccuracyEvaluator as LabelAccuracyEvaluator,
)
from jaxembed.evaluators.mteb import MtebEncoder as MtebEncoder
from jaxembed.evaluators.nano_beir import nano_beir as nano_beir
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
from jaxembed.evaluators.shortened import (
    Kept as Kept,
    at_dims as at_dims,
    at_precisions as at_precisions,
)
from jaxembed.evaluators.similarity import SimilarityEvaluator as SimilarityEvaluator
from jaxembed.evaluators.suite import Suite as Suite
from jaxembed.evaluators.teacher_distance import MSEEvaluator as MSEEvaluator
from jaxembed.evaluators.translation import TranslationEvaluator as TranslationEvaluator
from jaxembed.evaluators.triplet import TripletEvaluator as TripletEvaluator
