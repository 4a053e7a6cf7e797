"""What a mining reads, as its flags say: texts, models and stored embeddings."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import datasets
import numpy as np
from config import ConfigError
from mining_flags import Config
from mining_search import Compared, Side, is_stored, say
from pairs import Column, Pairs, open_pairs
from prompts import model_prompts
from vectors import open_stored

from jaxembed.data import bind_columns, open_dataset
from jaxembed.encoders import Encoder, load
from jaxembed.search import Similarity, check_similarity
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
    say(rows.taken)
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


def open_sides(config: Config, pairs: Pairs) -> list[Compared]:
    """Opens what gives queries and documents their embeddings; with --rescore, twice."""
    texts = {"queries": pairs.queries, "documents": pairs.documents}
    files = {"queries": config.embeddings_of_queries, "documents": config.embeddings_of_corpus}
    flags = {"queries": "--embeddings-of-queries", "documents": "--embeddings-of-corpus"}
    stored = {name: open_stored(flags[name], files[name], texts[name]) for name in texts}
    options = {"batch_size": config.batch_size, "packing": config.packing}

    named = None if config.model is None else open_encoder(config, config.model)
    encoder = None if all(is_stored(texts[n], stored[n]) for n in texts) else named
    prompts = prompts_of(config, encoder)
    similarity, normalize = similarity_of(config, named)
    queries, documents = (
        Side(
            *(name, texts[name], stored[name], encoder),
            {**options, "truncate_dim": config.truncate_dim, "prompt": prompts[name]},
            normalize,
        )
        for name in texts
    )
    if queries.size != documents.size:
        raise ConfigError(
            f"the embeddings of queries have {queries.size} features, those of documents"
            f" {documents.size}"
        )
    sides = [Compared(queries, documents, similarity)]
    if config.rescore is not None:
        second = open_encoder(config, config.rescore)
        usual = model_prompts(second, disabled=config.no_prompts)
        its_prompts = config.rescore_prompts or (usual["query"], usual["document"])
        if config.rescore_prompts is None and (line := usual.line()):
            say(f"rescore {line}")
        similarity, normalize = similarity_of(config, second, of="rescore ")
        queries, documents = (
            Side(
                *(f"rescore-{name}", texts[name], [], second),
                {**options, "prompt": prompt},
                normalize,
            )
            for name, prompt in zip(texts, its_prompts, strict=True)
        )
        sides.append(Compared(queries, documents, similarity))
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
    found = model_prompts(
        encoder,
        query=config.query_prompt_name,
        document=config.document_prompt_name,
        disabled=config.no_prompts,
    )
    given = {"query": config.query_prompt, "document": config.document_prompt}
    texts = {role: found[role] if text is None else text for role, text in given.items()}
    found = dataclasses.replace(found, texts=texts)
    if line := found.line():
        say(line)
    return {"queries": found["query"], "documents": found["document"]}


def similarity_of(config: Config, encoder: Encoder | None, of: str = "") -> tuple[Similarity, bool]:
    """Returns what compares the embeddings of a model, and whether they are scaled to length 1."""
    own = "cosine" if encoder is None else encoder.similarity
    similarity: Any = config.similarity or own
    check_similarity(similarity)
    if similarity == "cosine":
        return similarity, False
    length = "of length 1; --no-normalize: as they are" if config.normalize else "as they are"
    say(f"{of}similarity: {similarity} of embeddings {length}")
    return similarity, config.normalize
