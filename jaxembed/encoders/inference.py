"""From any number of texts to embeddings: batches of like length, on all devices, in few bits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from rich.progress import MofNCompleteColumn, Progress

from jaxembed.encoders.arguments import check_arguments, check_numbers
from jaxembed.encoders.errors import EncoderError, TextError
from jaxembed.encoders.texts import check_kind, check_texts, fault_of
from jaxembed.encoders.token_batches import packed_batches, token_batches

if TYPE_CHECKING:
    from jaxembed.encoders.encoder import Encoder

INTEGERS = {"int8": np.int8, "uint8": np.uint8}
BITS = {"binary": np.int8, "ubinary": np.uint8}
ENCODE = {
    "prompt_name": (str, None),
    "prompt": (str, None),
    "batch_size": int,
    "truncate_dim": (int, None),
    "normalize": bool,
    "precision": str,
    "packing": bool,
}
PRECISIONS = ("float32", *INTEGERS, *BITS)
Advance = Callable[[int], None]


def encode_stream(
    encoder: Encoder,
    texts: Iterable[str],
    *,
    chunk: int = 10_000,
    precision: str = "float32",
    ranges: np.ndarray | None = None,
    show_progress: bool = False,
    **options: Any,
) -> Iterator[np.ndarray]:
    """Yields the embeddings of texts in their order, `chunk` at a time, the last ones fewer.

    It reads a chunk of texts when it is asked for their embeddings, and keeps none, so that a
    generator may give more of them than memory holds. Within a chunk all is as `Encoder.encode`
    does it, whose `options` it takes.

    Args:
        ranges: `[2 d]`, needed for "int8" and "uint8": a chunk's own would differ from the next's.

    Raises:
        EncoderError: what `Encoder.encode` refuses, or integers without `ranges`.

    >>> import jaxembed
    >>> encoder = jaxembed.load("all-MiniLM-L6-v2")
    >>> lines = (f"line {number}" for number in range(5))
    >>> [part.shape for part in encode_stream(encoder, lines, chunk=2, truncate_dim=64)]
    [(2, 64), (2, 64), (1, 64)]
    """
    check_arguments("encode_stream", {"chunk": int}, chunk=chunk)
    if chunk < 1:
        raise EncoderError(f"chunk must be at least 1; got {chunk}")
    if precision in INTEGERS and ranges is None:
        raise EncoderError(f"{precision} embeddings of a stream need ranges, the same for all")
    check_kind(texts)
    texts = [texts] if isinstance(texts, str) else texts
    embed = build_embed(encoder, precision=precision, ranges=ranges, **options)
    total = len(texts) if isinstance(texts, Sized) else None

    def chunks() -> Iterator[np.ndarray]:
        unread, first = iter(texts), 0
        with progress(total, show_progress) as advance:
            while part := list(islice(unread, chunk)):
                check_texts(part, first)
                try:
                    embeddings = embed(part, advance)
                except TextError as error:
                    raise error.in_row(first + error.row) from None
                first += len(part)
                yield quantize_embeddings(embeddings, precision, ranges)

    return chunks()


def build_embed(
    encoder: Encoder,
    *,
    prompt_name: str | None = None,
    prompt: str | None = None,
    batch_size: int = 64,
    truncate_dim: int | None = None,
    normalize: bool = False,
    precision: str = "float32",
    ranges: np.ndarray | None = None,
    devices: Sequence[Any] | None = None,
    packing: bool = False,
) -> Callable[[Sequence[str], Advance], np.ndarray]:
    """Builds the function of texts that computes float32 `[n d]`, and refuses wrong options.

    `precision` and `ranges` are only checked: `quantize_embeddings` comes after it. The function
    calls its second argument with the number of texts that each batch has finished.
    """
    check_arguments(
        "encode",
        ENCODE,
        prompt_name=prompt_name,
        prompt=prompt,
        batch_size=batch_size,
        truncate_dim=truncate_dim,
        normalize=normalize,
        precision=precision,
        packing=packing,
    )
    width = encoder.dimension if truncate_dim is None else truncate_dim
    if not 1 <= width <= encoder.width:
        raise EncoderError(f"truncate_dim must lie between 1 and {encoder.width}; got {width}")
    if batch_size < 1:
        raise EncoderError(f"batch_size must be at least 1; got {batch_size}")
    if packing and not encoder.packs:
        raise EncoderError(f"{encoder.name}: packing is for transformers of the source jaxembed")
    _check_precision(precision, ranges, width)
    prompt = encoder.prompt(prompt_name) if prompt is None else prompt
    if fault := fault_of(prompt):
        raise EncoderError(f"the prompt {fault}")
    mesh = _mesh(jax.local_devices() if devices is None else devices)
    over_devices = NamedSharding(mesh, PartitionSpec("data"))
    params = encoder.params_on(NamedSharding(mesh, PartitionSpec()))
    batch_size = -(-batch_size // mesh.size) * mesh.size
    batches = partial(token_batches, batch_size=batch_size)
    if packing:
        batches = partial(packed_batches, batch_size=batch_size, n_devices=mesh.size)

    def embed(texts: Sequence[str], advance: Advance) -> np.ndarray:
        embeddings = np.empty((len(texts), width), np.float32)
        running: deque[tuple[np.ndarray, Array]] = deque()  # dispatched, not yet read

        def read() -> None:
            rows, values = running.popleft()
            real = rows >= 0
            embeddings[rows[real]] = np.asarray(values)[: len(rows), ..., :width][real]
            advance(int(real.sum()))

        for rows, tokens in batches(encoder.tokenizer, texts, prompt):
            running.append((rows, encoder.compiled(params, jax.device_put(tokens, over_devices))))
            if len(running) > 1:
                read()
        while running:
            read()
        if normalize:
            lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings /= np.maximum(lengths, 1e-12)
        return embeddings

    return embed


def quantize_embeddings(
    embeddings: np.ndarray, precision: str, ranges: np.ndarray | None = None
) -> np.ndarray:
    """Stores embeddings in one byte or one bit per feature, as sentence-transformers 6.2 does.

        int8, uint8       floor((x - low) / step), within 0 to 255, with step = (high - low) / 255
        binary, ubinary   the bits of x > 0, eight features to a byte

    The bytes of int8 and binary are those of uint8 and ubinary less 128.

    Args:
        ranges: of int8 and uint8, the least and the greatest value per feature `[2 d]`, best those
            of many embeddings, and the same for texts that are to be compared; those of these
            embeddings if None.

    Raises:
        EncoderError: an unknown precision, or ranges that do not fit.

    >>> x = np.array([[0.0, -1.0], [0.5, 3.0]], np.float32)
    >>> quantize_embeddings(x, "uint8", ranges=np.array([[0.0, -1.0], [1.0, 1.0]])).tolist()
    [[0, 0], [127, 255]]
    >>> quantize_embeddings(x, "ubinary").tolist()  # bits 00 and 11
    [[0], [192]]
    """
    _check_precision(precision, ranges, embeddings.shape[1])
    if precision == "float32":
        return embeddings
    if precision in BITS:
        codes = np.packbits(embeddings > 0, axis=1)
    else:
        if ranges is None and len(embeddings) == 1:
            raise EncoderError(f"{precision} of one text needs ranges [2 d], those of many texts")
        low, high = ranges_of(embeddings) if ranges is None else np.asarray(ranges, np.float32)
        step = (high - low) / 255
        levels = np.floor((embeddings - low) / np.where(step == 0, 1, step))
        codes = np.clip(levels, 0, 255).astype(np.uint8)
    signed = precision in ("int8", "binary")
    return (codes ^ 128).view(np.int8) if signed else codes


def ranges_of(embeddings: np.ndarray) -> np.ndarray:
    """Returns the least and the greatest value of every feature, `[2 d]`; 0 without embeddings."""
    if not len(embeddings):
        return np.zeros((2, embeddings.shape[1]), np.float32)
    return np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])


@contextmanager
def progress(total: int | None, show: bool) -> Iterator[Advance]:
    """Shows a bar that goes away in the end; yields the function that moves it on."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, disable=not show, transient=True) as bar:
        task = bar.add_task("encoding", total=total)
        yield lambda n_texts: bar.advance(task, n_texts)


def _check_precision(precision: str, ranges: np.ndarray | None, width: int) -> None:
    if precision not in PRECISIONS:
        raise EncoderError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    if ranges is None:
        return
    if precision not in INTEGERS:
        raise EncoderError(f"ranges belong to the precisions int8 and uint8, not to {precision}")
    if np.shape(ranges) != (2, width):
        raise EncoderError(f"ranges must be [2 d], {(2, width)}; got {np.shape(ranges)}")
    check_numbers("ranges", ranges)
    for feature, (least, greatest) in enumerate(np.asarray(ranges).T):
        if not -np.inf < least <= greatest < np.inf:
            found = f"feature {feature} has {least} to {greatest}"
            raise EncoderError(f"ranges must be finite, the least value first; {found}")


def _mesh(devices: Sequence[Any]) -> Mesh:
    """Builds the mesh that `jaxembed.training` builds: its encoders are compiled for that."""
    if not isinstance(devices, Sequence) or not len(devices):
        raise EncoderError("devices must be a list of devices, and not empty")
    types = (AxisType.Auto,)
    return jax.make_mesh((len(devices),), ("data",), devices=devices, axis_types=types)
