"""The models that are measured beside the embedded one: their shapes, with drawn weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import jaxembed
from jaxembed.encoders.finding import find

TOKENIZED_BY = "all-MiniLM-L6-v2"
BERT = {
    **{"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512},
    **{"type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0},
}
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {
        **{**BERT, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
        "intermediate_size": 64,
    },
    "minilm": {**BERT, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
               "intermediate_size": 1536},
    "bert-base": {**BERT, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                  "intermediate_size": 3072},
    "modernbert-base": {
        **{"model_type": "modernbert", "vocab_size": 50368, "hidden_size": 768},
        **{"num_hidden_layers": 22, "num_attention_heads": 12, "intermediate_size": 1152},
        **{"max_position_embeddings": 8192, "global_attn_every_n_layers": 3},
        **{"local_attention": 128, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0},
        **{"norm_eps": 1e-5, "hidden_activation": "gelu", "pad_token_id": 0},
        **{"attention_dropout": 0.0, "layer_types": None, "cls_token_id": 1, "sep_token_id": 2},
    },
}  # fmt: skip


def write_shape(name: str, folder: Path) -> Path:
    """Writes the configuration of a model and a tokenizer; parameters are to be drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(find(TOKENIZED_BY) / file, folder)
    (folder / "config.json").write_text(json.dumps(MODELS[name]))
    return folder


def open_model(name: str, folder: Path) -> Path:
    """Returns the folder of a model: one of `MODELS` is drawn and saved below `folder`."""
    if name not in MODELS:
        return find(name).resolve()
    drawn = jaxembed.load(write_shape(name, folder / f"{name}-shape"), initialize=0)
    drawn.save(folder / name)
    weights, d = folder / name / "model.safetensors", MODELS[name]["hidden_size"]
    unused = {"weight": np.zeros((d, d), np.float32), "bias": np.zeros(d, np.float32)}
    pooler = {f"pooler.dense.{part}": array for part, array in unused.items()}
    save_file({**load_file(weights), **pooler}, weights)  # Representax does not load without it
    return folder / name


def forward_flops(settings: dict[str, Any], n: int, t: int) -> float:
    """Counts the operations of the products of matrices of one pass over `[n t]` places."""
    d, mlp, layers = (settings[key] for key in
                      ("hidden_size", "intermediate_size", "num_hidden_layers"))  # fmt: skip
    products = 3 if settings["model_type"] == "modernbert" else 2
    return layers * (2 * n * t * (4 * d * d + products * d * mlp) + 4 * n * t * t * d)
