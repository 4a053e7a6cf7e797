"""Training of text-embedding models in JAX.

`jaxembed.losses` are pure functions of arrays and need nothing else of the package. `jaxembed.load`
gives an encoder, `jaxembed.fit` trains one. The packages `data`, `objectives`, `tasks`, `training`
and `evaluators` are what a training script is made of.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxembed.encoders import load as load
    from jaxembed.tasks import fit as fit


def __getattr__(name: str):  # so that losses alone import no encoder
    if name == "load":
        from jaxembed.encoders import load

        return load
    if name == "fit":
        from jaxembed.tasks import fit

        return fit
    raise AttributeError(f"module 'jaxembed' has no attribute {name!r}")
