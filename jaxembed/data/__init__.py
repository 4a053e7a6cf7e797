"""From texts in files to batches of arrays: sources, columns, batch plans, batches and loading."""

from jaxembed.data.batches import make_batch
from jaxembed.data.beir import read_beir, read_beir_folder
from jaxembed.data.cluster_plans import cluster_plan
from jaxembed.data.columns import bind_columns
from jaxembed.data.draws import WeightedRows, WeightedSteps, temperature_weights
from jaxembed.data.errors import DataError
from jaxembed.data.facts import DataFacts, data_facts
from jaxembed.data.hashing import row_hashes, split_words, text_hashes
from jaxembed.data.label_plans import group_by_label_plan
from jaxembed.data.lengths import blocks_of, count_tokens, split_by_length
from jaxembed.data.loader import load_batches
from jaxembed.data.mixed_plans import MixedPlan, MixedRows, WeightedPlan
from jaxembed.data.negative_draws import draw_negatives
from jaxembed.data.noise import delete_words
from jaxembed.data.pair_plans import contrastive_tension_plan
from jaxembed.data.plans import BatchPlan, no_duplicates_plan, plain_plan
from jaxembed.data.rows import Rows
from jaxembed.data.shards import (
    Shards as Shards,
    agreed as agreed,
    share_of as share_of,
    text_shapes as text_shapes,
)
from jaxembed.data.sources import open_dataset, wordnet_gloss_retrieval
from jaxembed.data.stream_rows import StreamRows, bind_stream
from jaxembed.data.streams import Stream, StreamPlan

__all__ = [
    "BatchPlan",
    "DataError",
    "DataFacts",
    "MixedPlan",
    "MixedRows",
    "Rows",
    "Stream",
    "StreamPlan",
    "StreamRows",
    "WeightedPlan",
    "WeightedRows",
    "WeightedSteps",
    "bind_columns",
    "bind_stream",
    "blocks_of",
    "cluster_plan",
    "contrastive_tension_plan",
    "count_tokens",
    "data_facts",
    "delete_words",
    "draw_negatives",
    "group_by_label_plan",
    "load_batches",
    "make_batch",
    "no_duplicates_plan",
    "open_dataset",
    "plain_plan",
    "read_beir",
    "read_beir_folder",
    "row_hashes",
    "split_by_length",
    "split_words",
    "temperature_weights",
    "text_hashes",
    "wordnet_gloss_retrieval",
]
