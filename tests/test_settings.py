"""Settings are checked against the types and ranges that stand beside them."""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import pytest

from jaxembed.forms import At, Choice, FormError
from jaxembed.settings import Count, Positive, check_arguments, check_fields

SCRIPTS = Path(__file__).parents[1] / "scripts"


@dataclasses.dataclass
class Settings:
    count: Count = 1
    rate: Positive | None = None
    drawn: Annotated[int, (Choice(-1), At(int, least=1))] = 1
    sizes: tuple[Count, ...] = ()
    both: tuple[str, str] | None = None
    side: Literal["left", "right"] = "left"
    where: Path | None = None
    weights: Mapping[str, float] | None = None
    names: Sequence[str] = ()
    call: Callable[[int], None] | None = None
    anything: Any = None


@pytest.mark.parametrize(
    "right",
    [
        {"count": 3, "rate": 2, "drawn": -1, "sizes": [1, 2], "both": ("a", "b")},
        {"count": np.int64(3), "rate": np.float32(0.5), "side": "right", "where": Path("x")},
        {"weights": {"a": 1.0}, "names": ["a"], "call": print, "anything": object()},
    ],
)
def test_settings_in_range_are_taken(right):
    check_fields(Settings(**right))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count must be a whole number at least 1; got 0"),
        ({"count": True}, "count must be a whole number at least 1; got true"),
        ({"count": 2.0}, "count must be a whole number at least 1; got 2.0"),
        ({"rate": math.nan}, "rate must be a finite number above 0; got NaN"),
        ({"rate": math.inf}, "rate must be a finite number above 0; got Infinity"),
        ({"rate": "1"}, 'rate must be a finite number above 0; got "1"'),
        ({"drawn": 0}, "drawn must be one of -1 or a whole number at least 1; got 0"),
        ({"sizes": (1, 0)}, "sizes[1] must be a whole number at least 1; got 0"),
        ({"sizes": "12"}, "sizes must be a list; got str '12'"),
        ({"both": ("a",)}, "both takes 2 values; got 1"),
        ({"side": "up"}, 'side must be one of "left", "right"; got "up"'),
        ({"where": 3}, "where must be a path; got int 3"),
        ({"weights": [1]}, "weights must be a dict; got list [1]"),
        ({"names": "abc"}, "names must be a list; got str 'abc'"),
        ({"call": "print"}, "call must be a function; got str 'print'"),
    ],
)
def test_settings_out_of_range_are_named(wrong, message):
    with pytest.raises(FormError) as error:
        check_fields(Settings(**wrong))
    assert str(error.value) == message


def test_arguments_are_checked_like_fields():
    def call(data: Any, *, steps: Count = 1, **options: Any) -> None:
        check_arguments(call, locals())

    local = {"data": None, "steps": 0, "options": {}}
    with pytest.raises(FormError, match="steps must be a whole number at least 1; got 0"):
        check_arguments(call, local)


def _numbers(hint):
    """Finds the numbers in an annotation that have no range."""
    if hint in (int, float):
        return [hint]
    if isinstance(getattr(hint, "__metadata__", (None,))[0], At | tuple):
        return []
    return [one for inner in getattr(hint, "__args__", ()) for one in _numbers(inner)]


SIGNED = {"margin", "positive_margin", "negative_margin", "bias", "hardness_strength"}
SIGNED |= {"false_negative_margin", "angle_w", "cosine_w", "ibn_w", "mean_weight"}
SIGNED |= {"second_moment_weight", "last_layer_weight", "prior_layers_weight", "kl_div_weight"}
SIGNED |= {"absolute_margin", "max_score", "min_score"}


@pytest.mark.parametrize(
    "module", ["config", "encode", "evaluate", "mining_flags", "plan", "tokenize_texts"]
)
def test_every_number_of_a_command_has_a_range(monkeypatch, module):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    __import__(module)
    flags = getattr(sys.modules[module], "PlanConfig" if module == "plan" else "Config")
    hints = get_type_hints(flags, include_extras=True)
    assert {name for name, hint in hints.items() if _numbers(hint)} <= SIGNED
