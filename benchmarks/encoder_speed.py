"""How fast do our own transformers encode and train, beside the same models in PyTorch?

Both sides have the same parameters, drawn from the configuration, and the same tokens: rows as long
as the texts of the embedded data (words and two more), or of one length for a long context. A
training step is the ranking loss over a column of anchors and one of positives, its gradient,
clipping and AdamW, without dropout. Embeddings and loss agree before anything is measured.

    python benchmarks/encoder_speed.py --torch-python .venv-torch/bin/python
    python benchmarks/encoder_speed.py --models bert-base --dtype bfloat16 --batch 512
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import report
from models import MODELS, forward_flops
from peer import ST, DType, Peer, check_device, tolerance
from pyarrow.parquet import read_table
from report import Target
from sides import in_turns, spread
from timing import enough_repeats, seconds_per_call

from jaxembed.data.sources import EMBEDDED
from jaxembed.encoders import pack
from jaxembed.encoders.checkpoint import write_tensors
from jaxembed.encoders.encoder import chain
from jaxembed.encoders.families import load_family
from jaxembed.encoders.modules import Pooling
from jaxembed.losses import multiple_negatives_ranking_loss
from jaxembed.training import adamw, build_train_step, create_state, make_mesh
from jaxembed.transforms import by_length

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Config:
    """Measures encoding and training steps."""

    torch_python: Path | None = None
    """The interpreter of an environment with torch and transformers."""
    models: tuple[str, ...] = ("minilm",)
    """minilm, bert-base, modernbert-base; tiny only shows that it runs."""
    batch: int = 64
    """Texts that are encoded at once; pairs of a training step."""
    tokens: int | None = None
    """All rows have so many; else the lengths of the embedded texts."""
    dtype: DType = "float32"
    """The precision of both sides."""
    remat: str = "dots"
    """What our side computes again for the gradient: none, dots or full."""
    packing: bool = False
    """Puts several texts into one row, on our side."""
    rounds: int = 7
    """Measurements of each side; the median counts."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all times are written."""
    name: str = "encoder_speed"
    """Of the files there."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree."""
    script = "transformers_encoders.py"
    peer = Peer(ST, config.torch_python, script) if config.torch_python else None
    check_device(peer.versions if peer else {})
    rows: list[dict[str, Any]] = []
    machine = report.machine(config.dtype)
    for name in config.models:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, Path(folder), config, peer)
    if peer:
        peer.close()
    content: dict[str, Any] = {
        "question": "Encoding and training with our own transformers",
        "settings": {key: value for key, value in asdict(config).items() if key in
                     ("batch", "tokens", "dtype", "remat", "packing", "rounds")},
        "machine": machine,
        "versions": report.versions() | (peer.versions if peer else {}),
        "rows": rows,
    }  # fmt: skip
    for row in rows:
        row["share_of_limit"] = row["flops"] / row["median_s"] / machine["matmul_gflop_per_s"] / 1e9
    columns = ["model", "call", "side", "seconds (min–max)", "rows/s", "tokens/s", "TFLOP/s",
               "of the matrix rate"]  # fmt: skip
    targets = []
    for name in config.models:
        for call in ("encode", "train"):
            times = {
                r["side"]: r["median_s"] for r in rows if (r["model"], r["call"]) == (name, call)
            }
            if "torch" in times:
                targets.append(
                    Target(f"{name}, {call}: torch / ours", times["torch"] / times["ours"])
                )
    report.save(config.output, config.name, content, columns, list(map(cells, rows)), targets)
    differ = [f"{row['model']} ({row['side']})" for row in rows if not row["agrees"]]
    if differ:
        print(f"embeddings or loss differ: {', '.join(differ)}")
    return int(bool(differ))


def measure(name: str, folder: Path, config: Config, peer: Peer | None) -> list[dict[str, Any]]:
    """Builds both sides of one model, compares them, and measures in turns."""
    settings = MODELS[name]
    (folder / "config.json").write_text(json.dumps(settings))
    dtype = jnp.dtype(config.dtype)
    drawn = load_family(folder, dtype=dtype, dropout=False, initialize=0, remat=config.remat)
    write_tensors(folder, drawn.tensors(jax.device_get(drawn.params)))
    batch = tokens_of(config, settings["vocab_size"])
    our_batch = {role: pack(tokens) for role, tokens in batch.items()} if config.packing else batch
    calls, first = ours(drawn, our_batch)
    sides: dict[str, Callable[[], float]] = {
        f"ours/{call}": partial(seconds_per_call, function, enough_repeats(function))
        for call, function in calls.items()
    }
    agrees = True
    if peer:
        file = folder / "tokens.npz"
        np.savez(file, allow_pickle=False,
                 **{f"{c}/{k}": x for c, its in batch.items() for k, x in its.items()})  # fmt: skip
        theirs = peer.ask(load=name, model=str(folder), tokens=str(file), dtype=config.dtype)
        difference = np.abs(np.asarray(theirs["embeddings"]) - first["embeddings"][:4]).max()
        scale = np.abs(first["embeddings"][:4]).max()
        print(f"{name}: greatest difference of an embedding {difference / scale:.2g},"
              f" losses {first['loss']:.5f} and {theirs['loss']:.5f}")  # fmt: skip
        limit = tolerance(config.dtype, TOLERANCE)
        agrees = bool(
            difference < limit * scale
            and abs(theirs["loss"] - first["loss"]) < limit * first["loss"]
        )
        for call in calls:
            sides[f"torch/{call}"] = partial(lambda call: peer.ask(measure=call)["seconds"], call)
    real = int(batch["anchors"]["attention_mask"].sum())
    shapes = {"ours": shape_of(our_batch["anchors"]), "torch": shape_of(batch["anchors"])}
    rows = []
    for key, seconds in in_turns(sides, config.rounds).items():
        side, call = key.split("/")
        columns = 1 if call == "encode" else 2
        rows.append({
            **{"model": name, "call": call, "side": side, "agrees": agrees, "seconds": seconds},
            **{"median_s": statistics.median(seconds), "rows": config.batch},
            **{"tokens": real * columns, "padding_share": 1 - real / math.prod(shapes[side])},
            "flops": forward_flops(settings, *shapes[side]) * (1 if call == "encode" else 6),
        })  # fmt: skip
    return rows


def ours(transformer: Any, batch: dict[str, Any]) -> tuple[dict[str, Callable], dict[str, Any]]:
    """Compiles the calls, and takes a first of each."""

    embed = by_length(chain(transformer.apply, [("pooling", Pooling())]))

    def objective(params, batch, *, key, frozen=None, carried=None):
        left, right = (embed(params["encoder"], batch[role]) for role in ("anchors", "positives"))
        return multiple_negatives_ranking_loss(left, right), ({}, carried)

    mesh = make_mesh(jax.devices()[:1])
    optimizer = adamw(lambda step: 1e-5, weight_decay=0.01, clip_norm=1.0)
    step = build_train_step(objective, optimizer, lambda step: 1e-5, mesh)
    params = jax.device_put({"transformer": transformer.params})
    state = create_state({"encoder": params}, optimizer, mesh)
    batch = jax.device_put(batch)
    encoder = jax.jit(embed)
    embeddings = np.asarray(encoder(params, batch["anchors"]), np.float32)

    def encode() -> None:
        encoder(params, batch["anchors"]).block_until_ready()

    def train() -> float:
        nonlocal state
        state, metrics = step(state, batch, None)
        return float(metrics["loss"])

    return {"encode": encode, "train": train}, {"embeddings": embeddings, "loss": train()}


def tokens_of(config: Config, vocabulary: int) -> dict[str, dict[str, np.ndarray]]:
    """Draws tokens for rows as long as real texts."""
    generator = np.random.default_rng(0)
    table = read_table(EMBEDDED / "train.parquet", columns=["query", "positive"])
    batch = {}
    for role, column in (("anchors", "query"), ("positives", "positive")):
        texts = table[column].slice(0, config.batch).to_pylist()
        lengths = np.array([config.tokens or len(text.split()) + 2 for text in texts])
        width = config.tokens or int(-(-lengths.max() // 8) * 8)
        mask = np.arange(width) < np.minimum(lengths, width)[:, None]
        ids = generator.integers(1000, vocabulary, mask.shape) * mask
        batch[role] = {"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int32)}
    return batch


def shape_of(column: dict[str, Any]) -> tuple[int, int]:
    """Returns the rows and the width of a column's tokens, in one piece or packed."""
    (block,) = column.get("blocks", [column])
    return block["input_ids"].shape


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    median = row["median_s"]
    return [
        *(row["model"], row["call"], row["side"]),
        spread(row["seconds"]) + ("" if row["agrees"] else ", values differ"),
        f"{row['rows'] / median:,.0f}",
        f"{row['tokens'] / median:,.0f}",
        f"{row['flops'] / median / 1e12:.3g}",
        f"{row['share_of_limit']:.0%}",
    ]


if __name__ == "__main__":
    report.command(main, Config, __doc__)
