"""Stores the keys, with their defaults, that sentence-transformers reads and writes.

Run by hand in the torch environment (see ../README.md).
"""

import inspect
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drawn import N_FOLDERS, draw, write
from sentence_transformers import SentenceTransformer, __version__
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import (
    Dropout,
    LayerNorm,
    Pooling,
    WeightedLayerPooling,
)
from sentence_transformers.sentence_transformer.modules.pooling import _LEGACY_POOLING_MODE_KWARGS

HERE = Path(__file__).parent
MODULES = (Pooling, Dense, Normalize, LayerNorm, Dropout, WeightedLayerPooling, Transformer)


def default(value: Any) -> Any:
    """Returns a default as JSON has it; "required" without one."""
    if value is inspect.Parameter.empty:
        return "required"
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return f"{type(value).__module__}.{type(value).__name__}"


def of_module(module: Any) -> dict[str, Any]:
    """Returns what its configuration may hold."""
    parameters = inspect.signature(module.__init__).parameters
    keys = {key: default(parameters[key].default) for key in module.config_keys}
    renamed = {old: keys[new] for old, new in module.config_key_renames.items()}
    return keys | renamed


def main() -> None:
    keys = {module.__name__: of_module(module) for module in MODULES}
    keys["Pooling"] |= dict.fromkeys(_LEGACY_POOLING_MODE_KWARGS, False)
    written: dict[str, dict[str, Any]] = {}
    for number in range(0, N_FOLDERS, 17):
        with TemporaryDirectory() as place:
            write(draw(number), Path(place) / "model")
            try:
                model = SentenceTransformer(str(Path(place) / "model"), device="cpu")
            except Exception:
                continue
            model.save(f"{place}/saved", create_model_card=False)
            for name in ("config_sentence_transformers.json", "tokenizer_config.json",
                         "sentence_bert_config.json", "modules.json"):  # fmt: skip
                content = json.loads((Path(place) / "saved" / name).read_text())
                content = content[0] if isinstance(content, list) else content
                written[name] = written.get(name, {}) | content
    content = {"version": __version__, "modules": keys, "written": written}
    (HERE / "keys.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
