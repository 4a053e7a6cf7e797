"""Encodes texts with a text encoder: files in, shards of embeddings out.

After an interruption the same command goes on behind what is whole:

    python scripts/encode.py all-MiniLM-L6-v2 --data texts.parquet --output embeddings
    python scripts/encode.py runs/my/model --data a.jsonl b.jsonl --column question --output my
    python scripts/encode.py org/model --data lines.txt --precision int8 --output bytes
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import datasets
import jax
import numpy as np
import tyro
from command import command
from compiled_programs import keep_programs
from config import ConfigError
from inputs import fingerprint
from manifest import Manifest

from jaxembed.data import DataError, Rows, bind_columns, open_dataset, row_hashes
from jaxembed.encoders import Encoder, load
from jaxembed.encoders.inference import INTEGERS, build_embed, encode_stream, ranges_of
from jaxembed.folder_lock import locked
from jaxembed.settings import Count, check_fields
from jaxembed.typing import Roles

READ = 10_000  # rows read at once


@dataclass(frozen=True)
class Config:
    """The flags."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A folder, or the name of a model on the hub."""
    data: tuple[str, ...]
    """Files (parquet, json, jsonl, csv, tsv, arrow; txt: a text a line), a folder or a hub name."""
    output: Path
    """The folder of the embeddings."""
    column: str = "text"
    """The column of the texts; that of txt files is "text"."""
    split: str = "train"
    """The split of a set that has several."""

    # What is computed
    role: Literal["query", "document"] | None = None
    """What the texts are, for models with a prompt of this name; if not given, the texts have the
    model's default prompt, if there is one."""
    prompt_name: str | None = None
    """Name of one of the model's prompts."""
    prompt: str | None = None
    """What to put in front of every text instead; "" is nothing."""
    truncate_dim: Count | None = None
    """Keeps the first so many features; as many as the model says if not given."""
    normalize: bool = False
    """To unit length."""
    precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] = "float32"
    """A byte (int8, uint8) or a bit (binary, ubinary) per feature instead of four bytes."""
    ranges: Path | None = None
    """For int8 and uint8: an .npy file [2 d] of the least and greatest value per feature."""
    calibration_rows: Count = 10_000
    """Without it, so many texts, spread evenly over the rows, are encoded first to find them."""
    max_seq_length: Count | None = None
    """Tokens that are kept of a text; the model's own limit if not given."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation."""

    # What is written
    format: Literal["npy", "parquet", "arrow"] = "npy"
    """Arrays; or tables with the columns row (the text's number) and embedding."""
    shard_size: Count = 100_000
    """Texts of a shard; so many are in memory at once."""

    # Speed
    batch_size: Count = 64
    """Texts that go through the model at once, on all devices together."""
    devices: Count | None = None
    """How many devices are used; all if not given."""
    packing: bool = False
    """Puts several short texts into one row, so that almost nothing is padding (our own models)."""
    encoder_source: Literal["auto", "jaxembed", "transformers"] = "auto"
    """Whose models: our own, or the Flax ones of transformers 4; auto takes ours where it can."""
    cache: Path | None = Path("~/.cache/jaxembed/compiled")
    """Where compiled programs are kept between runs; None keeps none."""


# What may differ between a run and its continuation.
FREE = (
    *("output", "data", "split", "batch_size", "devices", "cache", "role", "prompt_name"),
    *("packing", "encoder_source"),
)


OF_PROMPT = ("prompt", "prompt_name", "role")


def main(config: Config) -> int:
    """Encodes what is not encoded yet; returns the exit status."""
    check(config)
    keep_programs(config.cache)

    # Model and texts: all that can be wrong is found before anything is written
    encoder = load(
        config.model,
        dtype=config.dtype,
        max_seq_length=config.max_seq_length,
        source=config.encoder_source,
    )
    prompt = prompt_of(config, encoder)
    given = read_ranges(config)
    options = {
        "prompt": prompt,
        "truncate_dim": config.truncate_dim,
        "normalize": config.normalize,
        "batch_size": config.batch_size,
        "devices": jax.devices()[: config.devices],
        "packing": config.packing,
    }
    build_embed(encoder, precision=config.precision, ranges=given, **options)
    rows = open_rows(config)
    shards = [
        range(start, min(start + config.shard_size, len(rows)))
        for start in range(0, len(rows), config.shard_size)
    ]

    with locked(config.output):
        # The output's folder
        manifest = Manifest(
            config.output,
            {
                **{k: v for k, v in dataclasses.asdict(config).items() if k not in FREE},
                "prompt": prompt,
                "ranges": None if given is None else fingerprint([given]),
                "dimension": config.truncate_dim or encoder.dimension,
                "rows": len(rows),
                "data_fingerprint": fingerprint([row_hashes(rows)]),
                "model_fingerprint": fingerprint(jax.tree.leaves(encoder.params)),
            },
        )
        ranges = calibrate(config, encoder, rows, given, manifest, options)
        missing = {
            name: shard
            for number, shard in enumerate(shards)
            if not manifest.has(name := f"embeddings-{number:05}.{config.format}")
        }
        done = len(rows) - sum(map(len, missing.values()))
        parts = f"{len(rows):,} texts in {len(shards)} shard(s)"
        say(f"{config.model}: {parts}, {done:,} texts are done")

        # The loop: a chunk of the stream is a shard
        begin, before = time.perf_counter(), done
        stream = encode_stream(
            encoder,
            Texts(rows, list(missing.values())),
            chunk=config.shard_size,
            precision=config.precision,
            ranges=ranges,
            show_progress=sys.stdout.isatty(),
            **options,
        )
        for (name, shard), embeddings in zip(missing.items(), stream, strict=True):
            manifest.write(name, partial(save, shard, embeddings, config.format))
            done += len(shard)
            per_second = (done - before) / (time.perf_counter() - begin)
            left = (len(rows) - done) / per_second / 60
            say(f"{name}  {done:,}/{len(rows):,}  {per_second:.1f} texts/s  left {left:.1f} min")
        show_results(config, ranges is not None)
        return 0


@dataclass(frozen=True)
class Texts:
    """The texts of some ranges of rows, read a few at a time."""

    rows: Rows
    parts: Sequence[range]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[str]:
        for part in self.parts:
            for start in range(part.start, part.stop, READ):
                yield from self.rows.texts("texts", range(start, min(start + READ, part.stop)))


def check(config: Config) -> None:
    """Refuses flags that cannot work, before anything is loaded."""
    check_fields(config)
    if not config.data:
        raise ConfigError("--data names no file")
    if config.devices is not None and config.devices > len(jax.devices()):
        raise ConfigError(f"there are {len(jax.devices())} devices; got devices {config.devices}")
    named = [name for name in OF_PROMPT if getattr(config, name) is not None]
    if len(named) > 1:
        flags = " or ".join(f"--{name.replace('_', '-')}" for name in named)
        raise ConfigError(f"give either {flags}")
    if config.output.exists() and not config.output.is_dir():
        raise ConfigError(f"{config.output} is a file; choose another --output")


def prompt_of(config: Config, encoder: Encoder) -> str:
    """Returns what stands before the texts, and says so if the model has prompts."""
    if config.prompt is not None:
        return config.prompt
    role = config.role
    prompt = encoder.prompt(config.prompt_name) if role is None else encoder.prompt_for(role)
    names = [name for name, text in encoder.prompts.items() if text]
    if names and config.prompt_name is None:
        used = next((f'"{name}"' for name in names if encoder.prompts[name] == prompt), "none")
        say(
            f"prompt: {used}; the model has {', '.join(map(repr, names))};"
            ' --role, --prompt-name or --prompt says which, --prompt "" none'
        )
    return prompt


def open_rows(config: Config) -> Rows:
    """Opens the texts, and checks that every row has one."""
    datasets.disable_progress_bars()
    source: Any = config.data[0] if len(config.data) == 1 else list(config.data)
    if all(name.endswith(".txt") for name in config.data):
        source = read_lines(config.data)
    dataset = open_dataset(source, split=config.split)
    return bind_columns(dataset, Roles(("texts",)), {"texts": config.column})


def read_lines(files: Sequence[str]) -> datasets.Dataset:
    """Opens files of a text a line; like all data sets they stay on the disk."""
    names = [str(Path(name).expanduser()) for name in files]
    try:
        return datasets.load_dataset("text", data_files=names, split="train")
    except Exception as error:  # whatever the reader raises
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise DataError(f"{', '.join(names)}: cannot be read ({reason})") from error


def read_ranges(config: Config) -> np.ndarray | None:
    """Reads the ranges that a flag names."""
    if config.ranges is None:
        return None
    try:
        return np.asarray(np.load(config.ranges), np.float32)
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"{config.ranges}: the ranges cannot be read ({reason})") from None


def calibrate(
    config: Config,
    encoder: Encoder,
    rows: Rows,
    given: np.ndarray | None,
    manifest: Manifest,
    options: dict[str, Any],
) -> np.ndarray | None:
    """Returns the ranges of all shards, which are kept in `ranges.npy`; None if none are needed."""
    if config.precision not in INTEGERS:
        return None
    if not manifest.has("ranges.npy"):
        manifest.forget()  # shards of other ranges
        ranges = given
        if ranges is None:
            n = min(config.calibration_rows, len(rows))
            texts = rows.texts("texts", np.linspace(0, len(rows) - 1, n).astype(int))
            ranges = ranges_of(encoder.encode(texts, **options))
        manifest.write("ranges.npy", lambda stream: np.save(stream, ranges))
    return np.load(config.output / "ranges.npy")


def save(shard: range, embeddings: np.ndarray, kind: str, stream: BinaryIO) -> None:
    """Writes the embeddings of a range of rows."""
    if kind == "npy":
        np.save(stream, embeddings)
        return
    import pyarrow as pa
    from pyarrow import parquet

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    table = pa.table({"row": pa.array(shard, pa.int64()), "embedding": vectors})
    if kind == "parquet":
        parquet.write_table(table, stream)
    else:
        with pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)


def show_results(config: Config, has_ranges: bool) -> None:
    """Prints where everything is, and how to load it."""
    files = config.output / f"embeddings-*.{config.format}"
    say(f"embeddings  {files}\nmanifest    {config.output / 'manifest.json'}")
    if has_ranges:
        say(f"ranges      {config.output / 'ranges.npy'}, also for texts to compare with these")
    if config.format == "npy":
        say(
            "\nimport glob, numpy as np\n"
            f'files = sorted(glob.glob("{files}"))\n'
            'embeddings = np.concatenate([np.load(file, mmap_mode="r") for file in files])'
        )
    else:
        say(
            "\nfrom jaxembed.data import open_dataset\n"
            f'rows = open_dataset("{files}").with_format("numpy")  # row, embedding'
        )


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    command(main, Config, __doc__, kept="whole shards stay, the same command goes on")
