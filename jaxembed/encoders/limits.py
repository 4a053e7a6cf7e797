"""sentence_bert_config.json and its siblings: how long texts may be, and whether they keep case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxembed.encoders.checkpoint import read_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At

# In the order in which sentence-transformers looks; the first that says something counts.
FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
UNUSED = (
    *("processing_kwargs", "query_length", "document_length", "query_expansion"),
    "tokenizer_name_or_path",
)
NOTHING = (None, {}, [])
OPTIONS = [f"{of}_{kind}" for of in ("model", "tokenizer", "config", "processor")
           for kind in ("args", "kwargs")]  # fmt: skip
HARMLESS_OPTIONS = {"trust_remote_code", "torch_dtype", "dtype", "attn_implementation"}
KEYS = Keys(
    used={
        "max_seq_length?": (At(int, least=1), None),
        "do_lower_case?": (bool, None),
        "modality_config?": {str: {"method": str, "method_output_name": (str, [object], None)}},
        **{f"{name}?": ({str: object}, None) for name in OPTIONS},
    },
    harmless=("unpad_inputs",),
    only={
        "transformer_task": ("feature-extraction",),
        "module_output_name": ("token_embeddings", None),
        **dict.fromkeys(UNUSED, NOTHING),
    },
)


def read_limits(folder: Path) -> dict[str, Any]:
    """Reads the first of the files that is there and not empty; returns {} without one.

    Raises:
        EncoderError: values of another form, or that are not supported.
    """
    for file in (folder / name for name in FILES):
        if file.exists() and read_json(file, {}):
            limits = KEYS.read(file)
            _check_options(limits, file)
            return limits
    return {}


def _check_options(limits: dict[str, Any], file: Path) -> None:
    for name in OPTIONS:
        for key in (limits.get(name) or {}).keys() - HARMLESS_OPTIONS:
            raise EncoderError(f"{file}: {name} sets {key!r}, which is not supported; remove it")
    method = {"method": "forward", "method_output_name": "last_hidden_state"}
    text = limits.get("modality_config", {"text": method}).get("text")
    if text is None or any(text[key] != value for key, value in method.items()):
        raise EncoderError(
            f"{file}: modality_config.text must be the last_hidden_state of forward; got {text}"
        )
