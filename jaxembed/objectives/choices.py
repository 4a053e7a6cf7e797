"""The published names of settings and of functions, and what they stand for here.

A setting that is a function has a table of names. They are looked up without regard to case, `_`
and `-`, so that `COSINE_DISTANCE`, `cosine_distance` and `CosineDistance` are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxembed import similarity as s
from jaxembed.losses import elementwise
from jaxembed.losses.reduction import mean, total

# Published settings that have another name here.
ALIASES = {
    "similarity_fct": "similarity_fn",
    "distance_metric": "distance_fn",
    "distance_function": "distance_fn",
    "triplet_margin": "margin",
    "loss_fct": "loss_fn",
    "cos_score_transformation": "score_transform",
    "size_average": "reduce_fn",
    "loss": "inner_loss",
}

Choices = Mapping[str, Any]


def _named(names: Mapping[str, tuple[str, ...]], functions: Mapping[str, Any]) -> dict[str, Any]:
    return {alias: functions[name] for name, aliases in names.items() for alias in (name, *aliases)}


_SIMILARITIES = {
    "cosine": ("cos_sim", "pairwise_cos_sim"),
    "dot": ("dot_score", "pairwise_dot_score"),
    "euclidean": ("euclidean_sim", "pairwise_euclidean_sim"),
    "manhattan": ("manhattan_sim", "pairwise_manhattan_sim"),
}
_DISTANCES = {
    "cosine": ("cosine_distance",),
    "euclidean": ("euclidean_distance",),
    "manhattan": ("manhattan_distance",),
}

SIMILARITIES = _named(
    _SIMILARITIES,
    {"cosine": s.cosine, "dot": s.dot, "euclidean": s.euclidean, "manhattan": s.manhattan},
)
PAIRED_SIMILARITIES = _named(
    {**_SIMILARITIES, "angle": ("pairwise_angle_sim",)},
    {
        "cosine": s.paired_cosine,
        "dot": s.paired_dot,
        "euclidean": s.paired_euclidean,
        "manhattan": s.paired_manhattan,
        "angle": s.paired_angle,
    },
)
DISTANCES = _named(
    _DISTANCES,
    {
        "cosine": s.cosine_distance,
        "euclidean": s.euclidean_distance,
        "manhattan": s.manhattan_distance,
    },
)
TRIPLET_DISTANCES = _named(
    {**_DISTANCES, "dot_product": ("dot",)},
    {
        "cosine": s.paired_cosine_distance,
        "euclidean": s.paired_euclidean_distance,
        "manhattan": s.paired_manhattan_distance,
        "dot_product": s.paired_dot_distance,
    },
)
# As published, these two add 1e-6 to every coordinate of a difference.
SIAMESE_DISTANCES = _named(
    _DISTANCES,
    {
        "cosine": s.paired_cosine_distance,
        "euclidean": partial(s.paired_euclidean_distance, epsilon=1e-6),
        "manhattan": partial(s.paired_manhattan_distance, epsilon=1e-6),
    },
)
ERRORS = {
    **dict.fromkeys(("squared_error", "mse_loss"), elementwise.squared_error),
    **dict.fromkeys(("absolute_error", "l1_loss"), elementwise.absolute_error),
    **dict.fromkeys(("huber_error", "huber_loss"), elementwise.huber_error),
    **dict.fromkeys(("smooth_l1_error", "smooth_l1_loss"), elementwise.smooth_l1_error),
    **dict.fromkeys(
        ("binary_cross_entropy", "bce_with_logits_loss"), elementwise.binary_cross_entropy
    ),
}
TRANSFORMS: dict[str, Callable] = {
    "identity": elementwise.identity,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}
REDUCTIONS = {"mean": mean, "total": total, "sum": total, "true": mean, "false": total}


def function_of(value: Any, choices: Choices, setting: str) -> Any:
    """Returns what a name stands for; what is no name passes as it is.

    Raises:
        ValueError: an unknown name; it says which there are.

    >>> function_of("COSINE_DISTANCE", SIAMESE_DISTANCES, "distance_fn").__name__
    'paired_cosine_distance'
    """
    if not isinstance(value, str | bool):
        return value
    by_key = {_key(name): function for name, function in choices.items()}
    if _key(str(value)) not in by_key:
        raise ValueError(f"{setting} must be one of {', '.join(choices)}; got {value!r}")
    return by_key[_key(str(value))]


def name_of(value: Any, choices: Choices) -> Any:
    """Returns the first name of a function in a table, its own name if it is in none.

    >>> name_of(s.paired_cosine, PAIRED_SIMILARITIES)
    'cosine'
    """
    names = [name for name, function in choices.items() if function is value]
    return names[0] if names else getattr(value, "__name__", value)


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
