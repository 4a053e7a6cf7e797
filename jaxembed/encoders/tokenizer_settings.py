"""tokenizer_config.json: what it says beside tokenizer.json, and the tokens that it adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxembed.encoders.checkpoint import read_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At, Choice

SIDE = (Choice("left", "right"), None)
TOKEN = (str, {"content": str}, None)
NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
LISTED = ("additional_special_tokens", "extra_special_tokens")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")

MAP = {
    **{f"{name}?": TOKEN for name in NAMED},
    **{f"{name}?": ([TOKEN], {str: TOKEN}, None) for name in LISTED},
}
KEYS = Keys(
    used={
        "tokenizer_class?": (str, None),
        "model_max_length?": (At(float, above=0), None),
        "padding_side?": SIDE,
        "truncation_side?": SIDE,
        "split_special_tokens?": (bool, None),
        "do_lower_case?": (bool, None),
        "strip_accents?": (bool, None),
        "tokenize_chinese_chars?": (bool, None),
        "added_tokens_decoder?": ({str: {"content": str}}, None),
        **MAP,
    },
    harmless=(
        *("backend", "is_local", "local_files_only", "name_or_path", "processor_class", "use_fast"),
        *("tokenizer_file", "special_tokens_map_file", "vocab_size", "model_input_names"),
        *("clean_up_tokenization_spaces", "errors", "never_split", "do_basic_tokenize"),
        *("chat_template", "add_prefix_space"),
        # of every call of the tokenizer: given anew each time, or not for one text alone
        *("max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id"),
    ),
)

# The special tokens of a class where its folder names none.
OF_BERT = {f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")}
DEFAULTS = {
    "BertTokenizer": OF_BERT,
    "DistilBertTokenizer": OF_BERT,
    "ElectraTokenizer": OF_BERT,
    "MPNetTokenizer": {
        **{"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"},
        **{"unk_token": "[UNK]", "pad_token": "<pad>", "mask_token": "<mask>"},
    },
    "Qwen2Tokenizer": dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>"),
}


def read_settings(file: Path) -> dict[str, Any]:
    """Reads tokenizer_config.json.

    Raises:
        EncoderError: no JSON, or values of another form.
    """
    return read_json(file, dict(KEYS.used))


def special_tokens(settings: Mapping[str, Any], mapped: Path, name: str) -> dict[str, Any]:
    """Returns the special tokens by their keys: of the file, of the map beside it, of the class.

    Raises:
        EncoderError: a map that has another form.
    """
    # Since there is added_tokens_decoder, the map counts no more.
    counts = mapped.exists() and "added_tokens_decoder" not in settings
    found = DEFAULTS.get(name, {}) | (read_json(mapped, dict(MAP)) if counts else {}) | settings
    return {key: found[key] for key in (*NAMED, *LISTED) if found.get(key)}


def add_tokens(backend: Any, settings: Mapping[str, Any], special: Mapping[str, Any]) -> None:
    """Adds the tokens that the settings name and the tokenizer has not, as transformers does."""
    from tokenizers import AddedToken

    known = backend.get_added_tokens_decoder().values()
    added = (settings.get("added_tokens_decoder") or {}).items()
    wanted = [_token(token, AddedToken) for _, token in sorted(added, key=_number)]
    new = [token for token in wanted if repr(token) not in set(map(repr, known))]
    contents = {token.content for token in (*known, *new)}
    for token in _listed(special):
        made = _token(token, AddedToken)
        if made.content not in contents:
            new.append(made)
            contents.add(made.content)
    for token in new:
        add = backend.add_special_tokens if token.special else backend.add_tokens
        add([token])


def _number(entry: tuple[str, Any]) -> int:
    if not entry[0].isdecimal():
        raise EncoderError(f"tokenizer_config.json: added_tokens_decoder: no number {entry[0]!r}")
    return int(entry[0])


def _listed(special: Mapping[str, Any]) -> Iterator[Any]:
    for key, value in special.items():
        if key in LISTED:
            yield from value.values() if isinstance(value, dict) else value
        else:
            yield value


def _token(token: Any, made: Any) -> Any:
    if isinstance(token, str):
        return made(token, special=True, normalized=False)
    flags = {flag: bool(token[flag]) for flag in FLAGS if flag in token}
    return made(token["content"], **{"special": True, **flags})
