"""Does every objective learn on real data within a few dozen steps?

Each entry of the registry trains an encoder by `jaxembed.fit`. Before and after, its loss is
computed over batches of rows held out, and the metric that it is for over more of these. It has
learned if the loss fell and the metric rose by 0.01 or more.

    python benchmarks/objectives_learn.py
    python benchmarks/objectives_learn.py --only triplet gist --seed 1

The tables are written after every run, and `--only` replaces rows in what is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import objectives_data as data
import report
from report import Target

import jaxembed
from jaxembed.data import load_batches, open_dataset
from jaxembed.encoders import Encoder, tied_decoder
from jaxembed.objectives import REGISTRY, Objective, WeightedSum, as_sum, named
from jaxembed.tasks import Networks, Tasks, open_task
from jaxembed.training import adamw, build_train_step, create_state, make_mesh, warmup_schedule
from jaxembed.typing import Params

LEAST_GAIN = 0.01  # of a metric, to call it learned
HELD_OUT_BATCHES = 8
ENDS = 5  # steps over which the first and the last training losses are averaged
WARMUP_SHARE, WEIGHT_DECAY, CLIP_NORM = 0.1, 0.01, 1.0  # as `fit` has them
NAME = "objectives_learn"
QUESTION = "Does every objective learn on real data within a few dozen steps?"


@dataclass(frozen=True)
class Run:
    """One short training.

    Attributes:
        name: of the objective, behind it after a comma what is special.
        data: of `objectives_data.DATA`; by task for several.
        measure: what is measured of the encoder; the first metric says whether it learned.
        metrics: of the objective, measured over the held-out batches; they come behind.
        loss: what `fit` takes; None is the objective of the name, with the settings.
        n_layers, initialize, pooling: as `load` takes them.
        network: the frozen network that it uses, "guide" or "teacher", the whole model.
        options: further ones of `fit`.
    """

    name: str
    data: str | Mapping[str, str]
    measure: Callable[..., data.Metrics]
    metrics: tuple[str, ...] = ()
    loss: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    n_layers: int = 2
    initialize: int | None = None
    pooling: str | None = None
    network: str | None = None
    steps: int = 60
    batch_size: int = 32
    learning_rate: float = 2e-4
    tokens: int = 32
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def losses(self) -> dict[str, WeightedSum]:
        """The losses by task; a single one has no name."""
        loss = self.loss or named(self.name.split(",")[0], **self.settings)
        return {name: as_sum(one) for name, one in by_task(loss).items()}


def by_task(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {"": value}


ranking = partial(Run, data="WordNet", measure=data.search)
similarity = partial(Run, data="STS-B", measure=data.correlation)
groups = partial(
    Run,
    data="20 Newsgroups",
    measure=data.neighbours,
    batch_size=40,
    tokens=48,
    options={"rows_per_label": 8},
)
pairs = partial(Run, data="WordNet, 2 labels", measure=data.separation)
unlabelled = partial(similarity, initialize=0)
distilled = partial(Run, data="STS-B", measure=data.agreement, network="teacher")

COSINE = {"distance_fn": "cosine", "margin": 0.2}
MNR, GOR = "multiple_negatives_ranking", "global_orthogonal_regularization"
NARROW = partial(data.search, dims=(64,))
DIMS = {"matryoshka_dims": (384, 192, 64)}

RUNS = (
    Run(
        "softmax",
        "WordNet, 3 labels",
        lambda *_: {},
        ("accuracy",),
        steps=100,
        batch_size=64,
    ),
    pairs("contrastive"),
    pairs("online_contrastive"),
    similarity("cosine_similarity"),
    similarity("cosent"),
    similarity("cosent, all layers", n_layers=6),
    similarity("angle"),
    groups("batch_all_triplet", settings=COSINE),
    groups("batch_hard_triplet", settings=COSINE),
    groups(
        "batch_hard_triplet, Euclidean",
        settings={"distance_fn": "euclidean", "margin": 0.5},
    ),
    groups("batch_hard_soft_margin_triplet", settings={"distance_fn": "cosine"}),
    groups("batch_semi_hard_triplet", settings=COSINE),
    ranking("triplet", settings={"distance_fn": "cosine", "margin": 0.2}),
    ranking(MNR, measure=NARROW),
    ranking(f"{MNR}, with negatives", options={"use_negatives": True}),
    ranking("multiple_negatives_symmetric_ranking"),
    ranking("cached_multiple_negatives_ranking", batch_size=64),
    ranking("cached_multiple_negatives_symmetric_ranking", batch_size=64),
    ranking("mega_batch_margin"),
    ranking("sigmoid"),
    ranking("gist_embed", network="guide"),
    ranking("cached_gist_embed", network="guide", batch_size=64),
    ranking("matryoshka", measure=NARROW, settings=DIMS),
    ranking(
        "matryoshka_2d",
        measure=partial(data.search_from_layer, layer=2, dim=64),
        settings=DIMS,
        n_layers=4,
    ),
    ranking("adaptive_layer", measure=partial(data.search_from_layer, layer=2), n_layers=4),
    ranking(GOR, metrics=(f"loss/{GOR}",), loss=(named(MNR), named(GOR))),
    similarity("denoising_auto_encoder"),
    unlabelled("denoising_auto_encoder, drawn"),
    unlabelled("denoising_auto_encoder, drawn, first token", pooling="cls", learning_rate=5e-4),
    similarity("contrastive_tension", settings={"scale": 10.0}, learning_rate=2e-5),
    unlabelled("contrastive_tension, drawn", settings={"scale": 10.0}),
    similarity("contrastive_tension_in_batch_negatives", learning_rate=2e-5),
    unlabelled("contrastive_tension_in_batch_negatives, drawn"),
    distilled("mse"),
    distilled("embed_distill"),
    distilled("distill_kl_div", settings={"temperature": 0.05}),
    distilled("margin_mse", data="WordNet"),
    Run(
        "two tasks",
        {"ranking": "WordNet", "senses": "WordNet, 3 labels"},
        data.search,
        loss={"ranking": MNR, "senses": "softmax"},
    ),
)


@dataclass(frozen=True)
class Config:
    """Trains with every objective and measures what was learned."""

    only: tuple[str, ...] = ()
    """Runs of these names, or whose name or data contains one of these."""
    steps: int | None = None
    """Steps of every run, instead of its own number."""
    seed: int = 0
    """Of the batches, of parameters that losses own, and of noise."""
    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it: what is trained the first layers of, and the
    guide and teacher."""
    wheels: Path = Path("runs/wheels")
    """Where fetched data is kept."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all losses are written."""


def main(config: Config) -> int:
    """Trains, measures and reports."""
    missing = REGISTRY.keys() - {one.name for run in RUNS for one in objectives_of(run)}
    if missing:
        raise ValueError(f"no run has the objectives {', '.join(sorted(missing))}")
    content: dict[str, Any] = {
        "question": QUESTION,
        "settings": {"model": config.model, "held_out_batches": HELD_OUT_BATCHES},
        "machine": report.machine(),
        "versions": report.versions(),
    }
    file = config.output / f"{NAME}.json"
    records = json.loads(file.read_text())["runs"] if file.exists() else []
    by_name = {record["name"]: record for record in records}
    for run in chosen(config.only):
        by_name[run.name] = record = train_and_measure(run, config)
        content["runs"] = [by_name[run.name] for run in RUNS if run.name in by_name]
        with contextlib.redirect_stdout(io.StringIO()):
            write(content, config)
        print(", ".join(cells(record)), flush=True)
        jax.clear_caches()
        gc.collect()
    write(content, config)
    return 0


def objectives_of(run: Run) -> list[Objective]:
    return [one for loss in run.losses.values() for one in loss.objectives]


def chosen(words: tuple[str, ...]) -> list[Run]:
    """Takes the runs of these names, or whose name or data contains a word; all without words."""
    found = {run.name for word in words for run in named_like(word)}
    return [run for run in RUNS if not words or run.name in found]


def named_like(word: str) -> list[Run]:
    """Finds the run of a name, or else those whose name or data contains it."""
    exact = [run for run in RUNS if run.name == word]
    texts = {run.name: (run.name, *by_task(run.data).values()) for run in RUNS}
    found = exact or [run for run in RUNS if any(word in text for text in texts[run.name])]
    if not found:
        raise ValueError(f"no run is named like {word!r}: {', '.join(texts)}")
    return found


def train_and_measure(run: Run, config: Config) -> dict[str, Any]:
    """Returns all about a run: losses of its steps, loss and metrics before and after."""
    run = dataclasses.replace(run, steps=config.steps or run.steps)
    sets = {task: data.open_data(name, config.wheels) for task, name in by_task(run.data).items()}
    networks, whole = load_networks(run, config.model)
    tasks, held_out = (
        open_tasks(run, networks, {task: getattr(one, part) for task, one in sets.items()}, config)
        for part in ("train", "held_out")
    )
    compute = computation(held_out)
    rows = next(iter(sets.values())).held_out

    def measure(params: Params) -> tuple[float, data.Metrics]:
        loss, metrics = compute(params)
        trained = dataclasses.replace(networks.encoder, params=params["encoder"])
        of_run = {name: metrics[name] for name in run.metrics}
        return loss, run.measure(trained, rows, whole) | of_run

    root_key, init_key = jax.random.split(jax.random.key(config.seed))  # as `fit` does
    params = tasks.init(init_key)
    before = measure(params)
    begin = time.perf_counter()
    if "loss" in params:
        params, losses = fit_with_own(run, tasks, params, root_key)
    else:
        columns = {task: one.train for task, one in sets.items()}
        params, losses = fit(run, networks, columns, config.seed)
    seconds = time.perf_counter() - begin
    return record_of(run, config.seed, losses, before, measure(params)) | {"seconds": seconds}


def record_of(
    run: Run,
    seed: int,
    losses: list[float],
    before: tuple[float, data.Metrics],
    after: tuple[float, data.Metrics],
) -> dict[str, Any]:
    """Puts together what is kept of a run, and says whether it learned."""
    metrics = {name: (value, after[1][name]) for name, value in before[1].items()}
    first, last = next(iter(metrics.values()))
    return {
        "name": run.name,
        "loss": {task: loss.name for task, loss in run.losses.items()},
        "settings": {name: str(value) for name, value in run.settings.items()},
        "data": " + ".join(by_task(run.data).values()),
        "model": f"{run.n_layers} layers" + ("" if run.initialize is None else ", drawn"),
        "pooling": run.pooling,
        "steps": run.steps,
        "batch_size": run.batch_size,
        "learning_rate": run.learning_rate,
        "seed": seed,
        "train_losses": losses,
        "held_out_loss": (before[0], after[0]),
        "metrics": metrics,
        "learned": after[0] < before[0] and last - first >= LEAST_GAIN,
    }


def load_networks(run: Run, model: str) -> tuple[Networks, Encoder | None]:
    """Loads what is trained and what it learns from, which comes again as the second."""
    encoder = load(model, run.tokens, run.n_layers, run.initialize, run.pooling)
    decoded = any(one.decoded for one in objectives_of(run))
    networks = Networks(encoder, decoder=tied_decoder(encoder) if decoded else None)
    if run.network is None:
        return networks, None
    whole = load(model, run.tokens)
    return dataclasses.replace(networks, **{run.network: whole}), whole


@functools.cache
def load(
    model: str,
    tokens: int,
    n_layers: int | None = None,
    initialize: int | None = None,
    pooling: str | None = None,
) -> Encoder:
    return jaxembed.load(
        model,
        max_seq_length=tokens,
        dropout=False,
        n_layers=n_layers,
        initialize=initialize,
        pooling=pooling,
    )


def fit(
    run: Run, networks: Networks, columns: Mapping[str, data.Columns], seed: int
) -> tuple[Params, list[float]]:
    """Trains by the library's own call."""
    losses: list[float] = []
    single = "" in run.losses
    trained = jaxembed.fit(
        networks.encoder,
        run.losses[""] if single else run.losses,
        columns[""] if single else columns,
        **networks.frozen,
        batch_size=run.batch_size,
        steps=run.steps,
        learning_rate=run.learning_rate,
        seed=seed,
        on_step=lambda step, metrics: losses.append(metrics["loss"]),
        buckets=(run.tokens,),
        **run.options,
    )
    return {"encoder": trained.params}, losses


def fit_with_own(
    run: Run, tasks: Tasks, params: Params, root_key: jax.Array
) -> tuple[Params, list[float]]:
    """Trains as `fit` does, and returns the parameters that losses own too."""
    mesh = make_mesh()
    warmup_steps = int(WARMUP_SHARE * run.steps)
    schedule = warmup_schedule(run.learning_rate, steps=run.steps, warmup_steps=warmup_steps)
    optimizer = adamw(schedule, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM)
    state = create_state(params, optimizer, mesh, frozen=tasks.networks.frozen_params)
    step = build_train_step(tasks.build(mesh=mesh), optimizer, schedule, mesh)
    losses = []
    for batch in load_batches(tasks, start_step=0, n_steps=run.steps):
        state, metrics = step(state, batch, root_key)
        losses.append(float(metrics["loss"]))
    return state.params, losses


def open_tasks(
    run: Run, networks: Networks, columns: Mapping[str, data.Columns], config: Config
) -> Tasks:
    """Opens the tasks of a run over these columns."""
    options = {"batch_size": run.batch_size, "buckets": (run.tokens,), "seed": config.seed}
    tasks = {
        task: open_task(networks, loss, open_dataset(columns[task]), **options, **run.options)
        for task, loss in run.losses.items()
    }
    return Tasks(networks, tasks, seed=config.seed)


def computation(tasks: Tasks) -> Callable[[Params], tuple[float, data.Metrics]]:
    """Makes the function of parameters to the mean loss, and metrics, of the first batches."""
    objective = jax.jit(tasks.build())
    n_batches = min(HELD_OUT_BATCHES, *(task.plan.n_steps(1) for task in tasks.tasks.values()))
    batches = [
        {task: one.make(number) for task, one in tasks.tasks.items()} for number in range(n_batches)
    ]
    frozen = tasks.networks.frozen_params

    def compute(params: Params) -> tuple[float, data.Metrics]:
        found = []
        for number, by_task in enumerate(batches):
            batch = by_task if tasks.single is None else by_task[""]
            key = jax.random.key(number)  # some draw widths and layers
            loss, (metrics, _) = objective(params, batch, key=key, frozen=frozen)
            found.append({"loss": loss, **metrics})
        means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        return means.pop("loss"), means

    return compute


def write(content: dict[str, Any], config: Config) -> None:
    """Writes and prints the table, and what two runs say together."""
    columns = ["objective", "data", "model", "steps", "training loss, first → last"]
    columns += ["held-out loss", "metric", "before → after", "s", "learned"]
    rows = content["runs"]
    learned = sum(row["learned"] for row in rows) / len(rows)
    targets = [Target(f"share of {len(rows)} runs that learned", learned)]
    with_, without = (
        next((row["metrics"] for row in rows if row["name"] == name), None)
        for name in ("matryoshka", MNR)
    )
    if with_ and without:
        for metric in (name for name in with_ if name in without):
            more = with_[metric][1] - without[metric][1]
            targets.append(Target(f"{metric}, with matryoshka less without", more))
    report.save(config.output, NAME, content, columns, [cells(row) for row in rows], targets)


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    losses = row["train_losses"]
    ends = np.mean(losses[:ENDS]), np.mean(losses[-ENDS:])
    metrics = row["metrics"]
    return [
        row["name"],
        row["data"],
        row["model"],
        str(row["steps"]),
        arrow(*ends, digits=4),
        arrow(*row["held_out_loss"], digits=4),
        "; ".join(metrics),
        "; ".join(f"{one:.3f} → {other:.3f}" for one, other in metrics.values()),
        f"{row['seconds']:.0f}",
        "yes" if row["learned"] else "NO",
    ]


def arrow(before: float, after: float, *, digits: int) -> str:
    return f"{before:.{digits}g} → {after:.{digits}g}"


if __name__ == "__main__":
    report.command(main, Config, __doc__)
