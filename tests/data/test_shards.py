"""Hosts that each make a part of a batch make together what one makes alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed.data import Shards, agreed, share_of, split_by_length, text_shapes
from jaxembed.encoders import pack, pack_columns
from jaxembed.transforms import by_length

BUCKETS = (4, 8, 16)
HOSTS = {  # the parts of each host, of all parts
    "two": [(0, 1), (2, 3)],
    "four": [(0,), (1,), (2,), (3,)],
    "crossed": [(0, 2), (1, 3)],
    "uneven order": [(3,), (0,), (2,), (1,)],
}


def tokens_of(texts, left=False) -> dict[str, Any]:
    """A text is a list of numbers; the padding is as wide as the bucket of the longest."""
    width = next(size for size in BUCKETS if size >= max(map(len, texts)))
    ids = np.zeros((len(texts), width), np.int32)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        place = slice(width - len(text), None) if left else slice(len(text))
        ids[row, place], mask[row, place] = text, 1
    return {"input_ids": ids, "attention_mask": mask}


def form(kind, tokens, parts, left):
    if kind == "split":
        return split_by_length(tokens, buckets=BUCKETS, multiple=parts, always=True)
    if kind == "packed":
        width = max(tokens["input_ids"].shape[1], 8)
        return pack(tokens, width=width, multiple=parts, left=left)
    if kind == "negatives":
        return {name: x.reshape(len(x) // 2, 2, -1) for name, x in tokens.items()}
    return tokens


@by_length
def encode(params, tokens, *, key=None):
    """What a text holds, whatever its padding: sums of its numbers and their squares, a count."""
    ids, mask = jnp.asarray(tokens["input_ids"]), jnp.asarray(tokens["attention_mask"])
    if "segment_ids" in tokens:
        numbers = 1 + jnp.arange(tokens["texts"].shape[1])
        mask = tokens["segment_ids"][:, None] == numbers[None, :, None]
        ids = jnp.broadcast_to(ids[:, None], mask.shape)
    kept = jnp.where(mask > 0, ids, 0)
    return jnp.stack([kept.sum(-1), (kept**2).sum(-1), (mask > 0).sum(-1)], axis=-1)


def together(shares, hosts):
    """Puts the rows of each host where its devices lie."""

    def one(*arrays):
        parts = {}
        for array, own in zip(arrays, hosts, strict=True):
            parts |= zip(own, np.split(array, len(own)), strict=True)
        return np.concatenate([parts[number] for number in sorted(parts)])

    return jax.tree.map(one, *shares)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("kind", ["plain", "split", "packed", "negatives", "packed negatives"])
@pytest.mark.parametrize("hosts", HOSTS.values(), ids=HOSTS)
def test_the_parts_of_hosts_make_one_batch(hosts, kind, left):
    generator = np.random.default_rng(0)
    k = 2 if "negatives" in kind else 1
    for n in (16, 32):
        texts = [
            generator.integers(1, 99, generator.choice([1, 2, 3, 7, 15])).tolist()
            for _ in range(n * k)
        ]
        whole = encode(None, tokens_of(texts, left))
        everyone = [Shards(own, 4) for own in hosts]
        batches: list[Any] = []
        for shards in everyone:
            rows = shards.rows(n)
            own = [texts[row * k + j] for row in rows for j in range(k)]
            column: Any = form(kind.split()[0], tokens_of(own, left), len(shards.mine), left)
            if kind == "packed negatives":
                column["places"] = column["places"].reshape(-1, k)
            batches.append({"texts": column, "where": np.ones(len(rows), bool)})
        shapes = agreed([text_shapes(batch) for batch in batches])
        shares = [share_of(b, shapes, s) for b, s in zip(batches, everyone, strict=True)]
        assert [text_shapes(share) for share in shares] == [shapes] * len(hosts)
        batch = together(shares, hosts)
        assert batch["where"].all()
        np.testing.assert_array_equal(
            np.asarray(encode(None, batch["texts"])).reshape(n * k, 3), whole
        )


def test_one_host_has_all_rows():
    assert Shards.all(4).whole
    np.testing.assert_array_equal(Shards.all(4).rows(8), np.arange(8))
    assert not Shards((1,), 2).whole


def test_the_greatest_shapes_are_agreed_on():
    one = {"anchors": [[3, 8, 0], [1, 16, 0]]}
    other = {"anchors": [[3, 4, 0], [1, 32, 0]]}
    assert agreed([one, other, one]) == {"anchors": [[3, 8, 0], [1, 32, 0]]}
    assert agreed([one]) == one


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("hosts", HOSTS.values(), ids=HOSTS)
def test_columns_of_hosts_share_rows(hosts, left):
    generator = np.random.default_rng(0)
    n, k = 16, 2
    columns = {
        name: [
            generator.integers(1, 99, generator.choice([1, 3, 7, 15])).tolist() for _ in range(m)
        ]
        for name, m in (("anchors", n), ("negatives", n * k))
    }
    everyone = [Shards(own, 4) for own in hosts]
    batches: list[Any] = []
    for shards in everyone:
        rows = shards.rows(n)
        anchors = tokens_of([columns["anchors"][row] for row in rows], left)
        negatives = [columns["negatives"][row * k + j] for row in rows for j in range(k)]
        of_columns = {
            "anchors": anchors,
            "negatives": form("negatives", tokens_of(negatives, left), 0, left),
        }
        batches.append(pack_columns(of_columns, width=16, multiple=len(shards.mine), left=left))
    shapes = agreed([text_shapes(batch) for batch in batches])
    shares = [share_of(b, shapes, s) for b, s in zip(batches, everyone, strict=True)]
    assert [text_shapes(share) for share in shares] == [shapes] * len(hosts)
    batch = together(shares, hosts)
    assert sorted(batch["packed"]["blocks"][0]["texts"].reshape(-1))[-3 * n :] == [*range(3 * n)]
    texts = batch["packed"]["blocks"][0]["texts"].reshape(-1)
    np.testing.assert_array_equal(texts[batch["anchors"]["places"]], np.arange(n) * 3)
    for name, its in columns.items():
        placed = encode(None, batch["packed"] | batch[name])
        whole = encode(None, tokens_of(its, left))
        np.testing.assert_array_equal(np.asarray(placed).reshape(-1, 3), whole)
