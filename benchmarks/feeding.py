"""Is the accelerator ever waiting for data? How long do plans take, and how fast are batches made?

Planning: from the texts of synthetic pairs to the batches of an epoch, none of which has a text
twice. Anchors are drawn from half as many texts as there are pairs, positives from as many, so that
nearly every batch meets duplicates. Beside ours the samplers of sentence-transformers, on
--peer-rows of the rows. One core.

Feeding: steps of all-MiniLM-L6-v2 on the embedded data as `scripts/train.py` takes them, their
batches made ahead by a thread, with the tokenizer at work and with the token cache. How much of the
time does the loop wait for `next(batches)`? The same for a device whose step takes --device-ms, for
which the loop sleeps. And how fast are batches made if nobody trains? Both sides' must be equal.

    python benchmarks/feeding.py --torch-python .venv-torch/bin/python   # with datasets and xxhash
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import report
from datasets import disable_progress_bars
from peer import ST, Peer
from report import Target
from sides import in_turns, spread
from text_speed import BUCKETS, LEARNING_RATE

import jaxembed
from jaxembed.data import bind_columns, load_batches, no_duplicates_plan, open_dataset, row_hashes
from jaxembed.encoders import Encoder
from jaxembed.encoders.token_cache import cache_tokens
from jaxembed.objectives import as_sum
from jaxembed.tasks import Networks, Task, open_task
from jaxembed.training import adamw, build_train_step, create_state, make_mesh
from jaxembed.typing import Roles

AHEAD = 2  # steps before the clock starts, in which the thread gets ahead
LIVE, CACHED = "tokenizer at work", "token cache"
OURS, FEWER = "no_duplicates_plan", "planning, fewer pairs"
SAMPLERS = {"NO_DUPLICATES": False, "NO_DUPLICATES_HASHED": True}  # the library's, whether hashed
QUICK: dict[str, Any] = {
    **{"rows": 4_000, "peer_rows": 1_000, "plan_batch": 64, "split": "train[:500]"},
    **{"batch": 8, "buckets": (64,), "steps": 2, "batches": 4, "rounds": 1},
}


@dataclass(frozen=True)
class Config:
    """Measures plans, batches and waiting."""

    torch_python: Path | None = None
    """The interpreter of an environment with sentence-transformers, datasets and xxhash."""
    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    rows: int = 1_000_000
    """Pairs that are planned."""
    peer_rows: int = 100_000
    """Of them, as many as the library plans, and ours once more."""
    plan_batch: int = 8192
    """Pairs of a planned batch."""
    split: str = "train"
    """The part of the embedded data that is trained on."""
    batch: int = 128
    """Pairs of a training step."""
    buckets: tuple[int, ...] = BUCKETS
    """Lengths that batches are padded to."""
    steps: int = 20
    """Training steps of a measurement."""
    batches: int = 200
    """Batches that are made alone, and steps that are slept, in a measurement."""
    device_ms: float = 10.0
    """How long a step is slept."""
    rounds: int = 3
    """Measurements of each side; the median counts."""
    quick: bool = False
    """Takes tiny sizes instead, to see it run."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all times are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if plans or batches are wrong."""
    disable_progress_bars()
    config = replace(config, **QUICK) if config.quick else config
    script = "sentence_transformers_sampler.py"
    peer = Peer(ST, config.torch_python, script) if config.torch_python else None
    machine = report.machine()
    rows = planned(config, peer)
    if peer:
        peer.close()
    rows += fed(config)
    for row in rows:
        row["median_s"] = statistics.median(row["seconds"])
    targets = held_to(config, rows)
    content: dict[str, Any] = {
        "question": "Is the accelerator ever waiting for data?",
        "settings": {name: getattr(config, name) for name in ("model", "device_ms", *QUICK)},
        "machine": machine,
        "versions": report.versions() | (peer.versions if peer else {}),
        "rows": rows,
    }
    columns = ["what", "side", "pairs", "seconds (min–max)", "pairs/s", "batches", "batches/s"]
    report.save(config.output, "feeding", content, columns, list(map(cells, rows)), targets)
    if wrong := [f"{row['what']}, {row['side']}" for row in rows if not row["right"]]:
        print(f"wrong: {'; '.join(wrong)}")
    return int(bool(wrong))


def planned(config: Config, peer: Peer | None) -> list[dict[str, Any]]:
    """Measures the plans of an epoch."""
    pairs = synthetic_pairs(config.rows)
    rows = [row_of_plan(config, pairs)]
    if peer is None:
        return rows
    few = pairs.select(range(min(config.peer_rows, len(pairs))))
    rows.append(row_of_plan(config, few) | {"what": FEWER})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.parquet"
        few.to_parquet(file)
        ask = partial(peer.ask, file=str(file), batch=config.plan_batch)
        for name, hashed in SAMPLERS.items():
            answers = [ask(hashed=hashed) for _ in range(config.rounds)]
            rows.append({
                **{"what": FEWER, "side": name, "pairs": len(few)},
                "seconds": [answer["seconds"] for answer in answers],
                "batches": len(answers[0]["sizes"]),
                "right": sum(answers[0]["sizes"]) == len(few),
            })  # fmt: skip
    return rows


def synthetic_pairs(n: int) -> Any:
    """Draws pairs of texts that repeat."""
    random = np.random.default_rng(0)
    anchors, positives = random.integers(0, max(n // 2, 1), n), random.integers(0, n, n)
    return open_dataset({
        "anchor": [f"what is known of the subject with the number {i}?" for i in anchors],
        "positive": [f"of number {i} a sentence or two say all that is known" for i in positives],
    })  # fmt: skip


def row_of_plan(config: Config, pairs: Any) -> dict[str, Any]:
    """Plans an epoch from the texts on, and looks for what a plan must not have."""
    rows = bind_columns(pairs, Roles(("anchors", "positives")))
    parts: dict[str, list[float]] = {"hashing_s": [], "planning_s": [], "processor_s": []}
    for _ in range(config.rounds):
        busy, begin = time.process_time(), time.perf_counter()
        hashes = row_hashes(rows)
        between = time.perf_counter()
        plan = no_duplicates_plan(hashes, config.plan_batch, seed=0, epoch=0)
        parts["hashing_s"].append(between - begin)
        parts["planning_s"].append(time.perf_counter() - between)
        parts["processor_s"].append(time.process_time() - busy)
    complete = np.array_equal(np.sort(plan[plan >= 0]), np.arange(len(rows)))
    return {
        **{"what": "planning", "side": OURS, "pairs": len(rows), **parts},
        "seconds": list(map(sum, zip(parts["hashing_s"], parts["planning_s"], strict=True))),
        "batches": len(plan),
        "right": complete and all(distinct(hashes[batch[batch >= 0]]) for batch in plan),
    }


def distinct(hashes: np.ndarray) -> bool:
    """Returns True if no text stands in two rows, `[n 2]`; twice in one is fine."""
    twice = hashes[:, 0] == hashes[:, 1]
    return len(np.unique(hashes)) == hashes.size - twice.sum()


def fed(config: Config) -> list[dict[str, Any]]:
    """Measures the steps of both sides, and the batches alone."""
    encoder = jaxembed.load(config.model, dropout=False)
    data = open_dataset("wordnet-gloss", split=config.split)
    live = task_of(encoder, data, config)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        for role in live.rows.text_roles:
            tokenizer, prompt = live.make.tokenizers[role]
            texts = live.rows.texts(role, range(len(live.rows)))
            cache = cache_tokens(tokenizer, texts, folder, prompt=prompt)
        filling = time.perf_counter() - begin
        cached_encoder = replace(encoder, tokenizer=encoder.tokenizer.with_cache(folder))
        tasks = {LIVE: live, CACHED: task_of(cached_encoder, data, config)}
        right = all(
            jax.tree.all(jax.tree.map(np.array_equal, live.make(step), tasks[CACHED].make(step)))
            for step in range(config.steps)
        )
        step, sleep = train_step(encoder, live), partial(time.sleep, config.device_ms / 1000)
        loop(live, config.steps, step)  # every shape is compiled
        rows = []
        for what, number, call in (
            ("training", config.steps, partial(loop, step=step)),
            ("training, slept", config.batches, partial(loop, step=lambda batch: sleep())),
            ("batches alone", config.batches, partial(loop, step=lambda batch: None)),
        ):
            calls = {name: partial(call, task, number) for name, task in tasks.items()}
            for name, measured in in_turns(calls, config.rounds).items():
                seconds, waited = map(list, zip(*measured, strict=True))
                row = {"what": what, "side": name, "pairs": number * config.batch}
                times = {"seconds": seconds, "waited_s": waited}
                rows.append({**row, "batches": number, "right": right, **times})
    row = {"what": "filling the cache", "side": CACHED, "pairs": len(live.rows), "batches": 0}
    return [*rows, {**row, "texts": len(cache), "seconds": [filling], "right": right}]


def task_of(encoder: Encoder, data: Any, config: Config) -> Task:
    """Opens the task as `scripts/train.py` does."""
    return open_task(
        Networks(encoder),
        as_sum("multiple_negatives_ranking"),
        data,
        batch_size=config.batch,
        buckets=config.buckets,
        split_lengths=True,
    )


def train_step(encoder: Encoder, task: Task) -> Callable[[Any], Any]:
    """Builds a training step that moves on its own state."""
    mesh = make_mesh(jax.devices()[:1])
    schedule = optax.constant_schedule(LEARNING_RATE)
    optimizer = adamw(schedule)
    compiled = build_train_step(
        task.objective.build(encoder.apply, mesh=mesh), optimizer, schedule, mesh
    )
    state = create_state({"encoder": encoder.params}, optimizer, mesh)

    def step(batch: Any) -> Any:
        nonlocal state
        state, metrics = compiled(state, batch, None)
        return metrics

    return step


def loop(task: Task, steps: int, step: Callable[[Any], Any]) -> tuple[float, float]:
    """Trains as the script does: it waits for a step while the next one runs.

    Returns the seconds of the steps, and those of them inside `next(batches)`.
    """
    batches = load_batches(task.make, start_step=0, n_steps=AHEAD + steps)
    pending, waited, begin = None, 0.0, time.perf_counter()
    for number in range(AHEAD + steps):
        if number == AHEAD:
            jax.block_until_ready(pending)
            waited, begin = 0.0, time.perf_counter()
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        metrics = step(batch)
        jax.block_until_ready(pending)
        pending = metrics
    jax.block_until_ready(pending)
    return time.perf_counter() - begin, waited


def held_to(config: Config, rows: list[dict[str, Any]]) -> list[Target]:
    """Compares with the targets, and side with side."""
    by_key = {(row["what"], row["side"]): row for row in rows}
    what = f"planning of {config.rows:,} pairs, seconds"
    targets = [Target(what, by_key["planning", OURS]["median_s"], at_most=60)]
    for name in SAMPLERS:
        if peer := by_key.get((FEWER, name)):
            ratio = peer["median_s"] / by_key[FEWER, OURS]["median_s"]
            targets.append(Target(f"{name} / ours, planning of {config.peer_rows:,} pairs", ratio))
    for what in ("training", "training, slept"):
        for side in (LIVE, CACHED):
            row = by_key[what, side]
            pairs = zip(row["waited_s"], row["seconds"], strict=True)
            share = statistics.median(waited / whole for waited, whole in pairs)
            bound = 0.02 if (what, side) == ("training", CACHED) else None
            targets.append(Target(f"share of waiting, {what}, {side}", share, at_most=bound))
    live, cached = (by_key["batches alone", side]["median_s"] for side in (LIVE, CACHED))
    return [*targets, Target(f"batches alone: {LIVE} / {CACHED}, time", live / cached)]


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    median = row["median_s"]
    return [
        *(row["what"], row["side"], f"{row['pairs']:,}"),
        spread(row["seconds"]) + ("" if row["right"] else ", wrong"),
        f"{row['pairs'] / median:,.0f}",
        f"{row['batches']:,}" if row["batches"] else "–",
        f"{row['batches'] / median:,.4g}" if row["batches"] else "–",
    ]


if __name__ == "__main__":
    report.command(main, Config, __doc__)
