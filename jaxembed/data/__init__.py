"""From texts in files to batches of arrays: sources, columns, batch plans, batches and loading."""

from jaxembed.data.batches import make_batch
from jaxembed.data.columns import bind_columns
from jaxembed.data.errors import DataError
from jaxembed.data.hashing import row_hashes, split_words, text_hashes
from jaxembed.data.lengths import count_tokens, split_by_length
from jaxembed.data.loader import load_batches
from jaxembed.data.plans import BatchPlan, no_duplicates_plan, plain_plan
from jaxembed.data.rows import Rows
from jaxembed.data.sources import open_dataset, wordnet_gloss_retrieval

__all__ = [
    "BatchPlan",
    "DataError",
    "Rows",
    "bind_columns",
    "count_tokens",
    "load_batches",
    "make_batch",
    "no_duplicates_plan",
    "open_dataset",
    "plain_plan",
    "row_hashes",
    "split_by_length",
    "split_words",
    "text_hashes",
    "wordnet_gloss_retrieval",
]
