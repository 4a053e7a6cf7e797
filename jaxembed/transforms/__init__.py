"""What is put around losses and encoders to make them go further.

Most are functions of functions: each takes an encode or a loss function and returns the same kind.
"""

from jaxembed.transforms.adaptive_layer import adaptive_layer as adaptive_layer
from jaxembed.transforms.averaging import (
    ema as ema,
    ema_decay as ema_decay,
    init_ema as init_ema,
    slerp as slerp,
    soup as soup,
)
from jaxembed.transforms.by_device import by_device as by_device
from jaxembed.transforms.by_length import by_length as by_length
from jaxembed.transforms.cached import cached as cached
from jaxembed.transforms.matryoshka import matryoshka as matryoshka
from jaxembed.transforms.memory import (
    Memory as Memory,
    as_negatives as as_negatives,
    init_memory as init_memory,
    push as push,
)
from jaxembed.transforms.over_mesh import over_mesh as over_mesh
from jaxembed.transforms.quantized import (
    binary_levels as binary_levels,
    int8_levels as int8_levels,
    quantized as quantized,
    ranges_of as ranges_of,
)
