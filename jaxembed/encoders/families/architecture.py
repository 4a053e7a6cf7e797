"""What differs between families of text transformers, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxembed.encoders.families.rope import Rope
from jaxembed.encoders.keys import Keys

ALL = None  # the window of a layer that sees all positions


@dataclass(frozen=True)
class Architecture:
    """The numbers and choices of one transformer.

    `windows` and `ropes` have one entry per layer: how far to either side a layer sees (`ALL` for
    no limit), and its rotary angles.
    """

    vocab_size: int
    width: int
    n_layers: int
    n_heads: int
    mlp_width: int
    activation: str = "gelu"
    # Embeddings
    embedding_width: int | None = None  # projected to the width, if it differs
    positions: str = "learned"  # or "rotary"
    n_positions: int = 512
    position_offset: int | None = None  # positions count real tokens from behind it
    token_types: int = 0
    embedding_norm: bool = True
    embedding_scale: float = 1.0
    # Attention
    head_width: int | None = None  # width / n_heads
    n_key_heads: int | None = None  # n_heads
    attention_bias: bool = True
    query_key_norm: bool = False
    attention_scale: float | None = None  # head_width ** -0.5
    causal: bool = False
    windows: tuple[int | None, ...] = ()
    ropes: tuple[Rope, ...] = ()
    relative_buckets: int = 0
    # Feed-forward network
    gated: bool = False
    mlp_bias: bool = True
    # Norms
    norm: str = "layer"  # or "rms", or "rms_plus_one" with scales around 0
    norm_epsilon: float = 1e-12
    norm_bias: bool = True
    pre_norm: bool = False  # the norms stand before attention and network, and one behind all
    post_norms: bool = False  # with pre_norm, further ones behind both, before they are added
    first_attention_norm: bool = True
    # Other
    uses: tuple[int, ...] = ()  # the number of the parameters of each layer, if layers share some
    inner_layers: int = 1  # parameters are named by group and number in the group, of so many
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    dropped: tuple[str, ...] = ("attention", "mlp")  # behind which there is hidden dropout
    initializer_range: float = 0.02

    @property
    def head(self) -> int:
        """The width of a head."""
        return self.head_width or self.width // self.n_heads

    @property
    def key_heads(self) -> int:
        """The number of heads of keys and values."""
        return self.n_key_heads or self.n_heads

    @property
    def n_parameter_layers(self) -> int:
        """The number of layers that have parameters of their own."""
        return max(self.uses) + 1 if self.uses else self.n_layers

    def with_layers(self, n: int) -> Architecture:
        """Returns the architecture of the first layers."""
        first = {name: getattr(self, name)[:n] for name in ("windows", "ropes", "uses")}
        return replace(self, n_layers=n, **first)


@dataclass(frozen=True)
class Family:
    """A family: model types, from config.json to an architecture, and the names of its tensors.

    `outside` and `layer` map the paths of our modules to published ones (without the last part,
    "weight" or "bias"); `{}` is the number of the layer. A name may be `(published, part, parts)`,
    a part of a tensor that joins several. `prefixes` may stand before the names in a checkpoint.
    `keys` are those of config.json besides the ones that all families have (see keys.py).
    """

    model_types: tuple[str, ...]
    architecture: Callable[[Mapping[str, Any]], Architecture]
    outside: Mapping[str, Any]
    layer: Mapping[str, Any]
    prefixes: tuple[str, ...] = ()
    keys: Keys = field(default_factory=lambda: Keys({}))
