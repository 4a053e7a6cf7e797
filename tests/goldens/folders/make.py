"""Stores what sentence-transformers computes with the drawn folders, and the files that it saves.

Run by hand in the torch environment (see ../README.md).
"""

import json
import lzma
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from drawn import N_FOLDERS, TEXTS, draw, write
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent


def compute(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Encodes the texts one by one, which pads none, and returns the files saved."""
    model = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True,
        model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"},
    )  # fmt: skip
    options = {"batch_size": 1, "show_progress_bar": False}
    arrays = {
        "plain": model.encode(TEXTS, **options),
        "query": model.encode_query(TEXTS, **options),
        "document": model.encode_document(TEXTS, **options),
    }
    for name in ("query", "document"):
        if np.array_equal(arrays[name], arrays["plain"]):
            del arrays[name]
    saved = folder.with_name("saved")
    model.save(str(saved), create_model_card=False)
    files = {
        str(file.relative_to(saved)): file.read_text(encoding="utf-8")
        for file in sorted(saved.rglob("*"))
        if file.suffix in (".json", ".txt")
    }
    return arrays, files


def main() -> None:
    arrays, files, errors = {}, {}, {}
    for number in range(N_FOLDERS):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            drawn = draw(number)
            write(drawn, folder)
            try:
                computed, saved = compute(folder)
            except Exception as error:
                errors[number] = f"{type(error).__name__}: {str(error)[:200]}"
                print(number, drawn.odd, errors[number], flush=True)
                continue
            arrays |= {f"{number}/{name}": x.astype(np.float32) for name, x in computed.items()}
            files[number] = saved
    np.savez_compressed(HERE / "expected.npz", **arrays)
    content = json.dumps({"files": files, "errors": errors})
    (HERE / "saved.json.xz").write_bytes(lzma.compress(content.encode()))


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    main()
