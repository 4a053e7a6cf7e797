"""What a mining reads, as its flags say: texts, models and stored embeddings."""

from __future__ import annotations

from functools import partial
from typing import Any

import datasets
import numpy as np
from config import ConfigError
from mining_flags import Config
from mining_search import Side, is_stored, say
from pairs import Column, Pairs, open_pairs
from vectors import open_stored

from jaxembed.data import bind_columns, open_dataset
from jaxembed.encoders import Encoder, load
from jaxembed.typing import Roles


def open_texts(config: Config) -> Pairs:
    """Opens the data and the corpus, and numbers their texts."""
    datasets.disable_progress_bars()
    rows = bind_columns(
        open_dataset(one_or_all(config.data), split=config.split),
        Roles(("anchors", "positives")),
        config.columns,
        drop_incomplete=config.drop_incomplete,
    )
    for reason, count in rows.dropped.items():
        say(f"left out {count:,} rows {reason}")
    return open_pairs(rows, open_corpus(config) if config.corpus else None)


def open_corpus(config: Config) -> Column:
    """Opens the column of a corpus; with _id and title, titles stand before the texts."""
    dataset = open_dataset(one_or_all(config.corpus), split=config.corpus_split)
    rows = bind_columns(dataset, Roles(("texts",)), {"texts": config.corpus_column})
    if not {"_id", "title"} <= set(dataset.column_names):
        return Column(partial(rows.texts, "texts"), len(rows))
    titles = dataset.select_columns(["title"])

    def read(numbers: np.ndarray | range) -> list[str]:
        both = zip(titles[numbers]["title"], rows.texts("texts", numbers), strict=True)
        return [f"{title} {text}".strip() if title else text for title, text in both]

    return Column(read, len(rows))


def one_or_all(names: tuple[str, ...]) -> Any:
    return names[0] if len(names) == 1 else list(names)


def open_sides(config: Config, pairs: Pairs) -> list[tuple[Side, Side]]:
    """Opens what gives queries and documents their embeddings; with --rescore, twice."""
    texts = {"queries": pairs.queries, "documents": pairs.documents}
    files = {"queries": config.embeddings_of_queries, "documents": config.embeddings_of_corpus}
    flags = {"queries": "--embeddings-of-queries", "documents": "--embeddings-of-corpus"}
    stored = {name: open_stored(flags[name], files[name], texts[name]) for name in texts}
    shared = {"batch_size": config.batch_size, "packing": config.packing}

    encoder = None
    if config.model is not None and not all(is_stored(texts[n], stored[n]) for n in texts):
        encoder = open_encoder(config, config.model)
    options = {**shared, "truncate_dim": config.truncate_dim}
    prompts = prompts_of(config, encoder)
    queries, documents = (
        Side(name, texts[name], stored[name], encoder, {**options, "prompt": prompts[name]})
        for name in texts
    )
    if queries.size != documents.size:
        raise ConfigError(
            f"the embeddings of queries have {queries.size} features, those of documents"
            f" {documents.size}"
        )
    sides = [(queries, documents)]
    if config.rescore is not None:
        second = open_encoder(config, config.rescore)
        usual = second.prompt(None)
        its_prompts = config.rescore_prompts or (usual, usual)
        queries, documents = (
            Side(f"rescore-{name}", texts[name], [], second, {**shared, "prompt": prompt})
            for name, prompt in zip(texts, its_prompts, strict=True)
        )
        sides.append((queries, documents))
    return sides


def open_encoder(config: Config, name: str) -> Encoder:
    return load(
        name,
        dtype=config.dtype,
        max_seq_length=config.max_seq_length,
        source=config.encoder_source,
    )


def prompts_of(config: Config, encoder: Encoder | None) -> dict[str, str]:
    """Returns what stands before queries and documents; nothing if none are encoded."""
    if encoder is None:
        return {"queries": "", "documents": ""}
    query, document = config.query_prompt, config.document_prompt
    return {
        "queries": encoder.prompt(config.query_prompt_name) if query is None else query,
        "documents": encoder.prompt(config.document_prompt_name) if document is None else document,
    }
