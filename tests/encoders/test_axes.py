"""Parameters over the axes `fsdp` and `tensor`: the same embeddings, a share of the memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxembed.encoders.families import load_family
from jaxembed.encoders.families.axes import logical_axes, shardings

FAMILY_FOLDERS = Path(__file__).parents[1] / "goldens" / "families"

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from pathlib import Path
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxembed.encoders.families import load_family
from jaxembed.encoders.families.axes import shardings

out = {}
mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
for name in sys.argv[1:]:
    transformer = load_family(Path(name), dtype=jnp.float32, dropout=False, remat="full")
    places = shardings(transformer.params, mesh)
    tokens = {"input_ids": np.arange(5, 29).reshape(2, 12), "attention_mask": np.ones((2, 12), int)}

    def loss(params):
        return jnp.sum(jnp.sin(transformer.apply(params, tokens)))

    step = jax.value_and_grad(loss)
    alone = jax.jit(step)(transformer.params)
    over_mesh = jax.jit(step, in_shardings=(places,), out_shardings=(None, places))
    together = over_mesh(transformer.params)
    gaps = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), alone, together)
    gradients = jax.tree.leaves(together[1])
    of_one = sum(x.addressable_shards[0].data.nbytes for x in gradients)
    share = of_one / sum(x.nbytes for x in gradients)
    out[Path(name).name] = max(jax.tree.leaves(gaps)), share
print(json.dumps(out))
"""


def test_a_transformer_over_fsdp_and_tensor_computes_the_same_with_a_share_of_the_memory():
    names = ["bert", "modernbert", "qwen3", "mpnet"]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    folders = [str(FAMILY_FOLDERS / name) for name in names]
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    for name, (gap, share) in json.loads(process.stdout.splitlines()[-1]).items():
        assert gap < 1e-4, name
        assert share < 0.4, name  # 0.25 but for norms, biases and positions


@pytest.mark.parametrize(
    "name", sorted({path.name for path in FAMILY_FOLDERS.iterdir() if path.is_dir()})
)
def test_every_parameter_of_every_family_has_its_axes(name):
    transformer = load_family(FAMILY_FOLDERS / name, dtype="float32")
    axes = logical_axes(transformer.params)
    mesh = jax.make_mesh((1, 2), ("fsdp", "tensor"))
    shardings(transformer.params, mesh)
    matrices = 0
    for (path, parameter), names in zip(
        jax.tree_util.tree_flatten_with_path(transformer.params)[0],
        jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple)),
        strict=True,
    ):
        assert len(names) == parameter.ndim, path
        if path[-1].key == "kernel":
            assert None not in names, path
            matrices += 1
    assert matrices >= 6
