"""Mines hard negatives: pairs of queries and answers in, rows with negatives out.

After an interruption the same command goes on behind what is whole. With other filters it does not
search again:

    python scripts/mine_negatives.py all-MiniLM-L6-v2 --data pairs.parquet --output mined.parquet
    python scripts/mine_negatives.py org/model --data a.jsonl --columns question reply \\
        --relative-margin 0.05 --num-negatives 5 --output mined.jsonl
    python scripts/mine_negatives.py org/model --data pairs.parquet --corpus corpus.parquet \\
        --rescore org/better --max-score 0.8 --output-format triplet --output mined
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from command import command
from compiled_programs import keep_programs
from config import ConfigError
from inputs import fingerprint
from manifest import Manifest, digest, write_whole
from mined_rows import MinedRows, check_names
from mining_flags import Config, check
from mining_inputs import open_sides, open_texts
from mining_report import plot, show, statistics
from mining_search import Compared, Pace, say, search, shards_of
from pairs import Pairs
from results import versions
from vectors import Vectors

from jaxembed.folder_lock import locked
from jaxembed.mining import Mined, mine
from jaxembed.search import Similarity

# What the search depends on. Filters, and what is written, may change without another one.
OF_THE_SEARCH = ("candidates", "max_seq_length", "dtype", "shard_size")


def main(config: Config) -> int:
    """Encodes and searches what is not done yet, and writes the negatives; returns the status."""
    check(config)
    keep_programs(config.cache)

    # Data and models: all that can be wrong is found before anything is written
    pairs = open_texts(config)
    check_names(pairs.names, config.output_format, config.num_negatives)
    sides = open_sides(config, pairs)
    with locked(config.work):
        manifest = Manifest(config.work, identity(config, pairs, sides))
        shards = shards_of("found", range(len(pairs.queries)), config.shard_size, ".npz")
        missing = {name: shard for name, shard in shards.items() if not manifest.has(name)}
        done = len(pairs.queries) - sum(map(len, missing.values()))
        say(
            f"{len(pairs.queries):,} queries, {len(pairs.answers):,} answers,"
            f" {len(pairs.documents):,} documents; {done:,} queries are done"
        )

        # Embeddings, then candidates, shard by shard
        size = config.shard_size
        if missing:
            vectors: list[tuple[Vectors, Vectors, Similarity]] = [
                (
                    each.queries.vectors(manifest, size),
                    each.documents.vectors(manifest, size),
                    each.similarity,
                )
                for each in sides
            ]
            pace = Pace("queries", len(pairs.queries), missing)
            for name, shard in missing.items():
                found = search(
                    pairs, shard, vectors, k=min(config.candidates, len(pairs.documents))
                )
                manifest.write(name, partial(np.savez, **found))
                pace(name, shard)

        # Negatives
        write_negatives(config, pairs, shards)
        return 0


def identity(config: Config, pairs: Pairs, sides: Sequence[Compared]) -> dict[str, Any]:
    """Collects all that the candidates depend on."""
    facts = {name: getattr(config, name) for name in (*OF_THE_SEARCH, "rescore")}
    for role, each in zip(("model", "rescore"), sides, strict=False):
        encoder = each.queries.encoder
        facts[f"{role}_similarity"] = each.similarity
        facts[role] = encoder and encoder.name
        facts[f"{role}_fingerprint"] = encoder and fingerprint(jax.tree.leaves(encoder.params))
        for side in (each.queries, each.documents):
            facts[f"prompt of {side.name}"] = encoder and side.options["prompt"]
            facts[f"dimension of {side.name}"] = side.size
            facts[f"length 1 of {side.name}"] = side.normalize
    files = (*config.embeddings_of_queries, *config.embeddings_of_corpus)
    return {
        **facts,
        "stored_fingerprints": [digest(Path(file).expanduser()) for file in files],
        "queries": len(pairs.queries),
        "documents": len(pairs.documents),
        "data_fingerprint": pairs.fingerprint,
    }


def mine_shards(
    config: Config, pairs: Pairs, shards: Mapping[str, range]
) -> tuple[Mined, np.ndarray, int]:
    """Filters the candidates of all queries.

    Returns what is left, the score of each answer, and how many candidates there were.
    """
    mined, answer_scores, n_found = [], [], 0
    for name, queries in shards.items():
        with np.load(config.work / name) as found:
            scores, candidates = found["scores"], found["candidates"]
            answer_scores.append(found["positive_scores"])
        starts = pairs.starts[queries.start : queries.stop] - pairs.starts[queries.start]
        least = np.minimum.reduceat(answer_scores[-1], starts)
        mined.append(mine(scores, candidates, least, config.filters, first_row=queries.start))
        n_found += int((candidates >= 0).sum())
    negatives, scores, removed = zip(*mined, strict=True)
    counts = {name: sum(each[name] for each in removed) for name in removed[0]}
    every = Mined(np.concatenate(negatives), np.concatenate(scores), counts)
    return every, np.concatenate(answer_scores), n_found


def write_negatives(config: Config, pairs: Pairs, shards: Mapping[str, range]) -> None:
    """Writes the rows of the queries that have negatives, and says what became of the rest."""
    mined, answer_scores, n_found = mine_shards(config, pairs, shards)
    n_negatives = (mined.negatives >= 0).sum(axis=1)
    least = 1 if config.keep_incomplete else config.num_negatives
    kept = np.flatnonzero(n_negatives >= least)
    candidates = {
        "found": n_found,
        **{f"beyond {name}": count for name, count in mined.removed.items()},
        "left": n_found - sum(mined.removed.values()),
        "taken": int(n_negatives[kept].sum()),
    }
    if not len(kept):
        counts = ", ".join(f"{count:,} {name}" for name, count in candidates.items())
        raise ConfigError(
            f"no query has {least} negative(s); of the candidates: {counts}; lower --num-negatives,"
            " widen the filters, or give --keep-incomplete"
        )

    taken = mined.negatives[kept] >= 0
    negatives = mined.scores[kept][taken]
    hardest = np.minimum.reduceat(answer_scores, pairs.starts[:-1])[kept]
    similarities = {
        "answers": statistics(answer_scores),
        "negatives": statistics(negatives),
        "hardest answer − negative": statistics(np.repeat(hardest, n_negatives[kept]) - negatives),
    }
    rows = MinedRows(
        pairs, kept, mined.negatives, mined.scores, answer_scores, config.output_format
    )
    savers = {".parquet": rows.save_parquet, ".jsonl": rows.save_jsonl}
    write_whole(config.file, savers[config.file.suffix])
    write_whole(config.picture, partial(plot, answer_scores, negatives))
    queries = {
        "all": len(n_negatives),
        f"with fewer than {config.num_negatives} negatives": int(
            (n_negatives < config.num_negatives).sum()
        ),
        "with none": int((n_negatives == 0).sum()),
        "written": len(kept),
    }
    report = {"configuration": dataclasses.asdict(config), "queries": queries}
    report |= {"candidates": candidates, "similarities": similarities, "versions": versions()}
    text = json.dumps(report, indent=2, default=str) + "\n"
    write_whole(config.report, lambda stream: stream.write(text.encode()))
    show(candidates, similarities)
    show_results(config, pairs, queries)


def show_results(config: Config, pairs: Pairs, queries: Mapping[str, int]) -> None:
    """Prints how many queries have negatives, where everything is, and how to train on it."""
    say("queries    " + ", ".join(f"{count:,} {name}" for name, count in queries.items()))
    if queries["written"] < queries["all"] - queries["with none"]:
        say("           --keep-incomplete also writes those that have fewer, but one at least")
    say(
        f"negatives  {config.file}\npicture    {config.picture}\nreport     {config.report}\n"
        f"candidates {config.work}: the same command with other filters does not search again"
    )
    if config.output_format in ("n-tuple", "triplet", "scored"):
        names = " ".join(pairs.names)
        say(f"\npython scripts/train.py --data {config.file} --columns {names} --hard-negatives")


if __name__ == "__main__":
    command(main, Config, __doc__, kept="whole shards stay, the same command goes on")
