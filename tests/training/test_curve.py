"""Training goes the way of the PyTorch library: same start, same batches, same losses."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxembed
from jaxembed.data import (
    bind_columns,
    make_batch,
    open_dataset,
    split_by_length,
)
from jaxembed.objectives import REGISTRY
from jaxembed.training import adamw, build_train_step, create_state, make_mesh, warmup_schedule
from jaxembed.transforms import by_length

CURVE = Path(__file__).parents[1] / "goldens/training/minilm_curve.json"
BUCKETS = (32, 64)


@pytest.mark.exhaustive
def test_thirty_steps_have_the_losses_of_sentence_transformers():
    golden = json.loads(CURVE.read_text())["curve"]
    encoder = jaxembed.load("all-MiniLM-L6-v2", max_seq_length=64, dropout=False)
    entry = REGISTRY["multiple_negatives_ranking"]
    rows = bind_columns(open_dataset("wordnet-gloss"), entry.roles, ("query", "positive"))
    tokenizer = encoder.tokenizer.with_buckets(BUCKETS)

    def tokenize(texts, role):
        return split_by_length(tokenizer(texts), buckets=BUCKETS)

    schedule = warmup_schedule(5e-5, steps=30, warmup_steps=5)
    optimizer = adamw(schedule, weight_decay=0.01, clip_norm=1.0)
    mesh = make_mesh(jax.devices()[:1])
    state = create_state({"encoder": encoder.params}, optimizer, mesh)
    step = build_train_step(entry.build(by_length(encoder.apply)), optimizer, schedule, mesh)
    losses, norms = [], []
    for index in range(30):
        batch = make_batch(rows, entry.roles, np.arange(32 * index, 32 * index + 32), tokenize)
        del batch["ids"], batch["anchor_ids"]  # the library knows no false negatives
        state, metrics = step(state, batch, None)
        losses.append(float(metrics["loss"]))
        norms.append(float(metrics["grad_norm"]))
    np.testing.assert_allclose(losses, [point["loss"] for point in golden], rtol=1e-3)
    np.testing.assert_allclose(norms, [point["grad_norm"] for point in golden], rtol=5e-3)
