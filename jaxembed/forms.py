"""The form that outside data must have: JSON and TOML, checked against a declaration.

A form is written as the data looks:

    int, float, str, bool, None, object    a value of that type; float takes whole numbers too, and
                                            is finite; object takes anything
    At(int, least=1), At(float, above=0)    a number within bounds
    Choice("left", "right")                 one of these values
    (int, None)                             any of these forms
    [str]                                   a list whose items have this form
    {"size": int, "name?": str}             an object with these keys, those with "?" optional;
                                            it may hold others, which are not checked
    {str: float}                            an object with any keys, whose values have this form
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Form = Any


class FormError(ValueError):
    """Data of another form; the message names the place in it, what is due and what came."""


@dataclass(frozen=True)
class At:
    """A number of a type from `least` on, above `above`, up to `most`."""

    kind: type
    least: float | None = None
    above: float | None = None
    most: float | None = None

    def __contains__(self, value: Any) -> bool:
        return (
            _has_type(value, self.kind)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        bounds = [
            f"{word} {bound}"
            for word, bound in (
                ("at least", self.least),
                ("above", self.above),
                ("at most", self.most),
            )
            if bound is not None
        ]
        return " ".join((NAMES[self.kind], " and ".join(bounds))).strip()


class Choice(tuple):
    """One of some values."""

    def __new__(cls, *values: Any) -> Choice:
        return super().__new__(cls, values)

    def __str__(self) -> str:
        return "one of " + ", ".join(map(json.dumps, self))


NAMES: Mapping[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    bool: "true or false",
    None: "null",
    object: "anything",
}


def check_form(value: Any, form: Form, place: str) -> Any:
    """Checks parsed JSON or TOML against a form and returns it.

    Args:
        value: what a parser returned.
        form: what it must look like; the module says how forms are written.
        place: where the value stands, such as the path of a file; messages begin with it.

    Raises:
        FormError: the first place in the value that differs, what is due there and what came.

    >>> check_form({"size": 4, "extra": "unused"}, {"size": int, "name?": str}, "config.json")
    {'size': 4, 'extra': 'unused'}
    >>> check_form({"size": "4"}, {"size": int}, "config.json")
    Traceback (most recent call last):
    ...
    jaxembed.forms.FormError: config.json: size must be a whole number; got "4"
    """
    if fault := fault_of(value, form, ""):
        raise FormError(f"{place}: {fault}")
    return value


def read_json(file: Path, form: Form = object) -> Any:
    """Reads a JSON file of the form.

    Raises:
        FormError: text that is no JSON, or of another form.
        FileNotFoundError: there is no such file.
    """
    try:
        value = json.loads(file.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormError(f"{file} is not valid JSON ({error})") from None
    return check_form(value, form, str(file))


def fault_of(value: Any, form: Form, where: str) -> str | None:
    """Says what of a value, called `where`, differs from a form, or returns None."""
    if isinstance(form, tuple) and not isinstance(form, Choice):
        faults = [fault_of(value, one, where) for one in form]
        if None in faults:
            return None
        # Of the form of the value's own kind, the place within it that differs says more.
        deeper = [
            fault
            for fault, one in zip(faults, form, strict=True)
            if isinstance(one, Mapping | list) and isinstance(value, type(one))
        ]
        return deeper[0] if deeper else _must(where, value, form)
    if isinstance(form, Mapping):
        return _fault_of_object(value, form, where)
    if isinstance(form, list):
        if not isinstance(value, list):
            return _must(where, value, form)
        items = (fault_of(item, form[0], f"{where}[{index}]") for index, item in enumerate(value))
        return next(filter(None, items), None)
    return None if _fits(value, form) else _must(where, value, form)


def _fault_of_object(value: Any, form: Mapping[Any, Form], where: str) -> str | None:
    if not isinstance(value, Mapping):
        return _must(where, value, form)
    if str in form:
        of_keys = dict.fromkeys(value, form[str])
    else:
        of_keys = {key.removesuffix("?"): one for key, one in form.items()}
        lacking = [key for key in form if not key.endswith("?") and key not in value]
        if lacking:
            return f"{where or 'it'} lacks {lacking[0]!r}"
    inside = f"{where}." if where else ""
    faults = (
        fault_of(value[key], one, inside + str(key)) for key, one in of_keys.items() if key in value
    )
    return next(filter(None, faults), None)


def _fits(value: Any, form: Form) -> bool:
    if isinstance(form, Choice):
        return any(type(value) is type(one) and value == one for one in form)
    if isinstance(form, At):
        return value in form
    return form is object or _has_type(value, form)


def _has_type(value: Any, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _must(where: str, value: Any, form: Form) -> str:
    shown = json.dumps(value, default=str)
    return (
        f"{where or 'it'} must be {_due(form)}; got"
        f" {shown if len(shown) <= 60 else shown[:60] + '…'}"
    )


def _due(form: Form) -> str:
    if isinstance(form, Choice | At):
        return str(form)
    if isinstance(form, tuple):
        return " or ".join(map(_due, form))
    if isinstance(form, Mapping):
        return "an object"
    if isinstance(form, list):
        inner = form[0]
        return "a list" if inner is object else f"a list whose items are {_due(inner)}"
    return NAMES[form]
