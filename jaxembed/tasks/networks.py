"""The networks of a training: the encoder that learns, frozen ones, and a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxembed.encoders import Decoder, Encoder
from jaxembed.typing import Params


@dataclass(frozen=True)
class Networks:
    """The encoder that learns; guide and teacher, which do not; the decoder of denoising."""

    encoder: Encoder
    guide: Encoder | None = None
    teacher: Encoder | None = None
    decoder: Decoder | None = None

    @property
    def frozen(self) -> dict[str, Encoder]:
        """Those of guide and teacher that there are."""
        both = {"guide": self.guide, "teacher": self.teacher}
        return {name: network for name, network in both.items() if network is not None}

    @property
    def frozen_params(self) -> Params:
        """The parameters of guide and teacher, None if there are none."""
        return {name: network.params for name, network in self.frozen.items()} or None

    @property
    def functions(self) -> dict[str, Any]:
        """What `Objective.build` takes of them."""
        frozen = {name: network.apply for name, network in self.frozen.items()}
        return {**frozen, "decoder": self.decoder}
