"""Encodes and trains on texts with Representax, for text_speed.py, which starts it.

Lines of JSON: its versions first; then it answers `{"model": …}` with embeddings, the sum of the
losses of a first pass and the shapes of all token arrays, and `{"measure": "encode" or "train"}`
with the seconds of a call. Texts are padded to the longest that the model takes, as the library
does; `"lengths": […]` in the request, which is its setting, allows shorter arrays. A training pass
reads its batches from the library's loader, as its training loop does, which prepares them in
threads. The loop's default is to compute all layers again in the backward pass; that is off here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import optax
from answering import serve, with_calls
from representax.data import build_data_loader
from representax.integrations import load_sentence_transformer
from representax.models.processing import Processor
from representax.tasks import build_task
from representax.tasks.retrieval import MNRConfig, RetrievalCollator, RetrievalConfig
from representax.train import build_train_step, init_train_state


def load(request: dict[str, Any], calls: dict[str, Any]) -> dict[str, Any]:
    """Builds the two calls and takes a first of each."""
    texts = json.loads(Path(request["texts"]).read_text())
    batch = request["batch"]
    model = load_sentence_transformer(
        request["model"], sequence_length_buckets=request.get("lengths")
    )
    shapes: list[list[int]] = []
    model.processor = spied(model.processor, shapes)
    train_step, state = training(model.model, request["learning_rate"])
    pairs = zip(*texts["pairs"], strict=True)
    batches = build_data_loader(
        grain.MapDataset.source([{"query": query, "positive": text} for query, text in pairs]),
        batch_size=batch,
        batch_fn=RetrievalCollator(processor=model.processor),
        drop_remainder=False,
        prefetch_buffer_size=16,  # as its jobs have it
        data_contract={"kind": "pairs"},
    )

    def encode() -> Any:
        return model.embed(texts["corpus"], batch_size=batch)

    def train() -> float:
        nonlocal state
        losses = []
        for columns in batches:
            result = train_step(state, jax.device_put(columns), None)
            state = result.state
            losses.append(result.metrics.loss)
        return sum(map(float, losses))

    embeddings, of_encode = encode(), [*shapes]
    shapes.clear()
    value, of_train = train(), [*shapes]
    train()  # compiles once more: the state that a step returns is not what it began with
    calls |= {"encode": encode, "train": train}
    return {
        "embeddings": embeddings.tolist(),
        "loss": value,
        "shapes": {"encode": of_encode, "train": of_train},
    }


def spied(processor: Processor, shapes: list[list[int]]) -> Processor:
    """Keeps the shapes of the arrays that a processor makes."""

    def process(texts: Sequence[str], **options: Any) -> Any:
        tokens = processor.process(texts, **options)
        shapes.append([*tokens.input_ids.shape])
        return tokens

    return Processor(process, processor.contract)


def training(model: Any, learning_rate: float) -> tuple[Any, Any]:
    """Builds a step of the ranking loss, and the state that it gives away and returns anew."""
    model = jax.tree.map(lambda x: x.copy() if isinstance(x, jax.Array) else x, model)
    trainable = model.training_filter()
    optimizer = optax.adamw(learning_rate, weight_decay=0.01)
    step = build_train_step(
        build_task(RetrievalConfig(), MNRConfig(scale=20.0)),
        optimizer,
        max_grad_norm=1.0,
        donate_state=True,
        trainable_filter=trainable,
    )
    return step, jax.device_put(init_train_state(model, optimizer, trainable_filter=trainable))


def main() -> None:
    packages = ("representax", "jax", "equinox", "transformers")
    serve(with_calls(load), packages)


if __name__ == "__main__":
    main()
