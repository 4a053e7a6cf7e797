"""Computes a folder's embeddings of some texts with the PyTorch library sentence-transformers.

Run in the torch environment (see README.md):
python load_in_torch.py FOLDER TEXTS.json OUT.npz [--prompt-name NAME]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer


def main() -> None:
    """Writes OUT.npz with the array `embeddings`, one row per text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="a sentence-transformers model folder")
    parser.add_argument("texts", type=Path, help="a JSON file: a list of texts")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument("--prompt-name", help="the saved prompt to put before every text")
    arguments = parser.parse_args()

    texts = json.loads(arguments.texts.read_text(encoding="utf-8"))
    model = SentenceTransformer(arguments.folder, device="cpu", local_files_only=True)
    embeddings = model.encode(texts, prompt_name=arguments.prompt_name)
    np.savez_compressed(arguments.out, embeddings=embeddings)


if __name__ == "__main__":
    main()
