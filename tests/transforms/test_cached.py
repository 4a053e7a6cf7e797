"""cached(encode, c) is encode, in values and gradients, however rows are cut and spread."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxembed
from jaxembed.randomness import row_keys
from jaxembed.transforms.by_length import by_length
from jaxembed.transforms.cached import cached

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
N = 10


def encode(params, tokens, *, key=None):
    """Embeds `input_ids [n ... t]` by a tanh and the mean over tokens; a key drops features."""
    x = jax.nn.one_hot(tokens["input_ids"], 11) @ params["embedding"]
    x = jnp.tanh(x @ params["kernel"]).mean(-2)
    if key is None:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 0.7, x.shape[1:]))
    return jnp.where(keep(row_keys(key, x.shape[0])), x / 0.7, 0.0)


def encode_layers(params, tokens, *, key=None):
    x = encode(params, tokens, key=key)
    return jnp.stack([x, jnp.sin(x), x * x], 1)


@pytest.fixture(scope="module")
def params():
    keys = jax.random.split(jax.random.key(0))
    return {
        "embedding": jax.random.normal(keys[0], (11, 8)),
        "kernel": jax.random.normal(keys[1], (8, 8)),
    }


def texts(*shape):
    return {"input_ids": jax.random.randint(jax.random.key(1), shape, 0, 11)}


@partial(jax.jit, static_argnums=0)
def value_and_gradient(encode, params, tokens, key=None):
    """Of a loss that weighs every number of the embeddings differently; with the embeddings."""

    def loss(params):
        embeddings = encode(params, tokens, key=key)
        weights = jnp.sin(jnp.arange(embeddings.size, dtype=jnp.float32))
        return jnp.sum(embeddings**2 * weights.reshape(embeddings.shape)), embeddings

    return jax.value_and_grad(loss, has_aux=True)(params)


def check_same(actual, expected, tolerance=2e-6):
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance),
        jax.device_get(actual),
        jax.device_get(expected),
    )


def check(actual, expected, params, tokens, key=None):
    check_same(
        value_and_gradient(actual, params, tokens, key),
        value_and_gradient(expected, params, tokens, key),
    )


@pytest.mark.parametrize("chunk_size", [1, 3, 4, N, N + 1])
@pytest.mark.parametrize("key", [None, jax.random.key(3)], ids=["plain", "dropout"])
def test_values_and_gradients_are_those_of_the_encoder(params, chunk_size, key):
    check(cached(encode, chunk_size), encode, params, texts(N, 5), key)


def test_keys_of_rows_pass_as_they_are(params):
    keys = row_keys(jax.random.key(4), N)[::-1]
    check(cached(encode, 3), encode, params, texts(N, 5), keys)


@pytest.mark.parametrize("chunk_size", [3, N])
def test_embeddings_may_have_layers(params, chunk_size):
    embeddings = cached(encode_layers, chunk_size)(params, texts(N, 5))
    assert embeddings.shape == (N, 3, 8)
    check(cached(encode_layers, chunk_size), encode_layers, params, texts(N, 5), jax.random.key(3))


@pytest.mark.parametrize("chunk_size", [3, N])
def test_a_row_may_be_several_texts(params, chunk_size):
    assert cached(encode, chunk_size)(params, texts(N, 2, 5)).shape == (N, 2, 8)
    check(cached(encode, chunk_size), encode, params, texts(N, 2, 5), jax.random.key(3))


def test_no_rows_give_no_embeddings(params):
    assert cached(encode, 3)(params, texts(0, 5)).shape == (0, 8)


@pytest.mark.parametrize(
    ("n", "chunk_size", "rows"),
    [(100, 32, 25), (101, 32, 26), (64, 32, 32), (10, 4, 4), (5, 5, 5), (4, 5, 4), (7, 1, 1)],
)
def test_chunks_have_equal_sizes_and_few_rows_twice(params, n, chunk_size, rows):
    seen = []

    def spy(params, tokens, *, key=None):
        seen.append(tokens["input_ids"].shape[0])
        return encode(params, tokens, key=key)

    assert cached(spy, chunk_size)(params, texts(n, 5)).shape == (n, 8)
    assert set(seen) == {rows}


def test_padding_holds_no_wild_values_and_gets_no_gradient(params):
    """Ten rows in chunks of four are twelve: a gradient that reached the two would show."""

    def singular(params, tokens, *, key=None):  # infinite slope where there is no token
        return jnp.sqrt(tokens["weight"] @ params)

    tokens = {"weight": jnp.abs(jax.random.normal(jax.random.key(2), (N, 8))) + 0.1}
    check(cached(singular, 4), singular, jnp.ones((8, 3)), tokens)


def test_columns_split_by_length_are_encoded_in_chunks(params):
    tokens = texts(N, 5)
    rows = jnp.asarray([4, 0, 7, 1, 2, 9, 8, 3, 5, 6])
    blocks = [
        {"input_ids": tokens["input_ids"][part], "texts": part} for part in (rows[:7], rows[7:])
    ]
    split = {"blocks": blocks, "places": jnp.argsort(rows)}
    key = jax.random.key(3)
    check_same(
        value_and_gradient(by_length(cached(encode, 3)), params, split, key),
        value_and_gradient(encode, params, tokens, key),
    )
    with pytest.raises(ValueError, match=r"by_length\(cached\(encode, chunk_size\)\)"):
        cached(by_length(encode), 3)(params, split)


def test_a_transformer_with_dropout_is_the_same_in_chunks():
    encoder = jaxembed.load(TINY)
    tokens = encoder.tokenizer(["a cat", "a dog", "the cat sat on the mat", "a cat", "the mat"])
    tokens = {name: jnp.asarray(array) for name, array in tokens.items()}
    in_chunks, whole = (
        value_and_gradient(encode, encoder.params, tokens, jax.random.key(0))
        for encode in (cached(encoder.apply, 2), encoder.apply)
    )
    check_same(in_chunks, whole, tolerance=2e-5)


def test_vmap_over_parameters_encodes_with_each(params):
    stacked = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
    mapped = jax.vmap(lambda params: value_and_gradient(cached(encode, 3), params, texts(N, 5)))
    second = jax.tree.map(lambda x: x[1], mapped(stacked))
    half = jax.tree.map(lambda x: 0.5 * x, params)
    check_same(second, value_and_gradient(encode, half, texts(N, 5)))


def test_it_may_be_checkpointed_and_differentiated_twice(params):
    @partial(jax.jit, static_argnums=0)
    def slope(encode, params):
        gradient = jax.grad(lambda params: value_and_gradient(encode, params, texts(N, 5))[0][0])
        return jax.jvp(gradient, (params,), (params,))[1]

    check_same(slope(jax.checkpoint(cached(encode, 3)), params), slope(encode, params))


def test_it_has_the_name_of_the_encoder():
    assert getattr(cached(encode, 3), "__name__", "") == "encode"


# Over two devices


def mesh_of(axis_type, shape=(2,), names=("data",)):
    return jax.make_mesh(shape, names, axis_types=(axis_type,) * len(shape))


@pytest.mark.parametrize(
    ("axis_type", "given", "n", "chunk_size"),
    [
        (AxisType.Auto, True, 14, 3),  # per device three chunks of three, two rows encoded twice
        (AxisType.Auto, True, 12, 6),
        (AxisType.Auto, False, 14, 3),
        (AxisType.Auto, False, 12, 2),
        (AxisType.Explicit, True, 14, 3),
        (AxisType.Explicit, False, 12, 2),
        (AxisType.Explicit, False, 12, 12),
    ],
)
def test_rows_over_two_devices_give_the_same(params, axis_type, given, n, chunk_size):
    mesh, tokens, key = mesh_of(axis_type), texts(n, 5), jax.random.key(3)
    expected = value_and_gradient(encode, params, tokens, key)
    tokens = jax.device_put(tokens, NamedSharding(mesh, P("data")))
    over_devices = cached(encode, chunk_size, mesh=mesh if given else None)
    with jax.set_mesh(mesh):
        check_same(value_and_gradient(over_devices, params, tokens, key), expected)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("chunk_size", [4, 6])
def test_in_a_shard_map_of_ones_own_it_is_the_same(params, chunk_size, check_vma):
    mesh, tokens, keys = mesh_of(AxisType.Auto), texts(12, 5), row_keys(jax.random.key(3), 12)

    def sharded(params, tokens, *, key):
        def local(params, tokens, key):
            return cached(encode, chunk_size)(params, tokens, key=key)

        rows = P("data")
        specs = (P(), rows, rows)
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=check_vma)(
            params, tokens, key
        )

    check(sharded, encode, params, tokens, keys)


def test_a_gradient_taken_in_a_shard_map_is_that_of_all_rows(params):
    tokens = texts(12, 5)

    def local(params, tokens):
        loss = lambda params: jnp.sum(jnp.sin(cached(encode, 4)(params, tokens)))  # noqa: E731
        return jax.grad(loss)(params)  # JAX sums it, as the parameters are the same everywhere

    shards = jax.shard_map(
        local, mesh=mesh_of(AxisType.Auto), in_specs=(P(), P("data")), out_specs=P()
    )
    expected = jax.grad(lambda params: jnp.sum(jnp.sin(encode(params, tokens))))(params)
    check_same(jax.jit(shards)(params, tokens), expected)


@pytest.mark.parametrize("shape", [(2, 1), (1, 2)])
@pytest.mark.parametrize("axes", ["data", ("data", "tensor")])
def test_parameters_may_be_sharded_over_the_other_axes(params, shape, axes):
    mesh = mesh_of(AxisType.Auto, shape, ("data", "tensor"))
    tokens, key = texts(12, 5), jax.random.key(3)
    expected = value_and_gradient(encode, params, tokens, key)
    params = jax.device_put(params, NamedSharding(mesh, P(None, "tensor")))
    over_devices = cached(encode, 4, mesh=mesh, axis_name=axes)
    check_same(value_and_gradient(over_devices, params, tokens, key), expected)


# Refusals


@pytest.mark.parametrize("chunk_size", [0, -1, 2.0, True, None, np.int64(4)])
def test_a_chunk_size_is_a_positive_int(chunk_size):
    message = "chunk_size (must be a positive int, such as 32|of cached must be an integer); got"
    with pytest.raises(ValueError, match=message):
        cached(encode, chunk_size)


def test_an_axis_that_the_mesh_lacks_is_refused():
    with pytest.raises(ValueError, match=r"axis_name must be of the mesh, \('data',\); got 'rows'"):
        cached(encode, 4, mesh=mesh_of(AxisType.Auto), axis_name="rows")


def test_rows_that_devices_cannot_share_are_refused(params):
    with pytest.raises(ValueError, match="15 rows cannot be shared evenly by the 2 devices"):
        cached(encode, 4, mesh=mesh_of(AxisType.Auto))(params, texts(15, 5))


def test_rows_on_explicit_axes_that_make_no_equal_chunks_are_refused(params):
    mesh = mesh_of(AxisType.Explicit)
    tokens = jax.device_put(texts(16, 5), NamedSharding(mesh, P("data")))
    with pytest.raises(ValueError, match="pass mesh, or choose another chunk_size"):
        jax.jit(cached(encode, 3))(params, tokens)


@pytest.mark.parametrize("check_vma", [True, False])
def test_a_key_that_all_devices_share_is_refused(params, check_vma):
    def shards(key):
        return jax.shard_map(
            lambda tokens, key: cached(encode, 4)(params, tokens, key=key),
            mesh=mesh_of(AxisType.Auto),
            in_specs=(P("data"), P()),
            out_specs=P("data"),
            check_vma=check_vma,
        )(texts(12, 5), key)

    with pytest.raises(ValueError, match="all devices would drop the same; make one key per row"):
        shards(jax.random.key(0))
    if check_vma:
        with pytest.raises(ValueError, match="all devices would drop the same"):
            shards(row_keys(jax.random.key(0), 6))


def test_a_key_of_the_device_is_taken(params):
    def local(tokens):
        key = jax.random.fold_in(jax.random.key(0), lax.axis_index("data"))
        return cached(encode, 4)(params, tokens, key=key)

    same = {"input_ids": jnp.ones((12, 5), jnp.int32)}
    shards = jax.shard_map(
        local, mesh=mesh_of(AxisType.Auto), in_specs=P("data"), out_specs=P("data")
    )
    first, second = np.split(jax.jit(shards)(same), 2)
    assert np.abs(first - second).max() > 0.1


def test_a_mesh_in_a_shard_map_over_its_axis_is_refused(params):
    mesh = mesh_of(AxisType.Auto)
    inner = cached(encode, 4, mesh=mesh)
    with pytest.raises(ValueError, match=r"outside of a shard_map over \('data',\); leave it out"):
        jax.shard_map(inner, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))(
            params, texts(12, 5)
        )
