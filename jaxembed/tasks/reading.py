"""How the texts of a task are read: by which tokenizer, behind which prompt, packed or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from jaxembed.data import DataError, Rows
from jaxembed.encoders import TextTokenizer
from jaxembed.objectives import WeightedSum
from jaxembed.tasks.networks import Networks


def tokenizers_of(
    networks: Networks,
    objective: WeightedSum,
    rows: Rows,
    live: dict[str, tuple[str, ...]],
    *,
    prompts: Sequence[str | None],
    prompt_texts: Mapping[str, str],
    buckets: Sequence[int] | None,
    token_cache: str | PurePath | None,
) -> dict[str, tuple[TextTokenizer, str]]:
    """Returns the tokenizer and the prompt of each role, those of frozen networks too."""

    def prepared(tokenizer: TextTokenizer) -> TextTokenizer:
        tokenizer = tokenizer if buckets is None else tokenizer.with_buckets(buckets)
        return tokenizer if token_cache is None else tokenizer.with_cache(str(token_cache))

    encoder = networks.encoder
    of_query, of_document = (encoder.prompt(name) for name in prompts)
    tokenizer = prepared(encoder.tokenizer)
    if token_cache is not None and not tokenizer.cache:
        raise DataError(
            f"{token_cache} holds no tokens of this model and max_seq_length; fill it with"
            " scripts/tokenize_texts.py"
        )
    others = (*rows.text_roles[1:], "negatives")
    tokenizers = {rows.text_roles[0]: (tokenizer, of_query)}
    tokenizers |= dict.fromkeys(others, (tokenizer, of_document))
    if unknown := prompt_texts.keys() - tokenizers.keys():
        raise DataError(
            f"there is no text {min(unknown)} to put a prompt before; there are"
            f" {', '.join(tokenizers)}"
        )
    tokenizers |= {role: (tokenizer, prompt) for role, prompt in prompt_texts.items()}
    for role in objective.leading.decoded:
        assert networks.decoder is not None
        tokenizers[role] = prepared(networks.decoder.tokenizer), ""
    for name, roles in live.items():
        network = networks.frozen[name]
        reads = prepared(network.tokenizer), network.prompt(None)
        tokenizers |= dict.fromkeys([f"{name}_{role}" for role in roles], reads)
    return tokenizers


def packed_roles(
    networks: Networks,
    objective: WeightedSum,
    rows: Rows,
    live: Mapping[str, tuple[str, ...]],
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Returns the roles that are packed: the encoder's together, and each of the others alone.

    The others are what a copy of the encoder reads, and networks that can.
    """
    if not networks.encoder.packs:
        raise ValueError(
            f"packing is for transformers of the source jaxembed; {networks.encoder.name} is none"
        )
    leading = objective.leading
    roles = [role for role in (*rows.text_roles, "negatives") if role not in leading.decoded]
    alone = {role for role in roles if role in leading.copied}
    for name, its_roles in live.items():
        if networks.frozen[name].packs:
            alone |= {f"{name}_{role}" for role in its_roles}
    return tuple(role for role in roles if role not in alone), frozenset(alone)
