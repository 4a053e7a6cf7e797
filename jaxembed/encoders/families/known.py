"""The families that are known, by the model type of config.json."""

from jaxembed.encoders.families.architecture import Family
from jaxembed.encoders.families.bert import ALBERT, BERT, ELECTRA, ROBERTA
from jaxembed.encoders.families.distilbert import DISTILBERT
from jaxembed.encoders.families.gemma3 import GEMMA3
from jaxembed.encoders.families.modernbert import MODERNBERT
from jaxembed.encoders.families.mpnet import MPNET
from jaxembed.encoders.families.qwen3 import QWEN3

FAMILIES: dict[str, Family] = {
    model_type: family
    for family in (BERT, ROBERTA, ELECTRA, ALBERT, DISTILBERT, MPNET, MODERNBERT, QWEN3, GEMMA3)
    for model_type in family.model_types
}
