"""Which keys of config.json transformers' Flax models read: the others must have their default.

Of the types that have a family here, its table says it. Of the others the source of the model says
which keys it reads, and the configuration's class the type of each.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families import FAMILIES
from jaxembed.encoders.families.keys import (
    ACTIVATION,
    COUNT,
    HARMLESS,
    ID,
    OFF,
    ONLY,
    check_keys,
    refuse_quantisation,
)
from jaxembed.encoders.keys import Keys
from jaxembed.forms import Form, FormError, check_form

ACTIVATION_KEYS = ("activation", "activation_function", "hidden_act", "hidden_activation")
KEYS_OF_FORMS = HARMLESS | {"model_type", "dtype", "torch_dtype", "attention_types"}
# What a configuration writes of others, which its model may read instead.
COMPUTED: Mapping[str, Callable[[Any], Any]] = {
    "head_dim": lambda config: config.hidden_size // config.num_attention_heads,
    "embedding_size": lambda config: config.hidden_size,
}


def check_values(name: Path | str, settings: Mapping[str, Any], config_class: Any) -> None:
    """Checks the keys that a family declares, or else the type of every value.

    Raises:
        EncoderError: a value of another type, or a key that a family refuses.
    """
    file = Path(name) / "config.json"
    if family := FAMILIES.get(settings["model_type"]):
        check_keys(file, settings, family.keys)
        return
    refuse_quantisation(file, settings)
    defaults = config_class().to_dict()
    Keys({}, only=ONLY).check(settings, file)
    forms: dict[str, Form] = {}
    for key, default in defaults.items():
        if key in ACTIVATION_KEYS:
            forms[f"{key}?"] = ACTIVATION
        elif type(default) in (bool, int, float, str) and key not in HARMLESS:
            forms[f"{key}?"] = _form(default)
    if settings["model_type"] == "roberta-prelayernorm":  # its positions follow that of padding
        forms["pad_token_id?"] = ID
    try:
        check_form(settings, forms, str(file))
    except FormError as error:
        raise EncoderError(str(error)) from None


def _form(default: Any) -> Form:
    """Returns the form of values whose default that is; of rates it may be 0."""
    if type(default) is int:
        return COUNT if default else float
    return type(default)


def check_read(name: Path | str, settings: Mapping[str, Any], config: Any, model: Any) -> None:
    """Refuses keys that a model of no family here does not read, unless they have the default.

    Raises:
        EncoderError: names the key.
    """
    if config.model_type in FAMILIES:
        return
    source = inspect.getsource(sys.modules[model.__module__])
    read = set(re.findall(r"config\.(\w+)", source)) | KEYS_OF_FORMS
    read |= {name for names in config.attribute_map.items() if read & {*names} for name in names}
    defaults = {**type(config)().to_dict(), **dict.fromkeys(ONLY)}
    for key, value in settings.items():
        usual = COMPUTED[key](config) if key in COMPUTED else defaults.get(key)
        off = not usual and value in OFF
        if key not in read and value != usual and not off:
            raise EncoderError(
                f"{Path(name) / 'config.json'}: the key {key!r} ({value!r}) is not read by"
                f" {model.__name__}; only {usual!r} is computed"
            )
