"""Qwen3: a causal decoder as an embedder, grouped heads, norms of queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families.architecture import ALL, Architecture, Family
from jaxembed.encoders.families.keys import (
    ACTIVATION,
    COUNT,
    EPSILON,
    LAYER_TYPES,
    LAYERS,
    RATE,
    ROPES,
)
from jaxembed.encoders.families.rope import POSITIVE, read_rope
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At

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

READS = {
    "hidden_size": COUNT,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": COUNT,
    "num_key_value_heads?": (COUNT, None),
    "head_dim?": (COUNT, None),
    "intermediate_size": COUNT,
    "max_position_embeddings": COUNT,
    "hidden_act?": ACTIVATION,
    "rms_norm_eps?": EPSILON,
    "attention_bias?": bool,
    "attention_dropout?": RATE,
    "is_causal?": bool,
    "rope_theta?": POSITIVE,
    "rope_parameters?": ROPES,
    "rope_scaling?": ROPES,
}


def qwen3(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of a Qwen3, written by transformers 4 or 5."""
    n = settings["num_hidden_layers"]
    heads = settings["num_attention_heads"]
    head = settings.get("head_dim", 128) or settings["hidden_size"] // heads
    key = "rope_scaling" if settings.get("rope_scaling") else "rope_parameters"
    numbers = {"rope_theta": settings.get("rope_theta", 10_000.0), **(settings.get(key) or {})}
    rope = read_rope(
        numbers,
        head=head,
        n_positions=settings["max_position_embeddings"],
        place=key,
        original=settings.get("original_max_position_embeddings"),
    )
    causal = settings.get("is_causal", True)
    windows = _windows(settings)
    if not causal and any(window is not ALL for window in windows):
        raise EncoderError("is_causal false does not go with layers that see a window")
    return Architecture(
        vocab_size=settings["vocab_size"],
        width=settings["hidden_size"],
        n_layers=n,
        n_heads=heads,
        n_key_heads=settings.get("num_key_value_heads", 32),
        head_width=head,
        mlp_width=settings["intermediate_size"],
        activation=settings.get("hidden_act", "silu"),
        positions="rotary",
        n_positions=settings["max_position_embeddings"],
        embedding_norm=False,
        attention_bias=settings.get("attention_bias", False),
        mlp_bias=False,
        query_key_norm=True,
        causal=causal,
        windows=windows,
        ropes=(rope,) * n,
        gated=True,
        norm="rms",
        norm_epsilon=settings.get("rms_norm_eps", 1e-6),
        pre_norm=True,
        attention_dropout=settings.get("attention_dropout", 0.0),
        initializer_range=settings.get("initializer_range", 0.02),
    )


def _windows(settings: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Returns how far back each layer sees."""
    n = settings["num_hidden_layers"]
    on = settings.get("use_sliding_window", False)
    window = settings.get("sliding_window", 4096) if on else None
    first = settings.get("max_window_layers", 28)
    kinds = settings.get("layer_types") or [
        "full_attention" if window is None or number < first else "sliding_attention"
        for number in range(n)
    ]
    if window is None:
        if "sliding_attention" not in kinds:
            return (ALL,) * len(kinds)
        raise EncoderError(
            "layer_types names layers of sliding_attention, but use_sliding_window is false or"
            " sliding_window null"
        )
    return tuple(ALL if kind == "full_attention" else window - 1 for kind in kinds)


QWEN3 = Family(
    ("qwen3",),
    qwen3,
    {"embeddings/tokens": "embed_tokens", "final_norm": "norm"},
    LAYER,
    ("model.",),
    keys=Keys(
        used={
            **READS,
            "use_sliding_window?": bool,
            "sliding_window?": (COUNT, None),
            "max_window_layers?": At(int, least=0),
            "layer_types?": LAYER_TYPES,
            "original_max_position_embeddings?": COUNT,
        },
        harmless=frozenset({"is_decoder", "add_cross_attention"}),
    ),
)
