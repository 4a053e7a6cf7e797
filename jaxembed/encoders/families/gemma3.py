"""Gemma 3, bidirectional as in EmbeddingGemma or causal: windows, and four norms in a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxembed.encoders.families.architecture import ALL, Architecture, Family
from jaxembed.encoders.families.keys import ACTIVATION, COUNT, LAYER_TYPES, ROPES
from jaxembed.encoders.families.qwen3 import LAYER, READS
from jaxembed.encoders.families.rope import POSITIVE, ropes_by_kind
from jaxembed.encoders.keys import Keys


def gemma3(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of a Gemma 3, written by transformers 4 or 5."""
    n = settings["num_hidden_layers"]
    every = settings.get("sliding_window_pattern", 6)
    kinds = settings.get("layer_types") or [
        "full_attention" if number % every == every - 1 else "sliding_attention"
        for number in range(n)
    ]
    head = settings.get("head_dim", 256)
    ropes = ropes_by_kind(
        settings,
        thetas={
            "full_attention": settings.get("rope_theta", 1_000_000.0),
            "sliding_attention": settings.get("rope_local_base_freq", 10_000.0),
        },
        scaled=("full_attention",),
        head=head,
    )
    both = settings.get("use_bidirectional_attention", False)
    window = settings.get("sliding_window", 4096)
    window = (window // 2 + 1 if both else window) - 1
    return Architecture(
        vocab_size=settings["vocab_size"],
        width=settings["hidden_size"],
        n_layers=n,
        n_heads=settings["num_attention_heads"],
        n_key_heads=settings.get("num_key_value_heads", 4),
        head_width=head,
        mlp_width=settings["intermediate_size"],
        activation=settings.get("hidden_activation", "gelu_pytorch_tanh"),
        positions="rotary",
        n_positions=settings["max_position_embeddings"],
        embedding_norm=False,
        embedding_scale=settings["hidden_size"] ** 0.5,
        attention_bias=settings.get("attention_bias", False),
        mlp_bias=False,
        query_key_norm=True,
        attention_scale=settings.get("query_pre_attn_scalar", 256) ** -0.5,
        causal=not both,
        windows=tuple(ALL if kind == "full_attention" else window for kind in kinds),
        ropes=tuple(ropes[kind] for kind in kinds),
        gated=True,
        norm="rms_plus_one",
        norm_epsilon=settings.get("rms_norm_eps", 1e-6),
        pre_norm=True,
        post_norms=True,
        attention_dropout=settings.get("attention_dropout", 0.0),
        initializer_range=settings.get("initializer_range", 0.02),
    )


GEMMA3 = Family(
    ("gemma3_text",),
    gemma3,
    {"embeddings/tokens": "embed_tokens", "final_norm": "norm"},
    {
        **LAYER,
        "after_attention_norm": "layers.{}.post_attention_layernorm",
        "mlp_norm": "layers.{}.pre_feedforward_layernorm",
        "after_mlp_norm": "layers.{}.post_feedforward_layernorm",
    },
    ("model.",),
    keys=Keys(
        used={
            **{
                key: form for key, form in READS.items() if key not in ("hidden_act?", "is_causal?")
            },
            "head_dim?": COUNT,
            "num_key_value_heads?": COUNT,
            "hidden_activation?": ACTIVATION,
            "query_pre_attn_scalar?": POSITIVE,
            "sliding_window?": COUNT,
            "sliding_window_pattern?": COUNT,
            "layer_types?": LAYER_TYPES,
            "use_bidirectional_attention?": (bool, None),
            "rope_local_base_freq?": POSITIVE,
            "rope_parameters?": ROPES,
        },
        only={"attn_logit_softcapping": (None,), "is_causal": (True, None)},
        harmless=frozenset({"final_logit_softcapping", "_sliding_window_pattern"})
        | {"is_decoder", "add_cross_attention"},
    ),
)
