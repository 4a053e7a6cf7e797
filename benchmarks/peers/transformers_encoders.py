"""Encodes and trains with transformers' PyTorch models, for encoder_speed.py, which starts it.

Lines of JSON: its versions first; then it answers `{"load": …}` with embeddings' checksum and the
loss of a first step, and `{"measure": "encode" or "train"}` with the seconds of a call.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import torch
from answering import serve
from timing import enough_repeats, seconds_per_call
from torch_precision import DEVICE, FACTS, compute_in, finish, prepare
from transformers import AutoModel


def load(request: dict[str, Any], calls: dict[str, Any]) -> dict[str, Any]:
    """Builds the two calls over the tokens of a file."""
    model = AutoModel.from_pretrained(request["model"], attn_implementation="sdpa").to(DEVICE)
    compute_in(model, request["dtype"])
    model.eval()  # no dropout, as on the other side
    tokens = [
        {
            name: torch.from_numpy(arrays[f"{column}/{name}"]).long().to(DEVICE)
            for name in ("input_ids", "attention_mask")
        }
        for arrays in [np.load(request["tokens"])]
        for column in ("anchors", "positives")
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def embed(columns: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = model(**columns)["last_hidden_state"]
        mask = columns["attention_mask"][..., None]
        return (hidden.float() * mask).sum(1) / mask.sum(1)

    def encode() -> torch.Tensor:
        with torch.inference_mode():
            out = embed(tokens[0])
        finish()
        return out

    def train() -> float:
        left, right = (torch.nn.functional.normalize(embed(columns)) for columns in tokens)
        target = torch.arange(len(left), device=DEVICE)
        loss = torch.nn.functional.cross_entropy(20 * left @ right.T, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        finish()
        return loss.item()

    embeddings = encode().float().cpu().numpy()
    loss = train()
    train()
    for name, call in (("encode", encode), ("train", train)):
        calls[name] = call, enough_repeats(call)
    return {"loss": loss, "embeddings": embeddings[:4].tolist()}


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    prepare()
    calls: dict[str, Any] = {}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "load" in request:
            return load(request, calls)
        return {"seconds": seconds_per_call(*calls[request["measure"]])}

    serve(answer, ("torch", "transformers"), threads=torch.get_num_threads(), **FACTS)


if __name__ == "__main__":
    main()
