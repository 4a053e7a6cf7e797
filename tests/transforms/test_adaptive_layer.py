"""Adaptive layers, and 2D-Matryoshka, against the plainest loops over layers and widths."""

import functools
import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxembed import losses
from jaxembed.mesh_axes import Ring
from jaxembed.transforms.adaptive_layer import adaptive_layer
from jaxembed.transforms.matryoshka import matryoshka
from tests.arrays import cast
from tests.compiling import counted
from tests.losses.cases import CASES

pytestmark = pytest.mark.usefixtures("strict_promotion")

N, D, LAYERS = 8, 6, 4
WHERE = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)
BY_NAME = {case.name: case for case in CASES}
ranking = losses.multiple_negatives_ranking_loss


def layered_inputs(case, layers=LAYERS):
    """The columns `[... l d]`, every layer drawn by itself, and the entries per row."""
    of_layers = [case.inputs(N, seed) for seed in range(layers)]
    columns = [np.stack(column, axis=-2) for column in zip(*(x for x, _ in of_layers), strict=True)]
    return columns, of_layers[0][1]


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def divergence(last, layer, mask, temperature):
    """The mean of the KL divergences of single vectors, those of which the mask says True."""
    values = []
    for name, x in layer.items():
        for place in np.ndindex(x.shape[:-1]):
            if name not in mask or mask[name][place]:
                p, q = (softmax(y[place] / temperature) for y in (last[name], x))
                values.append(np.sum(p * np.log(p / q)))
    return np.mean(values)


def expected(case, columns, rows, chosen, *, weights, last=1.0, prior=1.0, kl=1.0, tau=0.3):
    """The plain sum over the chosen layers."""
    names = list(inspect.signature(case.loss).parameters)
    mask = {name.removesuffix("_where"): rows[name] for name in rows if name.endswith("_where")}

    def at(layer):
        return {name: x[..., layer, :] for name, x in zip(names, columns, strict=False)}

    def loss(layer):
        return case.reference(*at(layer).values(), **rows, **case.settings)

    total = last * loss(-1)
    for layer in chosen:
        total += prior * weights(layer) / len(chosen) * loss(layer)
        total += kl * tau * divergence(at(-1), at(layer), mask, tau)
    return total


def pair(layers=LAYERS, n=N, d=D):
    return jax.random.normal(jax.random.key(0), (2, n, layers, d))


TESTED = {
    "multiple_negatives_ranking_loss-ids_of_negatives": {},
    "cosent_loss-default": {"kl_div_weight": 2.0, "kl_temperature": 1.5},
    "mse_loss-default": {"last_layer_weight": 0.5, "prior_layers_weight": 3.0},
    "gist_embed_loss-relative_margin_and_negatives": {"layer_weighting": "log"},
    "batch_all_triplet_loss-default": {"layer_weighting": "linear"},
    "angle_loss-odd_width": {"layer_weighting": lambda layer: layer**2},
    "triplet_loss-cosine": {"kl_div_weight": 0.3},
    "triplet_loss-default": {},
    "distill_kl_div_loss-temperatures": {"kl_temperature": 0.7},
}
WEIGHTINGS = {
    "uniform": lambda layer: 1.0,
    "log": lambda layer: 1 / (1 + math.log(1 + layer)),
    "linear": lambda layer: 1 / (1 + layer),
}
SHORT = {
    "last_layer_weight": "last",
    "prior_layers_weight": "prior",
    "kl_div_weight": "kl",
    "kl_temperature": "tau",
}


@pytest.mark.parametrize("name", TESTED)
def test_loss_of_all_layers_is_the_sum_over_the_rows_and_negatives_that_are_real(name):
    case, choices = BY_NAME[name], dict(TESTED[name])
    columns, rows = layered_inputs(case)
    weighting = choices.pop("layer_weighting", "uniform")
    real_columns, real_rows = jax.tree.map(lambda x: x[WHERE], (columns, rows))
    weights = WEIGHTINGS.get(weighting, weighting) if isinstance(weighting, str) else weighting
    short = {SHORT[key]: value for key, value in choices.items()}
    total = expected(case, real_columns, real_rows, range(LAYERS - 1), weights=weights, **short)
    for x in columns:
        x[~WHERE] = np.nan
    if "negatives_where" in rows:
        columns[2][~rows["negatives_where"]] = np.nan
    loss = adaptive_layer(
        functools.partial(case.loss, **case.settings),
        n_layers_per_step=-1,
        layer_weighting=weighting,
        **choices,
    )

    def compute(columns, rows):
        return loss(*columns, **rows, where=jnp.asarray(WHERE))

    with jax.enable_x64(True):
        value, gradients = jax.jit(jax.value_and_grad(compute))(*cast((columns, rows), jnp.float64))
    np.testing.assert_allclose(value, total, rtol=1e-9)
    for x, gradient in zip(columns, map(np.asarray, gradients), strict=True):
        assert np.all(gradient[np.isnan(x)] == 0)
        assert np.all(np.isfinite(gradient))
        assert np.all(np.any(gradient[WHERE] != 0, axis=-1).any(axis=tuple(range(x.ndim - 2))))


def test_gradient_equals_finite_differences():
    case = BY_NAME["cosent_loss-default"]
    with jax.enable_x64(True):
        columns, rows = cast(layered_inputs(case), jnp.float64)
        loss = adaptive_layer(case.loss, layer_weighting="linear")
        last = [x[:, -1:] for x in columns]

        @jax.jit
        def compute(prior):  # the last layer is a constant to the KL term
            of_all = [jnp.concatenate(x, axis=1) for x in zip(prior, last, strict=True)]
            return loss(*of_all, **rows, key=jax.random.key(1))

        prior = [x[:, :-1] for x in columns]
        check_grads(compute, (prior,), 1, modes=("fwd", "rev"), eps=1e-5, rtol=1e-5)


def test_kl_term_has_no_gradient_for_the_last_layer():
    left, right = pair()
    loss = adaptive_layer(ranking, n_layers_per_step=-1, last_layer_weight=0.5, kl_div_weight=7.0)
    gradient = jax.jit(jax.grad(loss))(left, right)
    alone = 0.5 * jax.jit(jax.grad(ranking))(left[:, -1], right[:, -1])
    np.testing.assert_allclose(gradient[:, -1], alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "off", [{"kl_temperature": 0.0}, {"kl_temperature": -1}, {"kl_div_weight": 0}]
)
def test_without_kl_the_loss_is_that_of_the_layers_and_may_be_per_row(off):
    left, right = pair()
    loss = adaptive_layer(ranking, n_layers_per_step=-1, **off)
    total = ranking(left[:, -1], right[:, -1])
    total += sum(ranking(left[:, l], right[:, l]) for l in range(LAYERS - 1)) / (LAYERS - 1)
    np.testing.assert_allclose(loss(left, right), total, rtol=1e-6)
    values = loss(left, right, reduce_fn=None)
    assert values.shape == (N,)
    np.testing.assert_allclose(values.mean(), total, rtol=1e-6)


@pytest.mark.parametrize("n_layers_per_step", [0, LAYERS - 1, 99])
def test_all_layers_need_no_key(n_layers_per_step):
    left, right = pair()
    loss = adaptive_layer(ranking, n_layers_per_step)(left, right)
    np.testing.assert_allclose(loss, adaptive_layer(ranking, -1)(left, right), rtol=1e-6)


def test_single_layer_is_the_loss_alone():
    left, right = pair(layers=1)
    loss = adaptive_layer(ranking, last_layer_weight=2.0)(left, right)
    np.testing.assert_allclose(loss, 2 * ranking(left[:, 0], right[:, 0]), rtol=1e-6)


def test_weights_and_temperature_may_be_arrays():
    left, right = pair()

    def loss(weight, temperature):
        choices = {"prior_layers_weight": weight, "kl_div_weight": weight}
        return adaptive_layer(ranking, -1, weight, **choices, kl_temperature=temperature)(
            left, right
        )

    mapped = jax.jit(jax.vmap(loss))(jnp.array([0.0, 2.0]), jnp.array([0.3, 0.9]))
    np.testing.assert_allclose(mapped[0], 0, atol=1e-6)
    np.testing.assert_allclose(mapped[1], loss(2.0, 0.9), rtol=1e-5)


@pytest.mark.parametrize("n_layers_per_step", [1, 2])
def test_every_choice_of_layers_is_equally_likely(n_layers_per_step):
    left, right = pair()
    keys = jax.random.split(jax.random.key(0), 600)
    loss = adaptive_layer(ranking, n_layers_per_step)
    values = jax.jit(jax.vmap(lambda key: loss(left, right, key=key)))(keys)
    last = ranking(left[:, -1], right[:, -1])
    one = [[l, LAYERS - 1] for l in range(LAYERS - 1)]
    terms = [adaptive_layer(ranking)(left[:, l], right[:, l]) - last for l in map(jnp.array, one)]
    priors = [ranking(left[:, l], right[:, l]) for l in range(LAYERS - 1)]
    choices = [last + term for term in terms]
    if n_layers_per_step == 2:
        pairs = [(0, 1), (0, 2), (1, 2)]
        choices = [last + terms[i] + terms[j] - (priors[i] + priors[j]) / 2 for i, j in pairs]
    distances = np.abs(np.asarray(values)[:, None] - np.array(choices))
    np.testing.assert_array_less(distances.min(axis=1), 1e-5)
    counts = np.bincount(distances.argmin(axis=1), minlength=3)
    assert np.all(np.abs(counts - 200) < 50)


def test_one_program_computes_one_layer_at_a_time():
    left, right = pair()
    computed = []

    def loss(left, right):
        jax.debug.callback(lambda x: computed.append(int(x)), left[0, 0])
        return ranking(left, right)

    numbered = left.at[:, :, 0].set(jnp.arange(LAYERS, dtype=float)[None])
    traces: list[Any] = []
    compute = jax.jit(counted(adaptive_layer(loss, n_layers_per_step=2), traces))
    drawn = set()
    for seed in range(8):
        compute(numbered, right, key=jax.random.key(seed))
        jax.effects_barrier()
        drawn.add(tuple(sorted(computed)))
        computed.clear()
    assert drawn == {(0, 1, 3), (0, 2, 3), (1, 2, 3)}
    assert len(traces) == 1


def test_neither_program_nor_memory_grow_with_the_layers_chosen():
    left, right = pair(layers=9, n=256)

    def cost(loss):
        step = jax.grad(lambda x, key: loss(x, right, key=key))
        lowered = jax.jit(step).lower(left, jax.random.key(0))
        compiled: Any = lowered.compile()
        return lowered.as_text().count("\n"), compiled.memory_analysis().temp_size_in_bytes

    lines, memory = cost(adaptive_layer(ranking, n_layers_per_step=2))
    more_lines, more_memory = cost(adaptive_layer(ranking, n_layers_per_step=7))
    assert more_lines < 1.02 * lines
    assert more_memory < 1.3 * memory


def test_bfloat16_columns_are_raised_first():
    left, right = pair().astype(jnp.bfloat16)
    loss = adaptive_layer(ranking)
    compute = jax.jit(jax.value_and_grad(lambda x: loss(x, right, key=jax.random.key(1))))
    (value, gradient), (raised, _) = compute(left), compute(left.astype(jnp.float32))
    assert value.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, raised, rtol=1e-6)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_two_devices_compute_what_one_does(axis_type):
    left, right = pair()
    where = jnp.asarray(WHERE)
    loss = adaptive_layer(matryoshka(ranking, (4, 2), n_dims_per_step=1), n_layers_per_step=2)
    compute = jax.jit(jax.value_and_grad(lambda x, y, w, key: loss(x, y, where=w, key=key)))
    total, gradient = compute(left, right, where, jax.random.key(2))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        rows = jax.device_put((left, right, where), NamedSharding(mesh, PartitionSpec("data")))
        actual, actual_gradient = compute(*rows, jax.random.key(2))
    np.testing.assert_allclose(actual, total, rtol=1e-5)
    np.testing.assert_allclose(actual_gradient, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis_name", ["data", Ring("data")])
@pytest.mark.parametrize("check_vma", [True, False])
def test_device_by_device_the_kl_term_is_that_of_all_rows(axis_name, check_vma):
    left, right = pair()
    where = jnp.asarray(WHERE).at[0].set(False)  # not equally many rows on both
    loss = adaptive_layer(ranking, n_layers_per_step=2)
    alone = functools.partial(loss, key=jax.random.key(0))
    rows = PartitionSpec("data")
    by_device = jax.shard_map(
        lambda x, y, where: alone(x, y, where=where, axis_name=axis_name),
        mesh=jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(rows, rows, rows),
        out_specs=PartitionSpec(),
        check_vma=check_vma,
    )
    expected = jax.jit(jax.value_and_grad(lambda x, y: alone(x, y, where=where), (0, 1)))(
        left, right
    )
    actual = jax.jit(jax.value_and_grad(lambda x, y: by_device(x, y, where), (0, 1)))(left, right)
    equal = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(equal, actual, expected)


def test_2d_matryoshka_of_everything_is_the_sum_over_layers_and_widths():
    left, right = pair()
    loss = adaptive_layer(matryoshka(ranking, (6, 2), (1.0, 0.5)), -1, layer_weighting="log")

    def both_widths(layer):
        unit = lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
        x, y = left[:, layer], right[:, layer]
        return ranking(unit(x), unit(y)) + 0.5 * ranking(unit(x[:, :2]), unit(y[:, :2]))

    total = both_widths(-1)
    columns = [
        dict(zip(("left", "right"), x, strict=True))
        for x in np.moveaxis(np.asarray([left, right]), 2, 0)
    ]
    for layer in range(LAYERS - 1):
        total += both_widths(layer) / (1 + math.log(1 + layer)) / (LAYERS - 1)
        total += 0.3 * divergence(columns[-1], columns[layer], {}, 0.3)
    np.testing.assert_allclose(loss(left, right), total, rtol=1e-5)


def test_2d_matryoshka_draws_widths_anew_for_every_layer():
    left, right = pair(layers=3)
    dims = (6, 2)
    loss = adaptive_layer(matryoshka(ranking, dims, n_dims_per_step=1), kl_div_weight=0)
    keys = jax.random.split(jax.random.key(0), 800)
    values = jax.jit(jax.vmap(lambda key: loss(left, right, key=key)))(keys)
    at = [[matryoshka(ranking, [k])(left[:, l], right[:, l]) for k in dims] for l in range(3)]
    choices = [last + prior for last in at[2] for layer in at[:2] for prior in layer]
    distances = np.abs(np.asarray(values)[:, None] - np.array(choices))
    np.testing.assert_array_less(distances.min(axis=1), 1e-5)
    counts = np.bincount(distances.argmin(axis=1), minlength=8)
    assert np.all(np.abs(counts - 100) < 45)


def test_wrapped_loss_looks_like_the_loss_with_a_key():
    loss: Any = adaptive_layer(losses.mse_loss)
    parameters = inspect.signature(loss).parameters
    assert [*parameters] == [*inspect.signature(losses.mse_loss).parameters, "key"]
    assert loss.__name__ == "mse_loss"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"n_layers_per_step": -2}, "n_layers_per_step must be 1 or more, or -1 for all; got -2"),
        ({"last_layer_weight": -1.0}, "last_layer_weight must not be below 0; got -1.0"),
        ({"prior_layers_weight": -1}, "prior_layers_weight must not be below 0; got -1"),
        ({"kl_div_weight": -0.5}, "kl_div_weight must not be below 0; got -0.5"),
        ({"layer_weighting": "exp"}, r"one of \['uniform', 'log', 'linear'\] or a fun.*'exp'"),
        ({"layer_weighting": None}, "or a function of the layer's number; got None"),
    ],
)
def test_unknown_choices_are_refused_at_once(choices, message):
    with pytest.raises(ValueError, match=message):
        adaptive_layer(ranking, **choices)


def test_layer_weighting_that_gives_less_than_0_is_refused():
    loss = adaptive_layer(ranking, -1, layer_weighting=lambda layer: 1 - layer)
    with pytest.raises(ValueError, match=r"must not give less than 0; got -1\.0 for 2"):
        loss(*pair())


def test_embeddings_of_one_layer_are_refused_with_the_remedy():
    left, right = pair()
    message = r"\[n l d\] for a column: use an encode function that returns them; multiple_neg"
    with pytest.raises(ValueError, match=message):
        adaptive_layer(ranking, -1)(left[:, -1], right[:, -1])


def test_columns_with_different_numbers_of_layers_are_refused():
    left, right = pair()
    with pytest.raises(ValueError, match=r"same number of layers, .* 'positives': \(8, 3, 6\)"):
        adaptive_layer(ranking, -1)(left, right[:, 1:])


def test_drawing_without_a_key_names_the_remedy():
    with pytest.raises(ValueError, match="draws 1 of 3 layers: pass key=, a new one in every step"):
        adaptive_layer(ranking)(*pair())
    drawing = adaptive_layer(matryoshka(ranking, (6, 2), n_dims_per_step=1), -1)
    with pytest.raises(ValueError, match="matryoshka draws 1 of 2 dims: pass key="):
        drawing(*pair())


def test_values_per_row_and_masks_of_other_things_are_refused_with_kl():
    left, right = pair()
    with pytest.raises(ValueError, match="one value per row here: set kl_div_weight=0, or pass a"):
        adaptive_layer(ranking, -1)(left, right, reduce_fn=None)

    def of_tokens(queries, *, query_mask):
        return jnp.mean(queries)

    with pytest.raises(
        ValueError, match=r"which column query_mask is about.*: set kl_div_weight=0"
    ):
        adaptive_layer(of_tokens, -1)(left, query_mask=jnp.ones(N, bool))
