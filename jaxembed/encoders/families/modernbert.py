"""ModernBERT: rotary positions, gated networks, layers that see a window or everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from jaxembed.encoders.families.rope import POSITIVE, ropes_by_kind
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At


def modernbert(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of a ModernBERT, written by transformers 4 or 5."""
    n = settings["num_hidden_layers"]
    every = settings.get("global_attn_every_n_layers", 3)
    kinds = settings.get("layer_types") or [
        "sliding_attention" if number % every else "full_attention" for number in range(n)
    ]
    theta = settings.get("global_rope_theta", 160_000.0)
    local = settings.get("local_rope_theta", 10_000.0)
    ropes = ropes_by_kind(
        settings,
        thetas={"full_attention": theta, "sliding_attention": theta if local is None else local},
        scaled=("full_attention", "sliding_attention"),
        head=settings["hidden_size"] // settings["num_attention_heads"],
    )
    window = settings.get("local_attention", 128) // 2
    return Architecture(
        vocab_size=settings["vocab_size"],
        width=settings["hidden_size"],
        n_layers=n,
        n_heads=settings["num_attention_heads"],
        mlp_width=settings["intermediate_size"],
        activation=settings.get("hidden_activation", "gelu"),
        positions="rotary",
        n_positions=settings["max_position_embeddings"],
        attention_bias=settings.get("attention_bias", False),
        mlp_bias=settings.get("mlp_bias", False),
        windows=tuple(ALL if kind == "full_attention" else window for kind in kinds),
        ropes=tuple(ropes[kind] for kind in kinds),
        gated=True,
        norm_epsilon=settings.get("norm_eps", 1e-5),
        norm_bias=settings.get("norm_bias", False),
        pre_norm=True,
        first_attention_norm=False,
        embedding_dropout=settings.get("embedding_dropout", 0.0),
        attention_dropout=settings.get("attention_dropout", 0.0),
        hidden_dropout=settings.get("mlp_dropout", 0.0),
        initializer_range=settings.get("initializer_range", 0.02),
    )


MODERNBERT = Family(
    ("modernbert",),
    modernbert,
    {
        "embeddings/tokens": "embeddings.tok_embeddings",
        "embeddings/norm": "embeddings.norm",
        "final_norm": "final_norm",
    },
    {
        "attention/query": ("layers.{}.attn.Wqkv", 0, 3),
        "attention/key": ("layers.{}.attn.Wqkv", 1, 3),
        "attention/value": ("layers.{}.attn.Wqkv", 2, 3),
        "attention/out": "layers.{}.attn.Wo",
        "attention_norm": "layers.{}.attn_norm",
        "mlp/gate": ("layers.{}.mlp.Wi", 0, 2),
        "mlp/up": ("layers.{}.mlp.Wi", 1, 2),
        "mlp/down": "layers.{}.mlp.Wo",
        "mlp_norm": "layers.{}.mlp_norm",
    },
    ("model.",),
    keys=Keys(
        used={
            "hidden_size": COUNT,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": COUNT,
            "intermediate_size": COUNT,
            "max_position_embeddings": COUNT,
            "hidden_activation?": ACTIVATION,
            "norm_eps?": EPSILON,
            **{f"{key}?": bool for key in ("norm_bias", "attention_bias", "mlp_bias")},
            **{f"{key}_dropout?": RATE for key in ("embedding", "attention", "mlp")},
            "local_attention?": At(int, least=2),
            "global_attn_every_n_layers?": COUNT,
            "layer_types?": LAYER_TYPES,
            "global_rope_theta?": POSITIVE,
            "local_rope_theta?": (POSITIVE, None),
            "rope_parameters?": ROPES,
            "rope_scaling?": ROPES,
        },
        harmless=frozenset(f"classifier_{key}" for key in ("activation", "bias", "pooling"))
        | {
            "decoder_bias",
            "deterministic_flash_attn",
            "initializer_cutoff_factor",
            "layer_norm_eps",
        }
        | {"position_embedding_type", "reference_compile", "repad_logits_with_grad"}
        | {"sparse_pred_ignore_index", "sparse_prediction", "is_decoder", "add_cross_attention"},
    ),
)
