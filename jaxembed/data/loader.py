"""Making batches ahead of the training step, in a thread or in worker processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from jaxembed.data.errors import DataError


def load_batches(
    make: Callable[[int], dict[str, Any]],
    *,
    start_step: int,
    n_steps: int,
    workers: int = 0,
    prefetch: int = 4,
) -> Iterator[dict[str, Any]]:
    """Yields the batches of `n_steps` steps in their order: `make(start_step)`, and so on.

    Nothing but the step is needed to resume. An error of `make` is raised where its batch is due.

    Args:
        make: gives the batch of a step. For workers it must pickle (functions, `partial`s and
            lambdas do; open files do not), and a script needs its `if __name__ == "__main__":`.
        workers: 0 makes the batches in one thread of this process, in which a fast tokenizer uses
            all cores; more make them in so many processes, if Python itself is the bottleneck.
        prefetch: how many batches are made ahead; 0, without workers, makes each when it is asked
            for. They start at once, while the caller still compiles.

    >>> list(load_batches(lambda step: {"step": step}, start_step=1, n_steps=3))
    [{'step': 1}, {'step': 2}, {'step': 3}]
    """
    import grain
    from absl import flags

    if min(start_step, n_steps, workers, prefetch) < 0:
        raise DataError(
            "load_batches takes no negative number; got "
            f"{start_step=}, {n_steps=}, {workers=}, {prefetch=}"
        )
    steps = grain.MapDataset.range(start_step, start_step + n_steps).map(make)
    threads = 0 if workers else min(prefetch, 1)  # one: tokenizers may not be shared by threads
    batches = steps.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads * prefetch)
    )
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain 0.2.18 reads a flag all the same: google/grain#1355
            flags.FLAGS.mark_as_parsed()
        # Batches come through a pipe: shared memory is 64 MiB in a container and leaks at exit.
        options = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        batches = grain.experimental.WithOptionsIterDataset(batches, options)
        ahead = max(1, prefetch // workers)
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead)
        )
    iterator = iter(batches)
    iterator.start_prefetch()
    return _until_closed(iterator)


def _until_closed(iterator: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from iterator
    finally:
        iterator.close()  # ends threads and processes when the caller stops early
