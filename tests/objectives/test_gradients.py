"""The gradient of every objective reaches what it should, and nothing beside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed.objectives import REGISTRY
from tests.objectives.every import FLAGS

# Parameters that cannot matter: a softmax over positions does not see the same number added to all,
# and over the one vector that a decoder attends to it is 1 whatever the query and the key are.
WITHOUT = ("attention/key/bias", "readers/query", "readers/key")
# Euclidean distances do not see the same vector added to all embeddings.
LAST_BIAS = "encoder/transformer/layers/mlp_norm/bias/1"
EUCLIDEAN = ("contrastive", "batch_semi_hard_triplet", "batch_hard_soft_margin_triplet",
             "batch_all_triplet")  # fmt: skip


def by_path(tree):
    """Names all leaves, those of stacked layers one by one."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = "/".join(str(entry.key) for entry in path)
        parts = enumerate(leaf) if "/layers/" in name else [(None, leaf)]
        leaves |= {name if n is None else f"{name}/{n}": np.asarray(x) for n, x in parts}
    return leaves


@pytest.mark.parametrize("name", REGISTRY)
def test_the_gradient_reaches_all_that_learns_and_no_frozen_network(open_tasks, name):
    tasks = open_tasks("--loss", name, *FLAGS[name])
    objective, params = tasks.build(), tasks.init(jax.random.key(0))
    frozen = tasks.networks.frozen_params

    @jax.jit
    def gradients(params, frozen, batch, key):
        loss = lambda params, frozen: objective(params, batch, key=key, frozen=frozen)[0]  # noqa: E731
        return jax.grad(loss, argnums=(0, 1))(params, frozen)

    total, of_frozen = gradients(params, frozen, tasks(0), jax.random.key(0))
    if tasks.single.objective.layers:  # which layers learn in a step is drawn
        for step in (1, 2, 3):
            more, _ = gradients(params, frozen, tasks(0), jax.random.key(step))
            total = jax.tree.map(lambda x, y: jnp.abs(x) + jnp.abs(y), total, more)
    reached = {path: np.abs(leaf).max() for path, leaf in by_path(total).items()}
    assert all(np.isfinite(size) for size in reached.values())
    scale = max(reached.values())
    for path, size in reached.items():
        moved = name in EUCLIDEAN and path == LAST_BIAS
        if moved or any(part in path for part in WITHOUT):
            assert size < 1e-5 * scale, path
        else:
            assert size > 1e-7 * scale, path
    assert (frozen is not None) == ("--guide" in FLAGS[name] or "--teacher-model" in FLAGS[name])
    for path, leaf in by_path(of_frozen).items():
        assert not leaf.any(), path


OWN = {
    "softmax": {"kernel": (128, 4), "bias": (4,)},
    "embed_distill": {"kernel": (32, 24), "bias": (24,)},
    "sigmoid": {"logit_scale": (), "bias": ()},
}


@pytest.mark.parametrize("name", OWN)
def test_own_parameters_have_their_shapes_and_decay_as_matrices_do(open_tasks, name):
    tasks = open_tasks("--loss", name, *FLAGS[name])
    own = tasks.init(jax.random.key(0))["loss"][name]
    assert {key: value.shape for key, value in own.items()} == OWN[name]
    if "kernel" in own:
        bound = own["kernel"].shape[0] ** -0.5
        assert np.abs(own["kernel"]).max() <= bound
        assert np.abs(own["kernel"]).max() > 0.95 * bound
        assert tasks.init(jax.random.key(1))["loss"][name]["kernel"][0, 0] != own["kernel"][0, 0]


def test_both_encoders_of_tension_start_equal(open_tasks):
    for name in ("contrastive_tension", "contrastive_tension_in_batch_negatives"):
        params = open_tasks("--loss", name, *FLAGS[name]).init(jax.random.key(0))
        copy = params["loss"][name]["encoder"]
        jax.tree.map(np.testing.assert_array_equal, copy, params["encoder"])


def test_objectives_without_parameters_of_their_own_have_none(open_tasks):
    params = open_tasks("--loss", "cosent", *FLAGS["cosent"]).init(jax.random.key(0))
    assert params.keys() == {"encoder"}
