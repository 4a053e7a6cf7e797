"""What is particular to sparse losses: counters and dead latents, columns, masks, thresholds."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config

from jaxembed.losses.distillation import distill_kl_div_loss
from jaxembed.losses.ranking import multiple_negatives_ranking_loss
from jaxembed.losses.sparse import (
    SPARSE_RANKING,
    csr_loss,
    csr_reconstruction_loss,
    flops_loss,
    splade_loss,
)
from jaxembed.losses.sparse_auto_encoder import (
    SparseCode,
    init_sparse_auto_encoder,
    sparse_auto_encode,
)

N, D, H, V = 4, 5, 12, 8
IDENTITY = {"weight": jnp.eye(4), "pre_bias": jnp.zeros(4), "latent_bias": jnp.zeros(4)}


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def params():
    return {"weight": normal(H, D), "pre_bias": 0.3 * normal(D), "latent_bias": 0.3 * normal(H)}


@pytest.fixture
def unchecked():
    """Lets wrong shapes reach the function's own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def counters(*values):
    return jnp.asarray(values, jnp.int32)


def test_the_initial_weights_fill_their_range_and_the_biases_are_zero():
    params = init_sparse_auto_encoder(jax.random.key(0), 16, hidden=300)
    assert params["weight"].shape == (300, 16)
    assert 0.24 < np.abs(params["weight"]).max() <= 0.25
    assert params["weight"].min() < -0.24
    assert not params["pre_bias"].any()
    assert not params["latent_bias"].any()


def test_counters_advance_by_two_and_fall_to_one_or_two():
    x = jnp.array([[4.0, 3.0, -2.0, -1.0], [5.0, 0.0, -1.0, -1.0]])
    # Latent 0 is among the k = 1 greatest, latent 1 among the 4k, the others never fire.
    _, after = sparse_auto_encode(IDENTITY, x, counters(7, 7, 7, 0), k=1)
    np.testing.assert_array_equal(after, [1, 1, 9, 2])
    only_first = x.at[0, 1].set(0)
    _, after = sparse_auto_encode(IDENTITY, only_first, counters(7, 7, 7, 0), k=1)
    np.testing.assert_array_equal(after, [1, 9, 9, 2])


def test_counters_go_from_column_to_column(params):
    first, second = normal(N, D, seed=1), normal(N, D, seed=2)
    start = jnp.full(H, 50, jnp.int32)
    _, middle = sparse_auto_encode(params, first, start, k=1)
    _, end = sparse_auto_encode(params, second, middle, k=1)
    fired = [np.asarray(sparse_auto_encode(params, x, start, k=1)[1]) == 1 for x in (first, second)]
    np.testing.assert_array_equal(end, np.where(fired[1], 1, np.where(fired[0], 3, 54)))


def test_masked_rows_do_not_count(params):
    x, start = normal(N, D), jnp.full(H, 40, jnp.int32)
    where = jnp.array([True, False, True, False])
    code, masked = sparse_auto_encode(
        params, jnp.where(where[:, None], x, jnp.nan), start, k=1, where=where
    )
    expected, taken = sparse_auto_encode(params, x[::2], start, k=1)
    np.testing.assert_array_equal(masked, taken)
    np.testing.assert_allclose(code.latents[::2], expected.latents, rtol=1e-6)
    _, none = sparse_auto_encode(params, x, start, where=jnp.zeros(N, bool))
    np.testing.assert_array_equal(none, start + 2)


def test_only_dead_latents_reconstruct_what_is_left_over():
    x = jnp.array([[4.0, 3.0, 2.0, 1.0]])
    # A counter of 30 is above 30 once the first selection has counted; latent 0 fires in it.
    code, _ = sparse_auto_encode(IDENTITY, x, counters(30, 29, 30, 31), k=1, k_aux=4)
    np.testing.assert_array_equal(code.reconstruction_aux, [[0.0, 0.0, 2.0, 1.0]])
    code, _ = sparse_auto_encode(IDENTITY, x, counters(30, 29, 30, 31), k=1, k_aux=1)
    np.testing.assert_array_equal(code.reconstruction_aux, [[0.0, 0.0, 2.0, 0.0]])
    code, _ = sparse_auto_encode(IDENTITY, x, counters(30, 29, 30, 31), k=1, k_aux=0)
    assert code.reconstruction_aux is None


def test_the_auxiliary_term_moves_dead_latents_alone():
    x = jnp.array([[4.0, 3.0, 2.0, 1.0], [5.0, 2.0, 1.0, 3.0]])

    def loss(latent_bias, beta):
        params = {**IDENTITY, "latent_bias": latent_bias}
        code, _ = sparse_auto_encode(params, x, counters(31, 31, 0, 31), k=1, k_aux=4)
        return csr_reconstruction_loss(code, beta=beta)

    gradients = [jax.grad(loss)(jnp.full(4, 0.1), beta) for beta in (0.0, 1.0)]
    moved = np.asarray(gradients[1] - gradients[0]) != 0
    np.testing.assert_array_equal(moved, [False, True, False, True])  # latent 0 fires


def test_the_first_of_equal_latents_is_kept():
    x = jnp.array([[2.0, 3.0, 3.0, 3.0]])
    code, _ = sparse_auto_encode(IDENTITY, x, counters(0, 0, 0, 0), k=2)
    np.testing.assert_array_equal(code.latents, [[0.0, 3.0, 3.0, 0.0]])


def test_negative_latents_are_not_kept():
    code, _ = sparse_auto_encode(IDENTITY, -jnp.ones((1, 4)), counters(0, 0, 0, 0), k=2)
    assert not code.latents.any()


def test_normalising_encodes_any_scale_alike_and_scales_back(params):
    x, start = normal(N, D), jnp.zeros(H, jnp.int32)
    code, _ = sparse_auto_encode(params, x, start, normalize=True)
    scaled, _ = sparse_auto_encode(params, 7 * x + 3, start, normalize=True)
    np.testing.assert_allclose(scaled.latents, code.latents, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        scaled.reconstruction, 7 * code.reconstruction + 3, rtol=1e-3, atol=1e-3
    )
    constant = lambda x: sparse_auto_encode(params, x, start, normalize=True)[0].latents.sum()  # noqa: E731
    assert np.isfinite(jax.grad(constant)(jnp.ones((1, D)))).all()


def test_embeddings_of_any_leading_axes_are_encoded(params):
    x, start = normal(N, 3, D), jnp.full(H, 9, jnp.int32)
    where = jnp.array([True, True, False, True])
    code, after = sparse_auto_encode(params, x, start, where=where)
    flat, expected = sparse_auto_encode(params, x.reshape(-1, D), start, where=jnp.repeat(where, 3))
    np.testing.assert_array_equal(after, expected)
    np.testing.assert_allclose(code.centred.reshape(-1, D), flat.centred, rtol=1e-5)


def test_a_stack_of_codes_counts_as_columns(params):
    start = jnp.zeros(H, jnp.int32)
    columns = [sparse_auto_encode(params, normal(N, D, seed=s), start)[0] for s in range(4)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *columns[2:])
    expected = csr_reconstruction_loss(*columns)
    np.testing.assert_allclose(csr_reconstruction_loss(*columns[:2], stacked), expected, rtol=1e-6)
    base = SPARSE_RANKING(columns[0].latents, columns[1].latents, stacked.latents)
    loss = csr_loss(*columns[:2], stacked, beta=1.0, gamma=0.5)
    np.testing.assert_allclose(loss, expected + 0.5 * base, rtol=1e-6)


def test_masked_negatives_of_codes_change_nothing(params):
    start = jnp.zeros(H, jnp.int32)
    first, second = (sparse_auto_encode(params, normal(N, D, seed=s), start)[0] for s in range(2))
    real = jnp.array([[True, False], [True, True], [False, True], [True, True]])
    negatives = normal(N, 2, D, seed=3)
    losses = []
    for filler in (jnp.nan, 5.0):
        filled = jnp.where(real[..., None], negatives, filler)
        code = sparse_auto_encode(params, filled, start, where=real)[0]
        losses.append(csr_loss(first, second, code, negatives_where=real))
    assert np.isfinite(losses[0])
    assert losses[0] == losses[1]


def test_equal_rows_have_variance_one():
    x = jnp.broadcast_to(jnp.array([[0.1, 0.2, 0.7]]), (3, 3))
    code = SparseCode(x, x, x, x, 0 * x, 0.5 * x)
    expected = jnp.mean(jnp.square(0.5 * x))
    np.testing.assert_allclose(csr_reconstruction_loss(code), expected, rtol=1e-6)
    other = code._replace(embeddings=x.at[0].set(jnp.nan))
    where = jnp.array([False, True, True])
    np.testing.assert_allclose(csr_reconstruction_loss(other, where=where), expected, rtol=1e-6)


def test_the_centred_reconstruction_is_a_constant():
    x = normal(N, D)
    code = SparseCode(x, x, x, x, 0.3 * x, 0.5 * x)
    gradient = jax.grad(csr_reconstruction_loss)(code)
    assert not gradient.centred.any()
    assert gradient.reconstruction_aux.any()


def test_rows_at_or_below_the_threshold_count_as_zeros():
    x = jnp.array([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    assert flops_loss(x, threshold=1) == 0.5**2 + 1.0
    assert flops_loss(x, threshold=0) == flops_loss(x) == 2.0**2 + 1.0
    assert flops_loss(x, threshold=2) == 0


def test_documents_of_all_columns_share_one_mean():
    x, y, negatives = (jnp.abs(normal(*s)) for s in ((N, V), (N, V), (N, 3, V)))
    settings = {"loss_fn": SPARSE_RANKING, "document_regularizer_weight": 0.7}
    rows = jnp.concatenate([y, negatives.reshape(-1, V)])
    expected = SPARSE_RANKING(x, y, negatives) + 0.7 * flops_loss(rows)
    np.testing.assert_allclose(splade_loss(x, y, negatives, **settings), expected, rtol=1e-6)
    expected += 0.2 * flops_loss(x)
    loss = splade_loss(x, y, negatives, **settings, query_regularizer_weight=0.2)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["negatives_where", "candidates_where"])
def test_masked_documents_change_nothing(name):
    loss_fn: Any
    x, y, others = (jnp.abs(normal(*s)) for s in ((N, V), (N, V), (N, 3, V)))
    real = jnp.array([[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1]], bool)
    if name == "negatives_where":
        loss_fn, columns, keywords = SPARSE_RANKING, (x, y), {}
    else:
        loss_fn, columns, keywords = distill_kl_div_loss, (x,), {"scores": normal(N, 3)}
    settings = {"loss_fn": loss_fn, "document_regularizer_weight": 0.7, name: real, **keywords}
    loss, gradient = jax.value_and_grad(lambda z: splade_loss(*columns, z, **settings))(
        jnp.where(real[..., None], others, jnp.nan)
    )
    rows = jnp.concatenate([*columns[1:], others[real]])
    base = loss_fn(*columns, others, **{name: real}, **keywords)
    np.testing.assert_allclose(loss, base + 0.7 * flops_loss(rows), rtol=1e-6)
    assert not gradient[~real].any()


def test_keywords_reach_the_base_loss():
    x, y = jnp.abs(normal(N, V)), jnp.abs(normal(N, V, seed=1))
    ids = jnp.array([[0, 1], [0, 2], [0, 1], [0, 3]], jnp.uint32)
    base = partial(multiple_negatives_ranking_loss, scale=2.0)
    settings = {"loss_fn": base, "document_regularizer_weight": 0.0}
    assert splade_loss(x, y, ids=ids, **settings) == base(x, y, ids=ids)
    assert splade_loss(x, y, ids=ids, **settings) != splade_loss(x, y, **settings)


def test_weights_may_be_traced():
    x, y = jnp.abs(normal(N, V)), jnp.abs(normal(N, V, seed=1))
    loss = lambda weight: splade_loss(  # noqa: E731
        x, y, loss_fn=SPARSE_RANKING, document_regularizer_weight=weight
    )
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.1), flops_loss(y), rtol=1e-6)


def test_wrong_settings_are_refused(params):
    x, start = normal(N, D), jnp.zeros(H, jnp.int32)
    splade = partial(splade_loss, loss_fn=SPARSE_RANKING)
    with pytest.raises(ValueError, match="threshold must not be below 0; got -1"):
        flops_loss(x, threshold=-1)
    with pytest.raises(ValueError, match="takes the arrays embeddings; got 2"):
        flops_loss(*[x, x])
    with pytest.raises(ValueError, match=r"takes the arrays queries, documents, .*; got queries"):
        splade(x, document_regularizer_weight=0.1)
    with pytest.raises(ValueError, match="document_regularizer_weight must not be below 0; got -1"):
        splade(x, x, document_regularizer_weight=-1)
    with pytest.raises(ValueError, match="query_regularizer_weight must not be below 0; got -2"):
        splade(x, x, document_regularizer_weight=1, query_regularizer_weight=-2)
    with pytest.raises(ValueError, match="one SparseCode for each column of texts; got none"):
        csr_reconstruction_loss()
    code, _ = sparse_auto_encode(params, x, start)
    with pytest.raises(ValueError, match="beta must not be below 0; got -1"):
        csr_loss(code, code, beta=-1)
    with pytest.raises(ValueError, match="gamma must not be below 0; got -1"):
        csr_loss(code, code, gamma=-1)
    for k in (0, H + 1):
        with pytest.raises(ValueError, match=f"k must be from 1 to the 12 latents; got {k}"):
            sparse_auto_encode(params, x, start, k=k)
    with pytest.raises(ValueError, match="k_aux must not be below 0; got -1"):
        sparse_auto_encode(params, x, start, k_aux=-1)


def test_wrong_shapes_are_refused(params, unchecked):
    x, start = normal(N, D), jnp.zeros(H, jnp.int32)
    with pytest.raises(ValueError, match=r"documents must be \[4 5\] or \[4 k 5\]; got \(4, 3\)"):
        splade_loss(x, x[:, :3], loss_fn=SPARSE_RANKING, document_regularizer_weight=1)
    with pytest.raises(ValueError, match=r"where must have the shape \(4,\)"):
        flops_loss(x, where=jnp.ones(3, bool))
    with pytest.raises(ValueError, match=r"embeddings must be \[... 5\], as weight \[12 5\]; got"):
        sparse_auto_encode(params, x[:, :3], start)
    with pytest.raises(ValueError, match=r"last_nonzero must have the shape \(12,\); got \(5,\)"):
        sparse_auto_encode(params, x, start[:5])
    with pytest.raises(ValueError, match=r"where must have the shape \(4,\)"):
        sparse_auto_encode(params, x, start, where=jnp.ones(3, bool))
    with pytest.raises(ValueError, match="csr losses take a SparseCode for each column"):
        csr_reconstruction_loss(x)  # pyright: ignore
