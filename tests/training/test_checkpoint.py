"""Checkpoints: what is restored is what was saved, the best stays, and strangers are refused."""

import gc
import shutil
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
    library_log,
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small state, and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    params = {"encoder": {"kernel": np.ones((8, 8), np.float32)}}
    state = create_state(params, OPTIMIZER, make_mesh(jax.devices()[:1]))
    checkpoints = Checkpoints(folder, {"model": "x"})
    checkpoints.save(2, state, metric=0.5)
    checkpoints.close()
    return state, folder


def cut(file, content):
    file.write_bytes(content[: len(content) // 2])


def emptied(file, content):
    file.write_bytes(b"")


def another(file, content):
    file.write_bytes(b"[1, 2]")


def flipped(file, content):
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])


def removed(path, content):
    path.unlink() if path.is_file() else shutil.rmtree(path)


def a_file(path, content):
    removed(path, content)
    path.write_text("x")


def restored(state, whole, folder, part, damage):
    """Damages a part of a copy of a checkpoint, and restores that; returns the error if any."""
    with library_log(None):
        error = _restored(state, whole, folder, part, damage)
        gc.collect()  # what tensorstore's coroutines raise to nobody
    return error


def _restored(state, whole, folder, part, damage):
    shutil.copytree(whole, folder)
    path = folder / "2" / part
    damage(path, path.read_bytes() if path.is_file() and path.stat().st_size else b"x")
    try:
        checkpoints = Checkpoints(folder, {"model": "x"})
        again = checkpoints.restore(state)
        checkpoints.close()
    except CheckpointError as error:
        message = str(error)
        assert message.startswith(f"the checkpoint {folder}/2 is damaged (")
        assert message.endswith(
            "delete this folder, and the run resumes from the checkpoint before"
        )
        assert len(message.splitlines()) == 1
        return message
    jax.tree.map(np.testing.assert_array_equal, again, state)
    return None


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("_CHECKPOINT_METADATA", another),
        ("metrics/metrics", cut),
        ("metrics/metrics", another),
        ("identity/metadata", emptied),
        ("identity", a_file),
        ("state", removed),
        ("state/_METADATA", another),
        ("state/manifest.ocdbt", flipped),
    ],
)
def test_a_damaged_checkpoint_is_named(whole, tmp_path, part, damage):
    assert restored(whole[0], whole[1], tmp_path / "copy", part, damage)


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", [cut, emptied, another, flipped, removed, a_file])
def test_whatever_part_is_damaged_the_state_is_whole_or_refused(whole, tmp_path, damage):
    state, folder = whole
    refused = 0
    parts = [path for path in sorted((folder / "2").rglob("*")) if path.is_file()]
    parts += [path for path in sorted((folder / "2").rglob("*")) if path.is_dir()]
    for number, path in enumerate(parts):
        if path.is_dir() and damage not in (removed, a_file):
            continue
        part = path.relative_to(folder / "2")
        refused += restored(state, folder, tmp_path / f"{number}", part, damage) is not None
    assert refused > 3
