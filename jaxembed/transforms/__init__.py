"""What is put around losses and encoders to make them go further.

Most are functions of functions: each takes an encode or a loss function and returns the same kind.
"""

from jaxembed.transforms.adaptive_layer import adaptive_layer as adaptive_layer
from jaxembed.transforms.by_length import by_length as by_length
from jaxembed.transforms.cached import cached as cached
from jaxembed.transforms.matryoshka import matryoshka as matryoshka
from jaxembed.transforms.over_mesh import over_mesh as over_mesh
