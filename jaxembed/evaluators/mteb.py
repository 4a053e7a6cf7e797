"""An encoder as the benchmark MTEB calls it; nothing here needs mteb, which brings torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.evaluators.similarity import PAIRED_SIMILARITIES
from jaxembed.search import SIMILARITIES, Similarity, check_similarity

DOCUMENT_NAMES = ("document", "passage")


class EncodesTexts(Protocol):
    """What `MtebEncoder` needs of an encoder; `jaxembed.encoders.Encoder` has it."""

    name: str
    prompts: Mapping[str, str]
    similarity: str

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: list[str], *, prompt: str | None = None, **options: Any) -> Any: ...


class MtebEncoder:
    """Lets the tasks of mteb (version 2) run on an encoder: its `EncoderProtocol`.

        model = MtebEncoder(jaxembed.load("all-MiniLM-L6-v2"))
        mteb.evaluate(model, mteb.get_task("STS12"))

    The prompt of a task is the encoder's prompt of the name "TASK-query" or "TASK-document", of the
    task, of its type likewise, or "query" and "document" (or "passage"), the first that there is.

    Args:
        name, revision: what the results are filed under; a name has the form "owner/model".
        options: further ones of `encoder.encode`, such as `truncate_dim`.

    Source: Muennighoff et al., "MTEB: Massive Text Embedding Benchmark", 2023.

    >>> class Lengths:
    ...     name, prompts, dimension, similarity = "lengths", {"query": "q: "}, 1, "cosine"
    ...     def encode(self, texts, *, prompt=None):
    ...         return np.array([[len(prompt or "") + len(text)] for text in texts], np.float32)
    >>> class Task:
    ...     name, type = "Fruits", "Retrieval"
    >>> MtebEncoder(Lengths()).encode([{"text": ["fig", "plum"]}, {"text": ["kiwi"]}],
    ...     task_metadata=Task, hf_split="test", hf_subset="default", prompt_type="query").tolist()
    [[6.0], [7.0], [7.0]]
    """

    def __init__(
        self,
        encoder: EncodesTexts,
        name: str | None = None,
        revision: str = "local",
        **options: Any,
    ) -> None:
        self.encoder = encoder
        stem = str(encoder.name).rstrip("/").rpartition("/")[2]
        self.name = name or f"jaxembed/{stem}"
        self.revision = revision
        self.options = options

    def encode(
        self,
        inputs: Iterable[Mapping[str, list[str]]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Embeds the texts of all batches, `[n d]`; mteb's own options are not used."""
        texts = [text for batch in inputs for text in batch["text"]]
        prompt = self._prompt(task_metadata, prompt_type)
        return np.asarray(self.encoder.encode(texts, prompt=prompt, **self.options), np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Computes the similarities of all pairs `[n m]`."""
        compare = SIMILARITIES[self._compared]
        return self._as(embeddings1, compare(rows_of(embeddings1), rows_of(embeddings2)))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Computes the similarity of each pair `[n]`."""
        compare = PAIRED_SIMILARITIES[self._compared]
        return self._as(embeddings1, compare(rows_of(embeddings1), rows_of(embeddings2)))

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb files the results under; only this needs mteb."""
        from importlib import import_module

        meta = import_module("mteb.models.model_meta").ModelMeta
        unknown = dict.fromkeys(
            (
                *("loader", "release_date", "languages", "n_parameters", "memory_usage_mb"),
                *("max_tokens", "license", "open_weights", "public_training_code"),
                *("public_training_data", "use_instructions", "training_datasets"),
            )
        )
        return meta(
            name=self.name,
            revision=self.revision,
            embed_dim=self.encoder.dimension,
            framework=[],
            similarity_fn_name=self._compared,
            **unknown,
        )

    def _prompt(self, task: Any, prompt_type: Any) -> str | None:
        """Returns the most particular prompt there is; None is the encoder's default."""
        role = str(getattr(prompt_type, "value", prompt_type or ""))
        roles = DOCUMENT_NAMES if role in DOCUMENT_NAMES else (role,) if role else ()
        names = [
            name
            for of in (task.name, task.type)
            for name in (*(f"{of}-{role}" for role in roles), of)
        ]
        found = [name for name in (*names, *roles) if name in self.encoder.prompts]
        return self.encoder.prompts[found[0]] if found else None

    @property
    def _compared(self) -> Similarity:
        similarity: Any = self.encoder.similarity
        check_similarity(similarity)
        return similarity

    @staticmethod
    def _as(like: Any, values: np.ndarray) -> Any:
        """Returns a tensor where the other library gave one."""
        values = np.asarray(values)
        return values if isinstance(like, np.ndarray) else like.new_tensor(values)


def rows_of(embeddings: Any) -> Array:
    """Returns embeddings `[n d]`, or one of them, as float32 rows."""
    return jnp.atleast_2d(jnp.asarray(np.asarray(embeddings, np.float32)))
