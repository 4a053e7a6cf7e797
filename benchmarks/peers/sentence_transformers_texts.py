"""Encodes and trains on texts with sentence-transformers, for text_speed.py, which starts it.

Lines of JSON: its versions first; then it answers `{"model": …}` with embeddings, the
sum of the losses of a first pass and the shapes of all token arrays, and `{"measure": "encode" or
"train"}` with the seconds of a call. A step tokenizes its batch as the library's collator does.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from answering import serve, with_calls
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch_precision import DEVICE, FACTS, compute_in, finish, prepare
from transformers.utils.logging import disable_progress_bar


def load(request: dict[str, Any], calls: dict[str, Any]) -> dict[str, Any]:
    """Builds the two calls and takes a first of each."""
    texts = json.loads(Path(request["texts"]).read_text())
    batch = request["batch"]
    model = SentenceTransformer(request["model"], device=DEVICE)
    compute_in(model, request["dtype"])
    loss = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=request["learning_rate"], fused=True)
    shapes: list[list[int]] = []
    tokenize = model.preprocess

    def spied(*arguments: Any, **options: Any) -> Any:
        features = tokenize(*arguments, **options)
        shapes.append([*features["input_ids"].shape])
        return features

    model.preprocess = spied

    def encode() -> Any:
        return model.encode(texts["corpus"], batch_size=batch, show_progress_bar=False)

    def train() -> float:
        loss.eval()  # no dropout, as on the other side
        total = 0.0
        for start in range(0, len(texts["pairs"][0]), batch):
            columns = [model.preprocess(column[start : start + batch]) for column in texts["pairs"]]
            columns = [
                {name: x.to(DEVICE) if torch.is_tensor(x) else x for name, x in column.items()}
                for column in columns
            ]
            value = loss(columns, None)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            total += value.item()
        finish()
        return total

    embeddings, of_encode = encode(), [*shapes]
    shapes.clear()
    value, of_train = train(), [*shapes]
    calls |= {"encode": encode, "train": train}
    return {
        "embeddings": embeddings.tolist(),
        "loss": value,
        "shapes": {"encode": of_encode, "train": of_train},
    }


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    disable_progress_bar()
    prepare()
    packages = ("torch", "sentence-transformers", "transformers")
    serve(with_calls(load), packages, threads=torch.get_num_threads(), **FACTS)


if __name__ == "__main__":
    main()
