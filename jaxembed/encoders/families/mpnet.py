"""MPNet: RoBERTa without token types, with relative positions that all layers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxembed.encoders.families.architecture import Architecture, Family
from jaxembed.encoders.families.bert import READS, bert
from jaxembed.encoders.families.keys import ID
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At


def mpnet(settings: Mapping[str, Any]) -> Architecture:
    """Reads the configuration of an MPNet."""
    return bert(
        settings,
        token_types=0,
        position_offset=settings.get("pad_token_id", 1) + 1,
        relative_buckets=settings.get("relative_attention_num_buckets", 32),
    )


MPNET = Family(
    ("mpnet",),
    mpnet,
    {
        "embeddings/tokens": "embeddings.word_embeddings",
        "embeddings/positions": "embeddings.position_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
        "relative": "encoder.relative_attention_bias",
    },
    {
        "attention/query": "encoder.layer.{}.attention.attn.q",
        "attention/key": "encoder.layer.{}.attention.attn.k",
        "attention/value": "encoder.layer.{}.attention.attn.v",
        "attention/out": "encoder.layer.{}.attention.attn.o",
        "attention_norm": "encoder.layer.{}.attention.LayerNorm",
        "mlp/up": "encoder.layer.{}.intermediate.dense",
        "mlp/down": "encoder.layer.{}.output.dense",
        "mlp_norm": "encoder.layer.{}.output.LayerNorm",
    },
    ("mpnet.",),
    keys=Keys(
        used=READS
        | {"pad_token_id?": ID, "relative_attention_num_buckets?": At(int, least=4, most=2**16)},
        harmless=frozenset({"is_decoder", "add_cross_attention", "type_vocab_size"}),
    ),
)
