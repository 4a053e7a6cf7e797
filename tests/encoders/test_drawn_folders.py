"""240 drawn model folders: sentence-transformers' embeddings, or a refusal that names the reason.

Each is read as it was drawn, and again as sentence-transformers 6.2 saved it.
"""

import json
import lzma
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import jaxembed
from jaxembed.encoders import EncoderError

FOLDERS = Path(__file__).parents[1] / "goldens/folders"
sys.path.insert(0, str(FOLDERS))
from drawn import (  # noqa: E402  # pyright: ignore[reportMissingImports]
    N_FOLDERS,
    TEXTS,
    draw,
    rewrite,
    write,
)

EXPECTED = np.load(FOLDERS / "expected.npz")
STORED = json.loads(lzma.decompress((FOLDERS / "saved.json.xz").read_bytes()))
FAST = 12  # of the drawn ones; a dozen has every family
ROLES = ("query", "document")
ATOL = 1e-5


def numbers(first, last):
    return [pytest.param(n, id=f"{n}-{draw(n).family}") for n in range(first, last)]


def check(folder, drawn):
    """Holds a folder to what is stored, or to a refusal in one line that names what is odd."""
    key = str(drawn.number)
    try:
        found = embeddings_of(folder)
    except EncoderError as error:
        refusal = str(error)
    else:
        assert key not in STORED["errors"], "sentence-transformers refuses it"
        for name, embeddings in found.items():
            stored = EXPECTED[f"{key}/{name}" if f"{key}/{name}" in EXPECTED else f"{key}/plain"]
            largest = np.maximum(1, np.abs(stored).max(axis=1, keepdims=True))
            np.testing.assert_allclose(
                embeddings / largest, stored / largest, atol=ATOL, err_msg=name
            )
        return
    assert drawn.odd, f"refused: {refusal}"
    assert drawn.odd in refusal
    assert "\n" not in refusal


def embeddings_of(folder):
    encoder = jaxembed.load(folder)
    encoder = replace(encoder, tokenizer=encoder.tokenizer.with_buckets((40,)))  # one program
    encode = partial(encoder.encode, TEXTS, batch_size=len(TEXTS))
    of_roles = {role: encode(prompt=encoder.prompt_for(role)) for role in ROLES}
    return {"plain": encode(), **of_roles}


def check_number(number, tmp_path):
    drawn = draw(number)
    write(drawn, tmp_path / "model")
    check(tmp_path / "model", drawn)
    if files := STORED["files"].get(str(number)):
        rewrite(tmp_path / "model", files)
        check(tmp_path / "model", drawn)


@pytest.mark.parametrize("number", numbers(0, FAST))
def test_a_drawn_folder_encodes_as_in_sentence_transformers(number, tmp_path):
    check_number(number, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", numbers(FAST, N_FOLDERS))
def test_every_drawn_folder_encodes_as_in_sentence_transformers(number, tmp_path):
    check_number(number, tmp_path)


def test_what_is_drawn_covers_families_modules_and_settings():
    folders = list(map(draw, range(N_FOLDERS)))
    assert len({folder.family for folder in folders[:FAST]}) == FAST
    assert {folder.odd for folder in folders} >= {"", "LSTM", "PReLU", "RReLU", "query_length"}
    kinds = {kind for folder in folders for kind in f"{folder.before} {folder.behind}".split()}
    assert kinds == {*("TokenDense", "TokenNormalize", "Layers", "Normalize", "Dense", "LayerNorm"),
                     *("Dropout", "Residual")}  # fmt: skip
    assert {folder.layout for folder in folders} == {"root", "below", "bare"}
    assert len(STORED["files"]) >= 200
