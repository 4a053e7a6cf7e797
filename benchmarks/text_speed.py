"""How many texts a second are encoded, and pairs a second trained on, from text to result?

The real all-MiniLM-L6-v2 on texts of the embedded data: everything that a user waits
for, tokenizing and padding included, after each shape has been compiled. Sides: our own
transformers, with the longest texts of a column apart and with texts packed; transformers' Flax
model in the same pipeline; the other libraries. Embeddings and losses must agree. A training step
is the ranking loss over pairs, its gradient, clipping and AdamW, without dropout.

    python benchmarks/text_speed.py --torch-python .venv-torch/bin/python
    python benchmarks/text_speed.py --models all-MiniLM-L6-v2 bert-base
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plots
import report
from models import forward_flops, open_model
from objectives_data import distinct
from peer import ST, Peer, SideFlags, close, open_peers, tolerance, versions_of
from report import Target
from rich.progress import track
from sides import in_turns, spread
from timing import seconds_for

import jaxembed
from jaxembed.data import BatchPlan, blocks_of, load_batches, open_dataset, plain_plan
from jaxembed.encoders import Encoder
from jaxembed.encoders.token_batches import packed_batches, token_batches
from jaxembed.objectives import as_sum
from jaxembed.tasks import Networks, Task, open_task
from jaxembed.training import adamw, build_train_step, create_state, make_mesh

TOLERANCE = 1e-4
LEARNING_RATE = 2e-5
BUCKETS = (16, 32, 64, 128, 256, 512)  # those of scripts/train.py
BOUNDS = {ST: 1.3, "transformers' Flax": 1.1}  # least time of theirs / ours
SIDES = {
    "ours": {"source": "jaxembed", "packing": False},
    "ours, packed": {"source": "jaxembed", "packing": True},
    "transformers' Flax": {"source": "transformers", "packing": False},
}


@dataclass(frozen=True)
class Config(SideFlags):
    """Measures encoding and training from texts."""

    models: tuple[str, ...] = ("all-MiniLM-L6-v2",)
    """Names or folders, as `jaxembed.load` takes them; minilm and bert-base are drawn."""
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
    """Where table, picture and all times are written."""


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
    peers = open_peers(config, "texts")
    everything = open_dataset("wordnet-gloss")
    data = everything.select(distinct(everything, config.batch * config.steps))
    corpus = everything["positive"][-config.texts :]
    machine = report.machine(config.dtype)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in track(config.models, "measuring", transient=True):
            model = open_model(name, Path(folder))
            rows += measure(config, name, model, data, corpus, peers)
    close(peers)
    for row in rows:
        row["share_of_limit"] = row["flops"] / row["median_s"] / machine["matmul_gflop_per_s"] / 1e9
    names = ("models", "sides", "texts", "batch", "steps", "dtype", "rounds")
    content: dict[str, Any] = {
        "question": "From texts to embeddings and to trained steps",
        "settings": {name: value for name, value in asdict(config).items() if name in names},
        "machine": machine,
        "versions": report.versions() | versions_of(peers),
        "rows": rows,
    }
    columns = ["call", "model", "side", "seconds (min–max)", "rows/s", "tokens/s", "padding"]
    columns += ["GFLOP/s", "of the matrix rate"]
    report.save(
        config.output, "text_speed", content, columns, list(map(cells, rows)), held_to(rows)
    )
    draw(rows, config.output / "text_speed.png")
    differ = sorted({f"{row['side']} ({row['model']})" for row in rows if not row["agrees"]})
    if differ:
        print(f"embeddings or losses differ: {', '.join(differ)}")
    return int(bool(differ))


def measure(
    config: Config, name: str, model: Path, data: Any, corpus: list[str], peers: dict[str, Peer]
) -> list[dict[str, Any]]:
    """Builds all sides of one model, compares them, and measures in turns."""
    sides = {side: ours(config, model, data, corpus, **SIDES[side]) for side in config.sides}
    sides |= {side: theirs(config, model, data, corpus, peer) for side, peer in peers.items()}
    first = next(iter(sides.values()))
    scale, limit = np.abs(first.embeddings).max(), tolerance(config.dtype, TOLERANCE)
    settings = json.loads((model / "config.json").read_text())
    calls = {
        f"{side}/{call}": getattr(its, call)
        for side, its in sides.items()
        for call in ("encode", "train")
    }
    rows = []
    for key, seconds in in_turns(calls, config.rounds).items():
        side, call = key.split("/")
        its = sides[side]
        flops = sum(forward_flops(settings, *shape) for shape in its.shapes[call])
        places = sum(n * t for n, t in its.shapes[call])
        rows.append({
            **{"call": call, "model": name, "side": side, "seconds": seconds},
            **{"median_s": statistics.median(seconds), "places": places},
            "rows": config.texts if call == "encode" else config.batch * config.steps,
            "tokens": first.tokens[call],
            "padding_share": 1 - first.tokens[call] / places,
            "flops": flops * (1 if call == "encode" else 3),
            "agrees": bool(np.abs(its.embeddings - first.embeddings).max() < limit * scale)
            and abs(its.loss - first.loss) < limit * first.loss,
        })  # fmt: skip
    return rows


def ours(
    config: Config, model: Path, data: Any, corpus: list[str], *, source: str, packing: bool
) -> Side:
    """Builds the calls of one of our sides, and takes a first of each."""
    dtype = jnp.dtype(config.dtype)
    encoder = jaxembed.load(model, dropout=False, source=source, dtype=dtype)
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
        for entry in task.make(step).values():
            for block in blocks_of(entry):
                yield block["attention_mask"]


def theirs(config: Config, model: Path, data: Any, corpus: list[str], peer: Peer) -> Side:
    """Hands the same texts to the other interpreter."""
    limit = json.loads((model / "sentence_bert_config.json").read_text())["max_seq_length"]
    plan = BatchPlan(partial(plain_plan, len(data), batch_size=config.batch, seed=0))  # as ours
    ordered = data.select(np.concatenate([plan.rows(step) for step in range(config.steps)]))
    pairs = [list(ordered[name]) for name in ("query", "positive")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps({"corpus": corpus, "pairs": pairs}))
        answer = peer.ask(
            model=str(model),
            texts=str(file),
            batch=config.batch,
            dtype=config.dtype,
            learning_rate=LEARNING_RATE,
            lengths=[length for length in BUCKETS if length <= limit],
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
    """Compares our best with the peers; the targets are those of the first model."""
    targets = []
    models = list(dict.fromkeys(row["model"] for row in rows))
    for model, call in itertools.product(models, ("encode", "train")):
        its = {row["side"]: row for row in rows if (row["model"], row["call"]) == (model, call)}
        times = {side: row["median_s"] for side, row in its.items()}
        own = [side for side in times if side.startswith("ours")]
        best = min(own, key=times.__getitem__)
        for side, seconds in times.items():
            if not side.startswith("ours"):
                bound = BOUNDS.get(side) if model == models[0] else None
                what = f"{model}, {call}: {side} / {best}"
                targets.append(Target(what, seconds / times[best], at_least=bound))
    return targets


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    median = row["median_s"]
    return [
        *(row["call"], row["model"], row["side"]),
        spread(row["seconds"]) + ("" if row["agrees"] else ", values differ"),
        f"{row['rows'] / median:,.0f}",
        f"{row['tokens'] / median:,.0f}",
        f"{row['padding_share']:.0%}",
        f"{row['flops'] / median / 1e9:,.0f}",
        f"{row['share_of_limit']:.0%}",
    ]


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws the rows a second of all sides."""
    panels: dict[str, dict[str, float]] = {}
    for row in rows:
        what = "texts encoded a second" if row["call"] == "encode" else "pairs trained a second"
        panel = panels.setdefault(f"{what}, {row['model']}", {})
        panel[row["side"]] = row["rows"] / row["median_s"]
    plots.bars(file, panels)


if __name__ == "__main__":
    report.command(main, Config, __doc__)
