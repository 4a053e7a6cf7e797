"""Training objectives: encode, loss and own parameters as one scalar of (params, batch, key)."""

from jaxembed.objectives.registry import REGISTRY as REGISTRY, Objective as Objective
