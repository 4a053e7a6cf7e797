"""What startup.py measures: a training step is compiled for TPUs that are not there.

    tpu_compile.py MODEL BATCH TOKENS TOPOLOGY

The process prints the seconds that tracing and compiling take. Nothing but shapes is computed with.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from models import MODELS

from jaxembed.encoders.families import load_family
from jaxembed.encoders.pooling import pool
from jaxembed.objectives import REGISTRY
from jaxembed.training import abstract_state, adamw, build_train_step, make_mesh


def main(model: str, batch: int, tokens: int, topology: str) -> None:
    """Compiles the ranking loss of so many pairs, in bfloat16, without dropout."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(devices)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODELS[model]))
        transformer = load_family(Path(folder), dtype=jnp.bfloat16, dropout=False, initialize=0)

    def encode(params: Any, tokens: Any, *, key: Any = None) -> jax.Array:
        return pool(transformer.apply(params, tokens, key=key), tokens["attention_mask"])

    objective = REGISTRY["multiple_negatives_ranking"].build(encode, mesh=mesh)
    optimizer = adamw(lambda step: 1e-5, weight_decay=0.01, clip_norm=1.0)
    step = build_train_step(objective, optimizer, lambda step: 1e-5, mesh)
    state = abstract_state({"encoder": transformer.params}, optimizer, mesh)
    of_tokens = jax.ShapeDtypeStruct((batch, tokens), jnp.int32)
    of_ids = jax.ShapeDtypeStruct((batch, 2), jnp.uint32)
    texts = {"input_ids": of_tokens, "attention_mask": of_tokens}
    pairs = {
        **{"anchors": texts, "positives": texts, "anchor_ids": of_ids, "ids": of_ids},
        "where": jax.ShapeDtypeStruct((batch,), jnp.bool_),
    }
    begin = time.perf_counter()
    lowered = step.lower(state, pairs, None)
    traced = time.perf_counter()
    lowered.compile()
    seconds = {"tracing": traced - begin, "compiling": time.perf_counter() - traced}
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
