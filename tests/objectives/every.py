"""What each objective is trained on here: flags of the command line and columns of a tiny data set.

The rows are texts of the embedded set with a label, a score and what a teacher might have said.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxembed.data import open_dataset

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
N_ROWS = 16
WIDTH = 32  # of the student's embeddings; guide and teacher, the tiny folder as it is, have 24
GUIDE = ("--guide", str(TINY))
TEACHER = ("--teacher-model", str(TINY))

FLAGS = {
    "cosine_similarity": ("--columns", "query", "positive", "score"),
    "multiple_negatives_ranking": ("--columns", "query", "positive", "negatives=negative"),
    "multiple_negatives_symmetric_ranking": ("--columns", "query", "positive"),
    "triplet": ("--distance-metric", "COSINE", "--triplet-margin", "0.5"),
    "matryoshka": ("--matryoshka-dims", "32", "16", "8", "--matryoshka-weights", "1", "1", "0.5"),
    "matryoshka_2d": ("--inner-loss", "cosent", "--matryoshka-dims", "32", "16",
                      "--columns", "query", "positive", "score"),
    "mse": ("--columns", "query", "teacher=vector"),
    "margin_mse": TEACHER,
    "contrastive": ("--columns", "query", "positive", "same", "--distance-metric", "EUCLIDEAN"),
    "softmax": ("--columns", "query", "positive", "label", "--num-labels", "4",
                "--concatenation-sent-multiplication", "True"),
    "batch_hard_triplet": ("--columns", "query", "label", "--distance-function", "cosine_distance",
                           "--margin", "0.2"),
    "batch_semi_hard_triplet": ("--columns", "query", "label"),
    "batch_hard_soft_margin_triplet": ("--columns", "query", "label"),
    "batch_all_triplet": ("--columns", "query", "label"),
    "online_contrastive": ("--columns", "query", "positive", "same", "--size-average", "True"),
    "contrastive_tension": ("--columns", "query", "--pos-neg-ratio", "4"),
    "contrastive_tension_in_batch_negatives": ("--columns", "query"),
    "angle": ("--columns", "query", "positive", "scores=score", "--angle-w", "1", "--angle-tau",
              "1", "--cosine-w", "1", "--cosine-tau", "1", "--ibn-w", "1",
              "--pooling-strategy", "cls"),
    "cosent": ("--columns", "query", "positive", "score", "--similarity-fct", "cos_sim"),
    "gist_embed": (*GUIDE, "--hard-negatives"),
    "cached_gist_embed": (*GUIDE, "--mini-batch-size", "4"),
    "denoising_auto_encoder": ("--columns", "positive"),
    "mega_batch_margin": (),
    "distill_kl_div": TEACHER,
    "adaptive_layer": ("--n-layers-per-step", "1"),
    "cached_multiple_negatives_ranking": ("--mini-batch-size", "3"),
    "cached_multiple_negatives_symmetric_ranking": (),
    "embed_distill": (*TEACHER, "--columns", "query", "positive", "--projection-dim", "24"),
    "global_orthogonal_regularization": ("--columns", "query", "positive"),
    "sigmoid": (),
}  # fmt: skip


def write_data(file):
    """Writes the rows as JSON lines."""
    generator = np.random.default_rng(0)
    rows: Any = (
        open_dataset("wordnet-gloss").filter(lambda row: row["negative"]).select(range(N_ROWS))
    )
    lines = []
    for number, row in enumerate(rows):
        vector = generator.normal(size=WIDTH).round(3).tolist()
        lines.append({
            **{name: row[name] for name in ("query", "positive", "negative")},
            "label": number % 4,
            "same": number % 2,
            "score": round(number / N_ROWS, 2),
            "margin": round(vector[0], 2),
            "scores_of_two": vector[:2],
            "vector": vector,
        })  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def write_student(folder):
    """Writes the tiny encoder without the modules behind it: a transformer and mean pooling."""
    folder.mkdir()
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / file, folder)
    return folder
