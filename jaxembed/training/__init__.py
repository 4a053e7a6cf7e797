"""State, step, sharding, optimizer, checkpoints and logs of a training run."""
