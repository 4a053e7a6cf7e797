"""Makes batches without duplicates with sentence-transformers, for feeding.py, which starts it.

Lines of JSON: its versions first; then it answers `{"file": …, "batch": …, "hashed": …}` with the
seconds of one epoch of its sampler, from texts to the last batch, and the size of each batch.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import datasets
import torch
from answering import serve
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler


def epoch(file: str, batch: int, hashed: bool) -> dict[str, Any]:
    """Takes the rows of a Parquet file through one epoch."""
    with tempfile.TemporaryDirectory() as folder:
        rows: Any = datasets.Dataset.from_parquet(file, cache_dir=folder)
        sampler = NoDuplicatesBatchSampler(
            rows,
            batch_size=batch,
            drop_last=False,
            generator=torch.Generator(),
            precompute_hashes=hashed,
        )
        begin = time.perf_counter()
        sizes = [len(indices) for indices in sampler]
        return {"seconds": time.perf_counter() - begin, "sizes": sizes}


def main() -> None:
    datasets.disable_progress_bars()
    datasets.disable_caching()  # hashes are computed in every measurement
    packages = ("sentence-transformers", "datasets", "torch")
    serve(lambda request: epoch(**request), packages)


if __name__ == "__main__":
    main()
