"""Parameters over the axes `fsdp` and `tensor`: the same embeddings, a share of the memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxembed.encoders.families import load_family
from jaxembed.encoders.families.axes import tensor_axis
from jaxembed.training.sharding import names_of

FAMILY_FOLDERS = Path(__file__).parents[1] / "goldens" / "families"

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from pathlib import Path
from jaxembed.encoders.families import load_family
from jaxembed.encoders.families.axes import tensor_axis
from jaxembed.training import make_mesh, sharding

sharding.SMALL = 64
out = {}
mesh = make_mesh(fsdp=2, tensor=2)
for name in sys.argv[1:]:
    transformer = load_family(Path(name), dtype=jnp.float32, dropout=False, remat="full")
    places = sharding.state_shardings(transformer.params, mesh, tensor_axis)
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
def test_heads_and_networks_of_every_family_are_shared(name):
    transformer = load_family(FAMILY_FOLDERS / name, dtype="float32")
    shared = {
        "/".join(names_of(path)[-3:]): tensor_axis(names_of(path), parameter.ndim)
        for path, parameter in jax.tree_util.tree_flatten_with_path(transformer.params)[0]
    }
    kernels = {path: axis for path, axis in shared.items() if path.endswith("kernel")}
    kernels.pop("embeddings/projection/kernel", None)
    assert len(kernels) >= 6
    assert None not in kernels.values()
    assert shared["embeddings/tokens/embedding"] == 0
    assert {path for path, axis in shared.items() if axis is not None} >= {*kernels}
    assert not any("norm" in path for path, axis in shared.items() if axis is not None)
