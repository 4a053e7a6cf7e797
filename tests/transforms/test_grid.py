"""The grid: every loss, transformed in every way, on one device and on two, against plain loops.

The loops are in NumPy and float64: over the rows that are left by the mask, over widths and layers,
with the losses' own references. Gradients are compared with central differences of the loops. The
fast lane covers the grid, the exhaustive lane computes all of it: see `is_fast`.
"""

import functools
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxembed.losses
import jaxembed.losses.reranking
from jaxembed.transforms.adaptive_layer import adaptive_layer
from jaxembed.transforms.cached import cached
from jaxembed.transforms.matryoshka import matryoshka
from jaxembed.transforms.over_mesh import over_mesh
from tests.losses.cases import Case, loss_name
from tests.transforms.grid_cells import (
    CACHED,
    CELLS,
    DEVICES,
    GRID,
    LOGITS,
    OF_LAYERS,
    OF_WIDTHS,
    REASONS,
    SCORES,
    WAYS,
    WIDTH,
    WORDS,
    is_fast,
)

exhaustive = pytest.mark.exhaustive
N, LAYERS, STEP = 8, 3, 1e-6
WHERE = np.array([1, 1, 0, 1, 1, 1, 1, 1], bool)
DIMS, WEIGHTS = (6, 3), (1.0, 0.5)
LAST, PRIOR, KL, TEMPERATURE = 0.7, 1.3, 0.4, 1.5


def inputs(case: Case):
    """Columns, entries per row without the mask, and parameters: of the encoder and the loss."""
    columns, rows = case.inputs(N)
    rng = np.random.default_rng(0)
    encoder = rng.uniform(0.5, 1.5, size=(LAYERS, *columns[0].shape[1:][-1:]))
    return columns, rows, {"encoder": encoder, "own": case.parameters(rng)}


def column_names(case: Case) -> list[str]:
    parameters = inspect.signature(case.loss).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def has_kl(case: Case) -> bool:
    """The KL term refuses masks of tokens, so there it is left out."""
    return not any(name.endswith("_mask") for name in case.inputs(N)[1])


# The plainest way.


def loop_over_layers(case: Case, way: str, params, constant) -> float:
    """The loss; `constant` are the parameters that make the teacher of the KL term."""
    columns, rows, _ = inputs(case)
    columns, rows = jax.tree.map(lambda x: x[WHERE], (columns, rows))

    def loss(layer: int) -> float:
        embeddings = [states(x, params)[layer] for x in columns]
        if way not in OF_WIDTHS:
            return case.reference(*embeddings, **rows, **params["own"], **case.settings)
        return loop_over_widths(case, embeddings, rows, params["own"])

    if way not in OF_LAYERS:
        return loss(-1)
    total = LAST * loss(-1)
    for layer in range(LAYERS - 1):
        total += PRIOR / (1 + layer) / (LAYERS - 1) * loss(layer)
        if has_kl(case):
            teachers = [states(x, constant)[-1] for x in columns]
            students = [states(x, params)[layer] for x in columns]
            total += KL * TEMPERATURE * mean_divergence(case, teachers, students, rows)
    return total


def loop_over_widths(case: Case, embeddings, rows, own) -> float:
    total = 0.0
    for width, weight in zip(DIMS, WEIGHTS, strict=True):
        units = [x[..., :width] for x in embeddings]
        units = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in units]
        cut = {name: x[..., :width] if name == "teacher" else x for name, x in rows.items()}
        total += weight * case.reference(*units, **cut, **own, **case.settings)
    return total


def mean_divergence(case: Case, teachers, students, rows) -> float:
    values = []
    names = [*column_names(case), *[""] * len(teachers)]
    for name, teacher, student in zip(names, teachers, students, strict=False):
        for place in np.ndindex(teacher.shape[:-1]):
            if f"{name}_where" not in rows or rows[f"{name}_where"][place]:
                p, q = (np.exp(x[place] / TEMPERATURE) for x in (teacher, student))
                p, q = p / p.sum(), q / q.sum()
                values.append(np.sum(p * np.log(p / q)))
    return float(np.mean(values))


def states(x, params):
    """What the encoder's layers give."""
    layers = []
    for kernel in params["encoder"]:
        x = x + np.tanh(x * kernel)
        layers.append(x)
    return layers


@functools.cache
def expected(case: Case, way: str):
    """The value, and directions with the slopes along them."""
    *_, params = inputs(case)
    rng = np.random.default_rng(1)

    def moved(direction, step):
        params_there = jax.tree.map(lambda p, d: p + step * d, params, direction)
        return loop_over_layers(case, way, params_there, params)

    directions = [jax.tree.map(lambda p: rng.normal(size=p.shape), params) for _ in range(2)]
    slopes = [(moved(d, STEP) - moved(d, -STEP)) / (2 * STEP) for d in directions]
    return loop_over_layers(case, way, params, params), directions, slopes


# The package's way.


def encode(params, tokens, *, key=None):
    """Treats every number by itself, so that rows may have any shape."""
    x = tokens["x"]
    for kernel in params:
        x = x + jnp.tanh(x * kernel)
    return x


def encode_layers(params, tokens, *, key=None):
    """The embeddings of all layers, on the last axis but one."""
    return jnp.stack([encode(params[: l + 1], tokens) for l in range(LAYERS)], axis=-2)


def transformed(case: Case, way: str, mesh):
    """The loss, and the encode function that goes with it."""
    loss: Any = functools.partial(case.loss, **case.settings)
    if "axis_name" in inspect.signature(loss).parameters:
        if mesh is not None:
            loss = over_mesh(loss, mesh, block_size=4)
        elif way != "plain":
            loss = functools.partial(loss, block_size=3)
    if way in OF_WIDTHS:
        truncate = tuple({"teacher"} & {*case.inputs(N)[1]})
        loss = matryoshka(loss, DIMS, WEIGHTS, truncate=truncate)
    if way in OF_LAYERS:
        kl = KL if has_kl(case) else 0.0
        loss = adaptive_layer(loss, -1, LAST, PRIOR, kl, TEMPERATURE, layer_weighting="linear")
    encoder = encode_layers if way in OF_LAYERS else encode
    return loss, cached(encoder, 3, mesh=mesh) if way in CACHED else encoder


def computed(case: Case, way: str, devices: int):
    """Value and gradient, in float64."""
    columns, rows, params = inputs(case)
    rows = {**rows, "where": case.expand_where(WHERE, (columns, rows))}
    arrays = jax.tree.map(jnp.asarray, (params, columns, rows))
    mesh = None
    if devices == 2:
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        everywhere, by_row = (NamedSharding(mesh, PartitionSpec(*x)) for x in ((), ("data",)))
        arrays = jax.device_put(arrays, (everywhere, by_row, by_row))
    loss, encoder = transformed(case, way, mesh)

    def value(params, columns, rows):
        embeddings = [encoder(params["encoder"], {"x": x}) for x in columns]
        return loss(*embeddings, **rows, **params["own"])

    return jax.jit(jax.value_and_grad(value))(*arrays)


def cell_id(cell) -> str:
    case, way, devices = cell
    return f"{loss_name(case)}-{way}-{devices}_device{'s' * (devices > 1)}"


@pytest.mark.parametrize(
    ("case", "way", "devices"),
    [
        pytest.param(*cell, id=cell_id(cell), marks=[] if is_fast(*cell) else exhaustive)
        for cell in CELLS
    ],
)
def test_grid(case, way, devices):
    value, directions, slopes = expected(case, way.removeprefix("cached_over_"))
    with jax.enable_x64(True):
        actual, gradient = computed(case, way, devices)
    assert actual.dtype == jnp.float64
    assert value != 0
    np.testing.assert_allclose(actual, value, rtol=1e-9)
    for direction, slope in zip(directions, slopes, strict=True):
        products = jax.tree.map(np.vdot, gradient, direction)
        assert slope != 0
        along, atol = sum(jax.tree.leaves(products)), 1e-9 * abs(value)  # rounding of the loops
        np.testing.assert_allclose(along, slope, rtol=1e-6, atol=atol)


def test_every_public_loss_has_a_test_or_a_reason_for_every_way():
    public = {
        prefix + name
        for prefix, module in (("", jaxembed.losses), ("reranking.", jaxembed.losses.reranking))
        for name, value in vars(module).items()
        if name.endswith("_loss") and inspect.isfunction(value)
    }
    tested = [(loss_name(case), way, devices) for case, way, devices in CELLS]
    listed = [(*cell, devices) for cell in REASONS for devices in DEVICES]
    assert sorted(tested + listed) == sorted(itertools.product(public, WAYS, DEVICES))


def test_losses_listed_for_their_columns_are_those_whose_columns_are_no_embeddings():
    def reason(case: Case) -> str | None:
        columns, _ = case.inputs(N)
        if all(np.all(x >= 0) and np.mean(x == 0) > 0.3 for x in columns):
            return WORDS
        kinds = {"scores": SCORES, "logits": LOGITS}
        return next((kinds[name] for name in column_names(case) if name in kinds), None)

    found = {name: reason(case) for name, case in GRID.items()}
    listed = {name: reason for (name, _), reason in REASONS.items() if reason != WIDTH}
    assert {name: reason for name, reason in found.items() if reason} == listed


@pytest.mark.parametrize(
    ("case", "way"),
    [
        pytest.param(GRID[name], way, id=f"{name}-{way}")
        for (name, way), reason in REASONS.items()
        if reason == WIDTH
    ],
)
def test_losses_listed_for_their_width_are_refused_at_another(case, way):
    with jax.enable_x64(True), pytest.raises(ValueError, match="not on the first 3: arrays in"):
        computed(case, way, devices=1)
