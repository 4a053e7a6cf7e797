"""Functions of functions: each takes an encode or a loss function and returns the same kind."""

from jaxembed.transforms.by_length import by_length as by_length
