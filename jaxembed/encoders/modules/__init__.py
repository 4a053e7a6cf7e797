"""The modules behind the transformer, as the folders of sentence-transformers chain them."""

from jaxembed.encoders.modules.activations import ACTIVATIONS as ACTIVATIONS
from jaxembed.encoders.modules.chain import MODULES as MODULES, Modules as Modules
from jaxembed.encoders.modules.dense import Dense as Dense
from jaxembed.encoders.modules.dropout import Dropout as Dropout
from jaxembed.encoders.modules.module import (
    ALL_LAYERS as ALL_LAYERS,
    SENTENCE as SENTENCE,
    TOKENS as TOKENS,
    Module as Module,
)
from jaxembed.encoders.modules.norms import LayerNorm as LayerNorm, Normalize as Normalize
from jaxembed.encoders.modules.pooling import Pooling as Pooling
from jaxembed.encoders.modules.weighted_layers import WeightedLayerPooling as WeightedLayerPooling
