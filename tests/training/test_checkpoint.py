"""Checkpoints: what is restored is what was saved, the best stays, and strangers are refused."""

from pathlib import Path

import jax
import numpy as np
import pytest

import jaxembed
from jaxembed.training import (
    CheckpointError,
    Checkpoints,
    adamw,
    create_state,
    make_mesh,
    warmup_schedule,
)

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
OPTIMIZER = adamw(warmup_schedule(1e-3, steps=10, warmup_steps=2))


@pytest.fixture(scope="module")
def state():
    return create_state(
        {"encoder": jaxembed.load(TINY).params}, OPTIMIZER, make_mesh(jax.devices()[:1])
    )


def scaled(state, factor):
    return jax.tree.map(lambda x: x * factor if x.dtype == np.float32 else x, state)


def test_restored_is_what_was_saved(tmp_path, state):
    checkpoints = Checkpoints(tmp_path, {"model": "tiny"})
    assert checkpoints.latest_step is None
    checkpoints.save(3, scaled(state, 3))
    checkpoints.close()
    again = Checkpoints(tmp_path, {"model": "tiny"})
    restored = again.restore(state)
    jax.tree.map(np.testing.assert_array_equal, restored, scaled(state, 3))
    again.close()


def test_the_last_ones_and_the_best_stay(tmp_path, state):
    checkpoints = Checkpoints(tmp_path, {}, keep=2)
    for step, metric in enumerate([0.1, 0.9, 0.3, 0.4, 0.5], start=1):
        checkpoints.save(step, scaled(state, step), metric=metric)
    checkpoints.close()
    again = Checkpoints(tmp_path, {}, keep=2)
    assert (again.best_step, again.latest_step) == (2, 5)
    restored = again.restore(state, step=again.best_step)
    jax.tree.map(np.testing.assert_array_equal, restored, scaled(state, 2))
    again.close()
    assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [2, 4, 5]


def test_a_checkpoint_of_another_model_is_refused(tmp_path, state):
    checkpoints = Checkpoints(tmp_path, {"model": "tiny", "loss": "a"})
    checkpoints.save(1, state)
    checkpoints.close()
    other = Checkpoints(tmp_path, {"model": "large", "loss": "a"})
    with pytest.raises(CheckpointError, match=r"of step 1 .* has model 'tiny', this run 'large'"):
        other.restore(state)
    other.close()


def test_nothing_to_restore(tmp_path, state):
    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(CheckpointError, match="holds no checkpoint; start anew"):
        checkpoints.restore(state)
    checkpoints.close()


def test_a_save_that_was_cut_off_is_passed_over(tmp_path, state):
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save(1, state)
    checkpoints.close()
    cut = tmp_path / "2.orbax-checkpoint-tmp-123"
    (cut / "state").mkdir(parents=True)
    again = Checkpoints(tmp_path, {})
    assert again.latest_step == 1
    again.restore(state)
    again.close()
