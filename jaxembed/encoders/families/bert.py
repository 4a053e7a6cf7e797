"""BERT, RoBERTa and XLM-RoBERTa, ELECTRA and ALBERT: norms behind, learned positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families.architecture import Architecture, Family
from jaxembed.encoders.families.keys import ACTIVATION, COUNT, EPSILON, ID, LAYERS, RATE
from jaxembed.encoders.keys import Keys

EMBEDDINGS = {
    "embeddings/tokens": "embeddings.word_embeddings",
    "embeddings/positions": "embeddings.position_embeddings",
    "embeddings/token_types": "embeddings.token_type_embeddings",
    "embeddings/norm": "embeddings.LayerNorm",
}
LAYER = {
    "attention/query": "encoder.layer.{}.attention.self.query",
    "attention/key": "encoder.layer.{}.attention.self.key",
    "attention/value": "encoder.layer.{}.attention.self.value",
    "attention/out": "encoder.layer.{}.attention.output.dense",
    "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "mlp/up": "encoder.layer.{}.intermediate.dense",
    "mlp/down": "encoder.layer.{}.output.dense",
    "mlp_norm": "encoder.layer.{}.output.LayerNorm",
}

READS = {
    "hidden_size": COUNT,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": COUNT,
    "intermediate_size": COUNT,
    "max_position_embeddings": COUNT,
    "hidden_act?": ACTIVATION,
    "layer_norm_eps?": EPSILON,
    "hidden_dropout_prob?": RATE,
    "attention_probs_dropout_prob?": RATE,
}
TYPES = {"type_vocab_size?": COUNT}
ABSOLUTE = {"position_embedding_type": ("absolute", None)}
ENCODER = {"is_decoder": (False, None), "add_cross_attention": (False, None)}
# Of the first BERTs, whose pooler was to be configured.
POOLER = frozenset(
    f"pooler_{key}"
    for key in ("fc_size", "num_attention_heads", "num_fc_layers", "size_per_head", "type")
)


def bert(settings: Mapping[str, Any], **changes: Any) -> Architecture:
    """Reads the configuration of a BERT."""
    hidden_dropout = settings.get("hidden_dropout_prob", 0.1)
    numbers = {
        "vocab_size": settings["vocab_size"],
        "width": settings["hidden_size"],
        "n_layers": settings["num_hidden_layers"],
        "n_heads": settings["num_attention_heads"],
        "mlp_width": settings["intermediate_size"],
        "activation": settings.get("hidden_act", "gelu"),
        "n_positions": settings["max_position_embeddings"],
        "token_types": settings.get("type_vocab_size", 2),
        "norm_epsilon": settings.get("layer_norm_eps", 1e-12),
        "attention_dropout": settings.get("attention_probs_dropout_prob", 0.1),
        "hidden_dropout": hidden_dropout,
        "embedding_dropout": hidden_dropout,
        "initializer_range": settings.get("initializer_range", 0.02),
    }
    return Architecture(**{**numbers, **changes})


def roberta(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of a RoBERTa, whose positions start behind the id of padding."""
    offset = settings.get("pad_token_id", 1) + 1
    return bert(settings, position_offset=offset)


def electra(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of an ELECTRA."""
    return bert(settings, embedding_width=settings.get("embedding_size", 128))


def albert(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of an ALBERT, whose layers share their parameters in groups."""
    n, groups = settings["num_hidden_layers"], settings.get("num_hidden_groups", 1)
    inner = settings.get("inner_group_num", 1)
    if groups > n:
        raise EncoderError(f"num_hidden_groups {groups} are more than num_hidden_layers, {n}")
    return bert(
        settings,
        embedding_width=settings.get("embedding_size", 128),
        activation=settings.get("hidden_act", "gelu_new"),
        embedding_dropout=settings.get("hidden_dropout_prob", 0.0),
        hidden_dropout=settings.get("hidden_dropout_prob", 0.0),
        attention_dropout=settings.get("attention_probs_dropout_prob", 0.0),
        dropped=("attention",),
        n_layers=n * inner,
        uses=tuple(int(i / (n / groups)) * inner + j for i in range(n) for j in range(inner)),
        inner_layers=inner,
    )


IN_ALBERT = "encoder.albert_layer_groups.{}.albert_layers.{}."
BERT = Family(
    ("bert",),
    bert,
    EMBEDDINGS,
    LAYER,
    ("bert.",),
    keys=Keys(
        used=READS | TYPES,
        only=ABSOLUTE | ENCODER,
        harmless=POOLER | {"directionality"},
    ),
)
ROBERTA = Family(
    ("roberta", "xlm-roberta"),
    roberta,
    EMBEDDINGS,
    LAYER,
    ("roberta.",),
    keys=Keys(
        used=READS | TYPES | {"pad_token_id?": ID},
        only=ABSOLUTE | ENCODER,
    ),
)
ELECTRA = Family(
    ("electra",),
    electra,
    {**EMBEDDINGS, "embeddings/projection": "embeddings_project"},
    LAYER,
    ("electra.",),
    keys=Keys(
        used=READS | TYPES | {"embedding_size?": COUNT},
        only=ABSOLUTE | ENCODER,
    ),
)
ALBERT = Family(
    ("albert",),
    albert,
    {**EMBEDDINGS, "embeddings/projection": "encoder.embedding_hidden_mapping_in"},
    {
        "attention/query": IN_ALBERT + "attention.query",
        "attention/key": IN_ALBERT + "attention.key",
        "attention/value": IN_ALBERT + "attention.value",
        "attention/out": IN_ALBERT + "attention.dense",
        "attention_norm": IN_ALBERT + "attention.LayerNorm",
        "mlp/up": IN_ALBERT + "ffn",
        "mlp/down": IN_ALBERT + "ffn_output",
        "mlp_norm": IN_ALBERT + "full_layer_layer_norm",
    },
    ("albert.",),
    keys=Keys(
        used=READS
        | TYPES
        | {"embedding_size?": COUNT, "num_hidden_groups?": LAYERS, "inner_group_num?": LAYERS},
        only=ABSOLUTE,
        # Of the first ALBERTs, whose layers had memory.
        harmless=frozenset(
            {"down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"}
        )
        | {"layers_to_keep", "is_decoder", "add_cross_attention"},
    ),
)
