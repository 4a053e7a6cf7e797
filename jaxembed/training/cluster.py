"""Starting JAX on all hosts of a run: found on TPU pods, SLURM and Kubernetes, or told."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from jaxembed.training.hosts import HostError, Hosts, end_process
from jaxembed.training.meeting import meet_hosts, split_address

PATIENCE = 10  # JAX waits so many times longer for a silent host than we, who can say which it is


def join_cluster(
    coordinator: str | None = None,
    n_hosts: int | None = None,
    host_index: int | None = None,
    *,
    timeout: float = 300,
    token: str = "",
    on_loss: Callable[[str], None] = end_process,
) -> Hosts:
    """Meets the other hosts and starts the JAX runtime with them; without others does nothing.

    Must come before anything that asks JAX for devices.

    Args:
        coordinator: name and port of host 0, such as `node-0:8476`; hosts meet on the port before.
        n_hosts, host_index: how many there are, and which is this one. If neither they nor the
            coordinator are given, they are found as `jax.distributed.initialize` finds them.
        timeout, token, on_loss: as `meet_hosts` takes them.

    Raises:
        HostError, LostHostError: as `meet_hosts` raises them, or some of the three are missing.
    """
    told = None
    if coordinator is not None and n_hosts is not None and host_index is not None:
        told = coordinator, n_hosts, host_index
    elif (coordinator, n_hosts, host_index) != (None, None, None):
        raise HostError("--coordinator, --n-hosts and --host-index go together; one is missing")
    address, count, index = told or find_cluster(int(timeout)) or ("", 1, 0)
    if count == 1:
        return Hosts()
    name, port = split_address(address)
    place = f"{name}:{port - 1}"
    hosts = meet_hosts(
        place, index=index, count=count, timeout=timeout, token=token, on_loss=on_loss
    )
    # Its handler of SIGTERM would take the signal from ours; hosts tell each other of signals.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        address,
        count,
        index,
        cluster_detection_method="deactivate" if told else None,
        initialization_timeout=math.ceil(timeout),
        heartbeat_timeout_seconds=math.ceil(PATIENCE * timeout),
        shutdown_timeout_seconds=math.ceil(PATIENCE * timeout),
    )
    return hosts


def find_cluster(timeout: int) -> tuple[str, int, int] | None:
    """Returns address of host 0, number of hosts and index of this one, as JAX finds them.

    JAX tells them to nobody before its runtime starts, hence the import of a private module.
    """
    from jax._src.clusters import ClusterEnv

    address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, timeout
    )
    if address is None or count is None or index is None:
        return None
    return address, count, index
