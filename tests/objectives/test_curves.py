"""Training in chunks, on two devices and in bfloat16 gives the curve of plain training."""

import jax
import numpy as np
import optax
import pytest

from jaxembed.training import build_train_step, create_state, make_mesh
from tests.objectives.every import FLAGS

exhaustive = pytest.mark.exhaustive
STEPS = 4
PLAIN: dict[str, list[float]] = {}
SCHEDULE = optax.constant_schedule(0.02)
NAMES = (
    "softmax",
    "contrastive_tension",
    "contrastive_tension_in_batch_negatives",
    "gist_embed",
    "distill_kl_div",
    "embed_distill",
    "denoising_auto_encoder",
    "matryoshka_2d",
)
WARM = {"gist_embed": ("--temperature", "0.1")}  # at 0.01 rounding counts a hundredfold


@pytest.fixture
def curve(open_tasks):
    def losses(name, *flags, devices=1):
        flags = (*FLAGS[name], *WARM.get(name, ()), *flags)
        tasks = open_tasks("--loss", name, *flags, n_devices=devices)
        mesh = make_mesh(jax.devices()[:devices])
        chunk = int(flags[flags.index("--mini-batch-size") + 1]) if flags[-2:-1] == (
            "--mini-batch-size",
        ) else None  # fmt: skip
        objective = tasks.build(mesh=mesh, mini_batch_size=chunk)
        # Plain descent: AdamW makes steps of rounding where a gradient is 0.
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(SCHEDULE))
        params = tasks.init(jax.random.key(0))
        state = create_state(params, optimizer, mesh, frozen=tasks.networks.frozen_params)
        step = build_train_step(objective, optimizer, SCHEDULE, mesh)
        found = []
        for number in range(STEPS):
            state, metrics = step(state, tasks(number), jax.random.key(7))
            found.append(float(metrics["loss"]))
        return found

    return losses


@pytest.fixture
def plain_curve(curve):
    """The curve on one device without chunks; computed once per name."""

    def losses(name):
        if name not in PLAIN:
            PLAIN[name] = curve(name)
        return PLAIN[name]

    return losses


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("chunk", "devices"),
    [pytest.param("3", 1, marks=exhaustive), pytest.param(None, 2, marks=exhaustive), ("2", 2)],
)
def test_chunks_and_devices_follow_the_plain_curve(curve, plain_curve, name, chunk, devices):
    plain = plain_curve(name)
    assert len(set(plain)) > 2
    flags = ("--mini-batch-size", chunk) if chunk else ()
    np.testing.assert_allclose(curve(name, *flags, devices=devices), plain, rtol=1e-4)


@pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(name, marks=exhaustive) for name in NAMES[1:])]
)
def test_bfloat16_follows_the_plain_curve(curve, plain_curve, name):
    half, plain = curve(name, "--dtype", "bfloat16"), plain_curve(name)
    np.testing.assert_allclose(half, plain, rtol=5e-2, atol=1e-2 * max(plain))


@pytest.mark.parametrize("name", ["sigmoid", "contrastive_tension_in_batch_negatives"])
def test_learned_scales_in_blocks_on_two_devices_follow_the_plain_curve(curve, plain_curve, name):
    blocks = curve(name, "--block-size", "2", devices=2)
    np.testing.assert_allclose(blocks, plain_curve(name), rtol=1e-4)


@pytest.mark.parametrize("name", ["softmax", "denoising_auto_encoder", "matryoshka_2d"])
def test_dropout_is_the_same_in_chunks_and_on_two_devices(curve, plain_curve, name):
    plain = curve(name, "--dropout")
    both = curve(name, "--dropout", "--mini-batch-size", "3", devices=2)
    np.testing.assert_allclose(both, plain, rtol=1e-4)
    assert abs(plain[0] - plain_curve(name)[0]) > 1e-4 * abs(plain[0])
