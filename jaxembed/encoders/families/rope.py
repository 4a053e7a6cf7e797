"""Rotary positions: the frequencies of every kind of scaling, as transformers computes them.

`rope_parameters` or `rope_scaling` of config.json say the kind (`rope_type`) and its numbers.

Sources: Su et al., RoFormer, 2021; Chen et al., Extending Context Window by Positional
Interpolation, 2023 (linear); Peng et al., YaRN, 2023; Ding et al., LongRoPE, 2024; Grattafiori et
al., The Llama 3 Herd of Models, 2024 (llama3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxembed.encoders.errors import EncoderError
from jaxembed.forms import At, Choice, Form, FormError, check_form

POSITIVE = At(float, above=0)
LENGTH = At(int, least=1)
WIDEST = 2**16  # features of a head
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Rope:
    """The angles of one layer: position times frequency, for each of half of a head's features.

    Texts of more than `longest` tokens have the frequencies `long`.
    """

    frequencies: tuple[float, ...]
    factor: float = 1.0  # by which cosine and sine are multiplied
    long: tuple[float, ...] | None = None
    longest: int = 0


def read_rope(
    numbers: Numbers, *, head: int, n_positions: int, place: str, original: int | None = None
) -> Rope:
    """Reads the parameters of a layer's angles, `rope_theta` among them.

    Args:
        head: the width of a head.
        n_positions: the number of tokens that a text may have.
        place: where they stand, for messages.
        original: `original_max_position_embeddings`, if it stands outside of the parameters.

    Raises:
        EncoderError: an unknown kind or key, or numbers that are missing or out of range.
    """
    if not 0 < head <= WIDEST:
        raise EncoderError(f"a head must have 1 to {WIDEST} features; got {head}")
    kind = numbers.get("rope_type") or numbers.get("type") or "default"
    if kind not in KINDS:
        raise EncoderError(f"{place}: rope_type must be one of {', '.join(KINDS)}; got {kind!r}")
    compute, form = KINDS[kind]
    form = {"rope_theta": POSITIVE, "partial_rotary_factor?": (Choice(1, 1.0), None), **form}
    known = {key.removesuffix("?") for key in form} | {"rope_type", "type"}
    if unknown := sorted(numbers.keys() - known):
        raise EncoderError(
            f"{place}: the key {unknown[0]!r} is unknown for the rope_type {kind!r};"
            " remove it if it changes no embedding"
        )
    if numbers.get("type", kind) != kind:
        raise EncoderError(f"{place}: rope_type says {kind!r}, type {numbers['type']!r}; keep one")
    if kind in FROM_ORIGINAL:
        numbers = {"original_max_position_embeddings": n_positions, **numbers}
        numbers |= {} if original is None else {"original_max_position_embeddings": original}
    try:
        check_form(numbers, form, place)
    except FormError as error:
        raise EncoderError(str(error)) from None
    for name in ("short_factor", "long_factor"):
        if len(numbers.get(name, ())) not in (0, head // 2):
            raise EncoderError(f"{place}: {name} must hold {head // 2} numbers, one per frequency")
    return compute(numbers, head, n_positions)


def ropes_by_kind(
    settings: Numbers, *, thetas: Mapping[str, float], scaled: tuple[str, ...], head: int
) -> dict[str, Rope]:
    """Reads the angles of each kind of layer.

    Args:
        settings: config.json, whose `rope_parameters` may have an entry per kind.
        thetas: `rope_theta` of each kind, where there is none.
        scaled: the kinds that `rope_scaling`, if there is one, is for.
        head: the width of a head.

    Raises:
        EncoderError: what `read_rope` refuses, parameters of other kinds, or a yarn whose
            `truncate` is false, which transformers reads past here.
    """
    given, scaling = settings.get("rope_parameters") or {}, settings.get("rope_scaling") or {}
    if others := sorted(given.keys() - thetas.keys()):
        raise EncoderError(f"rope_parameters must hold {' and '.join(thetas)}; got {others[0]!r}")
    ropes = {}
    for kind, theta in thetas.items():
        place = f"rope_parameters.{kind}"
        own = given.get(kind) or {}
        if not isinstance(own, Mapping):
            raise EncoderError(f"{place} must be an object; got {own!r}")
        numbers = {"rope_theta": theta, **own, **(scaling if kind in scaled else {})}
        if numbers.get("truncate") is False or ("type" in numbers and "rope_type" not in numbers):
            key, remedy = ("type", "write rope_type") if "type" in numbers else (
                "truncate", "only true is supported for layers of several kinds")  # fmt: skip
            raise EncoderError(f"{place}: {key} is read by some versions only; {remedy}")
        ropes[kind] = read_rope(
            numbers, head=head, n_positions=settings["max_position_embeddings"], place=place
        )
    return ropes


def _inverse(theta: float, head: int) -> np.ndarray:
    exponents = np.arange(0, head, 2, dtype=np.float32) / np.float32(head)
    return np.float32(1) / np.float32(theta) ** exponents


def _tuple(frequencies: np.ndarray) -> tuple[float, ...]:
    return tuple(np.asarray(frequencies, np.float32).tolist())


def _default(numbers: Numbers, head: int, n_positions: int) -> Rope:
    """Also of "dynamic", which changes the frequencies of texts beyond the model's length only."""
    return Rope(_tuple(_inverse(numbers["rope_theta"], head)))


def _linear(numbers: Numbers, head: int, n_positions: int) -> Rope:
    return Rope(_tuple(_inverse(numbers["rope_theta"], head) / np.float32(numbers["factor"])))


def _proportional(numbers: Numbers, head: int, n_positions: int) -> Rope:
    """Turns a share of the pairs of features only."""
    share = numbers.get("partial_rotary_factor")
    turned = int((1.0 if share is None else share) * head // 2)
    frequencies = _inverse(numbers["rope_theta"], head) / np.float32(numbers.get("factor") or 1)
    return Rope(_tuple(np.where(np.arange(head // 2) < turned, frequencies, 0)))


def _yarn(numbers: Numbers, head: int, n_positions: int) -> Rope:
    """Interpolates slow frequencies, keeps fast ones, and mixes those between."""
    theta, original = numbers["rope_theta"], numbers["original_max_position_embeddings"]
    factor = n_positions / original if numbers["factor"] is None else numbers["factor"]

    def growth(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    attention = numbers.get("attention_factor")
    if attention is None:
        over, under = numbers.get("mscale"), numbers.get("mscale_all_dim")
        attention = growth(over) / growth(under) if over and under else growth(1)

    def place_of(rotations: float) -> float:
        return head * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = place_of(numbers.get("beta_fast") or 32)
    high = place_of(numbers.get("beta_slow") or 1)
    if numbers.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head - 1)
    high += 0.001 if low == high else 0.0
    ramp = (np.arange(head // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    kept = 1 - np.clip(ramp, 0, 1)
    fast = _inverse(theta, head)
    slow = np.float32(1) / (np.float32(factor) * (np.float32(1) / fast))
    return Rope(_tuple(slow * (1 - kept) + fast * kept), float(attention))


def _longrope(numbers: Numbers, head: int, n_positions: int) -> Rope:
    """Divides each frequency by a number of its own; texts beyond the original length by others."""
    original = numbers["original_max_position_embeddings"]
    factor, attention = numbers.get("factor"), numbers.get("attention_factor")
    factor = n_positions / original if factor is None else factor
    if attention is None:
        attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    fast = _inverse(numbers["rope_theta"], head)
    short, long = (
        _tuple(fast / np.asarray(numbers[name], np.float32))
        for name in ("short_factor", "long_factor")
    )
    return Rope(short, float(attention), long, original)


def _llama3(numbers: Numbers, head: int, n_positions: int) -> Rope:
    """Divides slow frequencies, keeps fast ones, and mixes those between, by their wavelengths."""
    low, high = numbers["low_freq_factor"], numbers["high_freq_factor"]
    original, factor = numbers["original_max_position_embeddings"], np.float32(numbers["factor"])
    fast = _inverse(numbers["rope_theta"], head)
    waves = np.float32(2 * math.pi) / fast
    kept = ((original / waves - low) / (high - low)).astype(np.float32)
    mixed = (1 - kept) * fast / factor + kept * fast
    slow = np.where(waves > original / low, fast / factor, mixed)
    return Rope(_tuple(np.where(waves < original / high, fast, slow)))


ORIGINAL = {"original_max_position_embeddings": LENGTH}
KINDS: dict[str, tuple[Callable[[Numbers, int, int], Rope], dict[str, Form]]] = {
    "default": (_default, {}),
    "linear": (_linear, {"factor": POSITIVE}),
    "dynamic": (_default, {"factor": POSITIVE}),
    "proportional": (
        _proportional,
        {"factor?": (POSITIVE, None), "partial_rotary_factor?": (At(float, above=0, most=1), None)},
    ),
    "yarn": (
        _yarn,
        {
            **ORIGINAL,
            "factor": (POSITIVE, None),
            **{f"{name}?": (POSITIVE, None) for name in ("beta_fast", "beta_slow", "mscale")},
            **{f"{name}?": (POSITIVE, None) for name in ("mscale_all_dim", "attention_factor")},
            "truncate?": bool,
        },
    ),
    "longrope": (
        _longrope,
        {
            **ORIGINAL,
            "short_factor": [POSITIVE],
            "long_factor": [POSITIVE],
            "factor?": (POSITIVE, None),
            "attention_factor?": (POSITIVE, None),
        },
    ),
    "llama3": (
        _llama3,
        {
            **ORIGINAL,
            **dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor"), POSITIVE),
        },
    ),
}
FROM_ORIGINAL = [kind for kind, (_, form) in KINDS.items() if ORIGINAL.keys() <= form.keys()]
