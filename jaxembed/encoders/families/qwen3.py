"""Qwen3: a causal decoder as an embedder, grouped heads, norms of queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxembed.encoders.families.architecture import Architecture, Family

LAYER = {
    "attention/query": "layers.{}.self_attn.q_proj",
    "attention/key": "layers.{}.self_attn.k_proj",
    "attention/value": "layers.{}.self_attn.v_proj",
    "attention/out": "layers.{}.self_attn.o_proj",
    "attention/query_norm": "layers.{}.self_attn.q_norm",
    "attention/key_norm": "layers.{}.self_attn.k_norm",
    "attention_norm": "layers.{}.input_layernorm",
    "mlp/gate": "layers.{}.mlp.gate_proj",
    "mlp/up": "layers.{}.mlp.up_proj",
    "mlp/down": "layers.{}.mlp.down_proj",
    "mlp_norm": "layers.{}.post_attention_layernorm",
}


def qwen3(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of a Qwen3, written by transformers 4 or 5."""
    n = settings["num_hidden_layers"]
    theta = (settings.get("rope_parameters") or {}).get("rope_theta") or settings.get(
        "rope_theta", 10_000.0
    )
    return Architecture(
        vocab_size=settings["vocab_size"],
        width=settings["hidden_size"],
        n_layers=n,
        n_heads=settings["num_attention_heads"],
        n_key_heads=settings.get("num_key_value_heads"),
        head_width=settings.get("head_dim"),
        mlp_width=settings["intermediate_size"],
        activation=settings.get("hidden_act", "silu"),
        positions="rotary",
        n_positions=settings["max_position_embeddings"],
        embedding_norm=False,
        attention_bias=settings.get("attention_bias", False),
        mlp_bias=False,
        query_key_norm=True,
        causal=settings.get("is_causal", True),
        rope_thetas=(float(theta),) * n,
        gated=True,
        norm="rms",
        norm_epsilon=settings.get("rms_norm_eps", 1e-6),
        pre_norm=True,
        attention_dropout=settings.get("attention_dropout", 0.0),
        initializer_range=settings.get("initializer_range", 0.02),
    )


QWEN3 = Family(
    ("qwen3",),
    qwen3,
    {"embeddings/tokens": "embed_tokens", "final_norm": "norm"},
    LAYER,
    ("model.",),
)
