"""The one place where the entries of a batch become arguments of a loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxembed.randomness import row_keys
from jaxembed.typing import PACKED, Batch, EncodeFn, Params, Roles

MASKS_AND_IDS = ("where", "negatives_where", "ids", "anchor_ids", "negative_ids")
NEGATIVES = "negatives"


def text_columns(batch: Batch, roles: Roles) -> list[str]:
    """Names the text columns of a batch in the order of the roles, negatives last."""
    names = list(roles.texts)
    if roles.several:
        further = (f"{roles.texts[-1]}_{number}" for number in range(2, len(batch) + 2))
        names += [name for name in further if name in batch]
    return [*names, NEGATIVES] if NEGATIVES in batch else names


def encode_columns(
    encode: EncodeFn,
    params: Params,
    columns: Mapping[str, Mapping[str, Any]],
    keys: Mapping[str, Array | None],
    packed: Mapping[str, Any] | None = None,
) -> dict[str, Array]:
    """Encodes text columns, those of one shape together: a smaller program with the same results.

    Their rows take turns, so that rows spread over devices stay where they are. Columns that have
    only `places` are encoded at once, as the blocks of `packed`.
    """
    embeddings = {}
    if within := {name: x["places"] for name, x in columns.items() if x.keys() == {"places"}}:
        if packed is None:
            raise ValueError(
                f"the batch has no {PACKED}, in whose blocks the places of {', '.join(within)} are"
            )
        embeddings |= _encode_packed(encode, params, packed, within, keys)
    alike: dict[Any, list[str]] = {}
    for name, tokens in columns.items():
        if name in within:
            continue
        several = tokens["places"].ndim > 1 if "blocks" in tokens else tokens["input_ids"].ndim > 2
        shapes = [(str(path), x.shape) for path, x in jax.tree.leaves_with_path(tokens)]
        alike.setdefault(name if several else tuple(shapes), []).append(name)
    for names in alike.values():
        first, *others = names
        if not others:
            embeddings[first] = encode_column(encode, params, columns[first], key=keys[first])
            continue
        tokens = _joined([columns[name] for name in names])
        n = columns[first]["places" if "blocks" in columns[first] else "input_ids"].shape[0]
        of_columns = [key for name in names if (key := keys[name]) is not None]
        key = _in_turn([row_keys(key, n) for key in of_columns]) if of_columns else None
        together = encode(params, tokens, key=key)
        together = together.reshape(n, len(names), *together.shape[1:])
        embeddings |= {name: together[:, number] for number, name in enumerate(names)}
    return {name: embeddings[name] for name in columns}


def _encode_packed(
    encode: EncodeFn,
    params: Params,
    packed: Mapping[str, Any],
    places: Mapping[str, Array],
    keys: Mapping[str, Array | None],
) -> dict[str, Array]:
    """Encodes the blocks of `packed` and takes the texts of each column, at its places, out."""
    of_row = {name: its.reshape(len(its), -1) for name, its in places.items()}
    of_texts = [
        text_keys(key, its.shape).reshape(of_row[name].shape)
        for name, its in places.items()
        if (key := keys[name]) is not None
    ]
    key = jnp.concatenate(of_texts, axis=1).reshape(-1) if of_texts else None
    tokens = {**packed, "places": jnp.concatenate([*of_row.values()], axis=1)}
    together = encode(params, tokens, key=key)  # [n texts of a row …]
    ends = np.cumsum([its.shape[1] for its in of_row.values()])
    parts = jnp.split(together, ends[:-1], axis=1)
    return {
        name: part.reshape(*its.shape, *part.shape[2:])
        for (name, its), part in zip(places.items(), parts, strict=True)
    }


def text_keys(key: Array, shape: tuple[int, ...]) -> Array:
    """Returns the key of every text, `[n]` or `[n k]`: folded from the row, then from its place."""
    keys = row_keys(key, shape[0])
    if len(shape) == 1:
        return keys
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
    return fold(keys, jnp.arange(shape[1]))


def _in_turn(arrays: Sequence[Array]) -> Array:
    """Joins arrays of one shape: the first row of each, then the second of each."""
    stacked = jnp.stack(arrays, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def _joined(columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Joins columns of one shape, their texts and the rows of their blocks in turn."""
    if "blocks" not in columns[0]:
        return {entry: _in_turn([tokens[entry] for tokens in columns]) for entry in columns[0]}
    count = len(columns)
    blocks, moved, before = [], [], 0
    for of_columns in zip(*(tokens["blocks"] for tokens in columns), strict=True):
        block = {entry: _in_turn([one[entry] for one in of_columns]) for entry in of_columns[0]}
        numbered = (one["texts"] * count + number for number, one in enumerate(of_columns))
        block["texts"] = jnp.where(block["texts"] < 0, -1, _in_turn([*numbered]))
        blocks.append(block)
        texts = of_columns[0]["texts"]
        places = before + np.arange(count * texts.size).reshape(len(texts), count, -1)
        moved.append(places.swapaxes(0, 1).reshape(count, -1))
        before += places.size
    to = np.concatenate(moved, axis=1)  # from the places of each column to those of the joined one
    places = [jnp.asarray(to[number])[tokens["places"]] for number, tokens in enumerate(columns)]
    return {"blocks": blocks, "places": _in_turn(places)}


def encode_column(
    encode: EncodeFn, params: Params, tokens: Mapping[str, Any], *, key: Array | None
) -> Array:
    """Encodes one text column: `[n d]`, or `[n k d]` where a row has several texts.

    Every text has its own key, folded from the row and, of several texts, the position.
    """
    shape = tokens["places"].shape if "blocks" in tokens else tokens["input_ids"].shape[:-1]
    if len(shape) == 1:
        return encode(params, tokens, key=key)
    key = None if key is None else text_keys(key, shape).reshape(-1)
    if "blocks" in tokens:
        return encode(params, tokens, key=key)
    flat = {entry: array.reshape(math.prod(shape), -1) for entry, array in tokens.items()}
    embeddings = encode(params, flat, key=key)
    return embeddings.reshape(*shape, *embeddings.shape[1:])


def embed_by_network(
    encode: EncodeFn | None,
    params: Params,
    batch: Batch,
    network: str,
    role: str,
    same: Mapping[str, str],
) -> Array:
    """Returns a frozen network's embeddings of a role: stored ones as they are, tokens encoded.

    `same` are other names of roles in the batch.

    Raises:
        ValueError: the batch has neither.
    """
    names = [f"{network}_{role}", f"{network}_{same.get(role, role)}"]
    found = next((batch[name] for name in names if name in batch), None)
    if found is None:
        raise ValueError(
            f"the batch has no {names[0]}: give the {network}'s embeddings of the {role}, or its"
            f" own tokens of them, {network}.tokenizer(texts); tokens of another tokenizer mean"
            " nothing to it"
        )
    if not isinstance(found, Mapping):
        return jnp.asarray(found)
    if found.keys() == {"places"}:
        raise ValueError(
            f"a {network} reads texts that are packed by themselves: pack, not pack_columns"
        )
    if encode is None:
        raise ValueError(f"the batch has tokens for a {network}, but build(…) got no {network}=")
    return lax.stop_gradient(encode_column(encode, params, found, key=None))


def batch_keywords(batch: Batch, names: Mapping[str, Any], roles: Roles) -> dict[str, Any]:
    """Returns what of the batch goes into the loss by keyword: labels, masks and ids."""
    ids = MASKS_AND_IDS if roles.ids else MASKS_AND_IDS[:2]
    wanted = [name for name in (*roles.labels, *ids) if name in names and name in batch]
    return {
        name: jnp.asarray(batch[name]) for name in wanted if not isinstance(batch[name], Mapping)
    }
