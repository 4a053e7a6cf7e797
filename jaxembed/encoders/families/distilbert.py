"""DistilBERT: BERT without token types, with names of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxembed.encoders.families.architecture import Architecture, Family
from jaxembed.encoders.families.keys import ACTIVATION, COUNT, LAYERS, RATE
from jaxembed.encoders.keys import Keys


def distilbert(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of a DistilBERT."""
    dropout = settings.get("dropout", 0.1)
    return Architecture(
        vocab_size=settings["vocab_size"],
        width=settings["dim"],
        n_layers=settings["n_layers"],
        n_heads=settings["n_heads"],
        mlp_width=settings["hidden_dim"],
        activation=settings.get("activation", "gelu"),
        n_positions=settings.get("max_position_embeddings", 512),
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        dropped=("mlp",),
        attention_dropout=settings.get("attention_dropout", 0.1),
        initializer_range=settings.get("initializer_range", 0.02),
    )


DISTILBERT = Family(
    ("distilbert",),
    distilbert,
    {
        "embeddings/tokens": "embeddings.word_embeddings",
        "embeddings/positions": "embeddings.position_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
    },
    {
        "attention/query": "transformer.layer.{}.attention.q_lin",
        "attention/key": "transformer.layer.{}.attention.k_lin",
        "attention/value": "transformer.layer.{}.attention.v_lin",
        "attention/out": "transformer.layer.{}.attention.out_lin",
        "attention_norm": "transformer.layer.{}.sa_layer_norm",
        "mlp/up": "transformer.layer.{}.ffn.lin1",
        "mlp/down": "transformer.layer.{}.ffn.lin2",
        "mlp_norm": "transformer.layer.{}.output_layer_norm",
    },
    ("distilbert.",),
    keys=Keys(
        used={
            "dim": COUNT,
            "n_layers": LAYERS,
            "n_heads": COUNT,
            "hidden_dim": COUNT,
            "max_position_embeddings?": COUNT,
            "activation?": ACTIVATION,
            "dropout?": RATE,
            "attention_dropout?": RATE,
        },
        # Sinusoidal positions lie in the checkpoint, as others do.
        harmless=frozenset({"sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout"})
        | {"is_decoder", "add_cross_attention"},
    ),
)
