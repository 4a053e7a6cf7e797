"""Takes training steps with sentence-transformers, for cached_step.py, which starts it.

Lines of JSON: its versions first; then it answers `{"load": "plain" or "cached", …}` with loss and
gradient norm of a first step and the memory of a second, and `{"measure": …}` with the seconds of
a step. Weights and optimizer of the two are apart. A step is forward, backward, clipping and AdamW,
as the library's trainer takes it.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import torch
from answering import Step, serve, with_steps
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from torch_precision import DEVICE, FACTS, compute_in, finish, memory_growth, prepare
from transformers.utils.logging import disable_progress_bar


def load(request: dict[str, Any]) -> Step:
    """Builds a step; it returns the loss and the norm of its gradient before clipping."""
    model = SentenceTransformer(request["model"], device=DEVICE)
    compute_in(model, request["dtype"])
    if request["chunk"] is None:
        loss = MultipleNegativesRankingLoss(model)
    else:
        loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=request["chunk"])
    loss.train(request["dropout"])
    columns: dict[str, dict[str, torch.Tensor]] = {}
    for name, array in np.load(request["tokens"]).items():
        column, entry = name.split("/")
        columns.setdefault(column, {})[entry] = torch.from_numpy(array).long().to(DEVICE)
    parameters = [*model.parameters()]
    groups = [
        {"params": [x for x in parameters if x.ndim > 1], "weight_decay": request["weight_decay"]},
        {"params": [x for x in parameters if x.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=request["learning_rate"], fused=True)

    def step() -> tuple[float, float]:
        features = [dict(columns[name]) for name in ("anchors", "positives")]
        value = loss(features, None)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, request["clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        finish()
        return value.item(), norm.item()

    return step


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    disable_progress_bar()
    prepare()
    packages = ("torch", "sentence-transformers", "transformers", "numpy")
    serve(with_steps(load, memory_growth), packages, threads=torch.get_num_threads(), **FACTS)


if __name__ == "__main__":
    main()
