"""How many texts a second are encoded, and pairs a second trained on, from text to result?

The real all-MiniLM-L6-v2 on texts of the embedded data, in float32: everything that a user waits
for, tokenizing and padding included, after each shape has been compiled. Sides: our own
transformers, with the longest texts of a column apart and with texts packed; transformers' Flax
model in the same pipeline; sentence-transformers in PyTorch. Embeddings and losses must agree. A
training step is the ranking loss over pairs, its gradient, clipping and AdamW, without dropout.

    python benchmarks/text_speed.py --torch-python .venv-torch/bin/python
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import report
from encoder_speed import forward_flops
from peer import Peer
from sides import Target, conclude, in_turns, spread
from timing import seconds_for

import jaxembed
from jaxembed.data import BatchPlan, load_batches, open_dataset, plain_plan
from jaxembed.encoders import Encoder
from jaxembed.encoders.folder import find
from jaxembed.encoders.inference import packed_batches, token_batches
from jaxembed.objectives import as_sum
from jaxembed.tasks import Networks, Task, open_task
from jaxembed.training import adamw, build_train_step, create_state, make_mesh

TOLERANCE = 1e-4
LEARNING_RATE = 2e-5
BUCKETS = (16, 32, 64, 128, 256, 512)  # those of scripts/train.py
LIBRARY = "sentence-transformers"
SIDES = {
    "ours": {"source": "jaxembed", "packing": False},
    "ours, packed": {"source": "jaxembed", "packing": True},
    "transformers' Flax": {"source": "transformers", "packing": False},
}


@dataclass(frozen=True)
class Config:
    """Measures encoding and training from texts."""

    torch_python: Path | None = None
    """The interpreter of an environment with torch and sentence-transformers."""
    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    sides: tuple[str, ...] = tuple(SIDES)
    """Which of ours, "ours, packed" and "transformers' Flax"."""
    texts: int = 1024
    """Texts that are encoded."""
    batch: int = 64
    """Texts that are encoded at once; pairs of a training step."""
    steps: int = 4
    """Training steps of a measurement."""
    rounds: int = 5
    """Measurements of each side; the median counts."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all times are written."""


@dataclass(frozen=True)
class Side:
    """What is measured of one side, and what it computed."""

    encode: Callable[[], float]
    train: Callable[[], float]
    embeddings: np.ndarray
    loss: float
    shapes: dict[str, list[list[int]]]  # rows and widths of all token arrays, by call
    tokens: dict[str, int]  # in them, without padding


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree."""
    peer = None
    if config.torch_python:
        peer = Peer(config.torch_python, "sentence_transformers_texts.py")
    everything = open_dataset("wordnet-gloss")
    data = everything.select(distinct(everything, config.batch * config.steps))
    corpus = everything["positive"][-config.texts :]
    sides = {name: ours(config, data, corpus, **SIDES[name]) for name in config.sides}
    if peer:
        sides[LIBRARY] = library(config, peer, data, corpus)
    first = next(iter(sides.values()))
    machine = report.machine()
    settings = json.loads((find(config.model) / "config.json").read_text())
    rows = []
    calls = {
        f"{name}/{call}": getattr(side, call) for name, side in sides.items()
        for call in ("encode", "train")
    }  # fmt: skip
    for key, seconds in in_turns(calls, config.rounds).items():
        name, call = key.split("/")
        side = sides[name]
        flops = sum(forward_flops(settings, *shape) for shape in side.shapes[call])
        places = sum(n * t for n, t in side.shapes[call])
        rows.append({
            **{"call": call, "side": name, "seconds": seconds},
            **{"median_s": statistics.median(seconds), "places": places},
            "rows": config.texts if call == "encode" else config.batch * config.steps,
            "flops": flops * (1 if call == "encode" else 3),
            "agrees": bool(np.abs(side.embeddings - first.embeddings).max() < TOLERANCE)
            and abs(side.loss - first.loss) < TOLERANCE * first.loss,
        })  # fmt: skip
    if peer:
        peer.close()
    for row in rows:
        row["padding_share"] = 1 - first.tokens[row["call"]] / row["places"]
        row["share_of_limit"] = row["flops"] / row["median_s"] / machine["matmul_gflop_per_s"] / 1e9
    names = ("model", "texts", "batch", "steps", "rounds")
    content: dict[str, Any] = {
        "question": "From texts to embeddings and to trained steps",
        "settings": {name: value for name, value in asdict(config).items() if name in names},
        "machine": machine,
        "versions": report.versions() | (peer.versions if peer else {}),
        "rows": rows,
    }
    columns = ["call", "side", "seconds (min–max)", "rows/s", "padding", "GFLOP/s",
               "of the matrix rate"]  # fmt: skip
    report.save(config.output, "text_speed", content, columns, list(map(cells, rows)))
    conclude(config.output, "text_speed", held_to(rows))
    differ = sorted({row["side"] for row in rows if not row["agrees"]})
    if differ:
        print(f"embeddings or losses differ: {', '.join(differ)}")
    return int(bool(differ))


def distinct(rows: Any, number: int) -> list[int]:
    """Picks the first rows of which no text stands in another: nobody masks duplicates then."""
    seen: set[str] = set()
    picked = []
    for row, (query, positive) in enumerate(zip(rows["query"], rows["positive"], strict=True)):
        if seen.isdisjoint((query, positive)):
            picked.append(row)
            seen |= {query, positive}
        if len(picked) == number:
            break
    return picked


def ours(config: Config, data: Any, corpus: list[str], *, source: str, packing: bool) -> Side:
    """Builds the calls of one of our sides, and takes a first of each."""
    encoder = jaxembed.load(config.model, dropout=False, source=source)
    task = open_task(
        Networks(encoder),
        as_sum("multiple_negatives_ranking"),
        data,
        batch_size=config.batch,
        batch_plan="plain",
        buckets=BUCKETS,
        split_lengths=True,
        packing=packing,
    )
    mesh = make_mesh(jax.devices()[:1])
    schedule = lambda step: LEARNING_RATE  # noqa: E731
    optimizer = adamw(schedule)
    objective = task.objective.build(encoder.apply, mesh=mesh)
    step = build_train_step(objective, optimizer, schedule, mesh)
    state = create_state({"encoder": encoder.params}, optimizer, mesh)

    def encode() -> np.ndarray:
        return encoder.encode(corpus, batch_size=config.batch, packing=packing)

    def train() -> list[float]:
        nonlocal state
        losses = []
        for batch in load_batches(task.make, start_step=0, n_steps=config.steps):
            state, metrics = step(state, batch, None)
            losses.append(metrics["loss"])
        return [float(loss) for loss in losses]

    arrays = {
        "encode": list(encoded_arrays(encoder, corpus, config, packing)),
        "train": list(trained_arrays(task)),
    }
    return Side(
        partial(seconds_for, encode, 1),
        partial(seconds_for, train, 1),
        encode(),
        float(np.sum(train())),
        {call: [[*mask.shape] for mask in masks] for call, masks in arrays.items()},
        {call: sum(int(mask.sum()) for mask in masks) for call, masks in arrays.items()},
    )


def encoded_arrays(
    encoder: Encoder, corpus: list[str], config: Config, packing: bool
) -> Iterator[np.ndarray]:
    """Yields the attention masks that `encode` makes."""
    batches = packed_batches if packing else token_batches
    for rows, tokens in batches(encoder.tokenizer, corpus, batch_size=config.batch):
        filled = len(tokens["attention_mask"]) - len(rows)  # rows that repeat the first
        mask = tokens["attention_mask"].copy()
        mask[len(mask) - filled :] = 0
        yield mask


def trained_arrays(task: Task) -> Iterator[np.ndarray]:
    """Yields the attention masks of all steps of a pass."""
    for step in range(task.plan.n_steps(1)):
        batch = task.make(step)
        for role in ("anchors", "positives"):
            for block in batch[role].get("blocks", [batch[role]]):
                yield block["attention_mask"]


def library(config: Config, peer: Peer, data: Any, corpus: list[str]) -> Side:
    """Hands the same texts to the other interpreter."""
    plan = BatchPlan(partial(plain_plan, len(data), batch_size=config.batch, seed=0))  # as ours
    ordered = data.select(np.concatenate([plan.rows(step) for step in range(config.steps)]))
    pairs = [list(ordered[name]) for name in ("query", "positive")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps({"corpus": corpus, "pairs": pairs}))
        answer = peer.ask(
            model=str(find(config.model).resolve()),
            texts=str(file),
            batch=config.batch,
            learning_rate=LEARNING_RATE,
        )
    return Side(
        lambda: peer.ask(measure="encode")["seconds"],
        lambda: peer.ask(measure="train")["seconds"],
        np.array(answer["embeddings"], np.float32),
        answer["loss"],
        answer["shapes"],
        {},
    )


def held_to(rows: list[dict[str, Any]]) -> list[Target]:
    """Compares our best with the peers."""
    targets = []
    for call in ("encode", "train"):
        times = {row["side"]: row["median_s"] for row in rows if row["call"] == call}
        best = min(times[name] for name in times if name.startswith("ours"))
        for peer, bound in ((LIBRARY, 1.3), ("transformers' Flax", 1.1)):
            if peer in times:
                targets.append(Target(f"{call}: {peer} / ours", times[peer] / best, at_least=bound))
    return targets


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    median = row["median_s"]
    return [
        *(row["call"], row["side"]),
        spread(row["seconds"]) + ("" if row["agrees"] else ", values differ"),
        f"{row['rows'] / median:,.0f}",
        f"{row['padding_share']:.0%}",
        f"{row['flops'] / median / 1e9:,.0f}",
        f"{row['share_of_limit']:.0%}",
    ]


if __name__ == "__main__":
    report.command(main, Config, __doc__)
