"""Gradients of the parts of a batch add up to that of the whole, where rows are on their own."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from jaxembed.metrics import embedding_health
from jaxembed.objectives import REGISTRY
from jaxembed.training import build_train_step, create_state, make_mesh
from tests.objectives.every import FLAGS

BY_ROWS = [name for name, objective in REGISTRY.items() if objective.by_rows]
SGD = optax.sgd(1.0)


@pytest.fixture
def one_step(open_tasks):
    """`one_step(name, parts)`: parameters and metrics; two rows of the batch are padding."""

    def run(name, parts, devices=1):
        tasks = open_tasks("--loss", name, *FLAGS[name], n_devices=devices)
        batch = tasks(0)
        batch["where"] = np.r_[[True] * 6, False, False]
        mesh = make_mesh(jax.devices()[:devices])
        frozen = tasks.networks.frozen_params
        state = create_state(tasks.init(jax.random.key(0)), SGD, mesh, frozen=frozen)
        objective, rate = tasks.build(mesh, sample=3), lambda step: 1.0
        step = build_train_step(objective, SGD, rate, mesh, accumulation_steps=parts)
        state, metrics = step(state, batch, None)
        return jax.device_get((state.params, metrics))

    return run


def test_the_losses_that_can_be_cut():
    assert {"cosine_similarity", "triplet", "mse", "contrastive"} <= {*BY_ROWS}
    compare = {"multiple_negatives_ranking", "cosent", "batch_hard_triplet", "matryoshka"}
    assert not {*BY_ROWS} & compare


@pytest.mark.parametrize("name", BY_ROWS)
def test_parts_give_the_gradient_of_the_whole(one_step, name):
    params, metrics = one_step(name, 1)
    for parts, devices in ((4, 1), (2, 2)):
        ours, measured = one_step(name, parts, devices)
        np.testing.assert_allclose(measured["loss"], metrics["loss"], rtol=1e-5)
        np.testing.assert_allclose(measured["grad_norm"], metrics["grad_norm"], rtol=1e-4)
        near = partial(
            np.testing.assert_allclose, rtol=1e-4, atol=1e-5 * max(1, metrics["grad_norm"])
        )
        jax.tree.map(near, ours, params)


def test_a_step_returns_a_sample_of_its_embeddings(one_step):
    whole, of_parts = (one_step("triplet", parts)[1]["sample"] for parts in (1, 4))
    assert whole["embeddings"].shape == whole["positives"].shape == (3, 32)
    assert whole["where"].all()
    assert 0 < embedding_health(**whole)["effective_rank"] <= 2
    for name in ("embeddings", "positives"):  # the first part has rows 0 and 4 of 8
        assert of_parts[name].shape == (2, 32)
        np.testing.assert_allclose(of_parts[name][0], whole[name][0], atol=1e-6)


def test_a_loss_that_compares_rows_would_change(one_step):
    whole, parts = (one_step("multiple_negatives_ranking", n)[1]["loss"] for n in (1, 4))
    assert abs(whole - parts) > 0.1


def test_parts_that_do_not_come_out_even_are_refused(one_step):
    with pytest.raises(ValueError, match="8 rows cannot be shared evenly by 1 devices in 3 steps"):
        one_step("cosine_similarity", 3)


def test_the_script_refuses_losses_that_compare_rows(train, tmp_path):
    with pytest.raises(ValueError, match=r"compares the rows of a batch.*use --mini-batch-size"):
        train("--loss", "multiple_negatives_ranking", "--gradient-accumulation-steps", "2")
    assert not (tmp_path / "run").exists()
    folder = train(*("--loss", "cosine_similarity", *FLAGS["cosine_similarity"]),
                   *("--gradient-accumulation-steps", "2", "--split-lengths"))  # fmt: skip
    assert (folder / "model").is_dir()
