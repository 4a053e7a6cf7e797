"""Takes training steps with Representax, for cached_step.py, which starts it.

Lines of JSON: its versions first; then it answers `{"load": "plain" or "cached", …}` with loss and
gradient norm of a first step and the memory of a second, and `{"measure": …}` with the seconds of
a step. Weights and optimizer of the two are apart. A step is what the library's own builder makes,
direct or with its gradient cache, with a donated state, as in its training loop. The loop's default
is to compute all layers again in the backward pass; that is off here, as it takes longer.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from answering import Step, serve, with_steps
from representax.models.bert import BertBatch
from representax.models.sentence import SentenceEncoder
from representax.tasks import build_task
from representax.tasks.retrieval import MNRConfig, RetrievalBatch, RetrievalConfig, retrieval_batch
from representax.train import GradCache, build_train_step, init_train_state


def load(request: dict[str, Any]) -> Step:
    """Builds a step; it returns the loss and the norm of its gradient before clipping."""
    model, _ = SentenceEncoder.load_from_hf(request["model"], rematerialization="none")
    trainable = model.training_filter()
    optimizer = optax.adamw(
        request["learning_rate"], weight_decay=request["weight_decay"], mask=decayed
    )
    chunk = request["chunk"]
    train_step = build_train_step(
        build_task(RetrievalConfig(), MNRConfig(scale=20.0)),
        optimizer,
        max_grad_norm=request["clip_norm"],
        execution=None if chunk is None else GradCache(chunk),
        donate_state=True,
        trainable_filter=trainable,
    )
    batch = jax.device_put(read_batch(request["tokens"]))
    key = jax.random.key(0) if request["dropout"] else None
    state = jax.device_put(init_train_state(model, optimizer, trainable_filter=trainable))
    del model

    def step() -> tuple[float, float]:
        nonlocal state
        result = jax.block_until_ready(train_step(state, batch, key))
        state = result.state
        return float(result.metrics.loss), float(result.metrics.gradient_global_norm)

    return step


def read_batch(file: str) -> RetrievalBatch:
    """Reads the tokens of both columns; row i of one belongs to row i of the other."""
    with np.load(file) as arrays:
        query, document = (
            BertBatch(**{
                entry: arrays[f"{column}/{entry}"].astype(np.int32)
                for entry in ("input_ids", "attention_mask")
            })
            for column in ("anchors", "positives")
        )  # fmt: skip
    mask = np.eye(len(query.input_ids), dtype=bool)
    return retrieval_batch(query=query, document=document, positive_mask=mask)


def decayed(parameters: Any) -> Any:
    """Says that matrices and embeddings decay, but neither biases nor norms."""

    def decays(path: Any, _: Any) -> bool:
        name = jax.tree_util.keystr(path)
        return not ("norm" in name or name.endswith("bias"))

    return jax.tree_util.tree_map_with_path(decays, parameters)


def main() -> None:
    packages = ("representax", "jax", "equinox", "optax")
    serve(with_steps(load), packages)


if __name__ == "__main__":
    main()
