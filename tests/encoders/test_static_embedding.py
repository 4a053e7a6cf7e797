"""StaticEmbedding folders: exact means, training, saving, and what is refused."""

import json
import os
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.objectives import REGISTRY

GOLDENS = Path(__file__).parents[1] / "goldens"
TORCH = os.environ.get("JAXEMBED_TORCH_PYTHON")

WORDS = ["[UNK]", "[CLS]", "a", "cat", "sits", "on", "the", "mat"]
TEXTS = ["a cat sits", "", "the mat", "a cat on an unknown mat", "cat", "a a cat cat cat"]
STATIC = "sentence_transformers.models.StaticEmbedding"
STATIC_6 = "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"


def table():
    return np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)


def tokenizer():
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    made.enable_padding(pad_id=2)  # as some tokenizer.json have it; it must not matter
    return made


def write_modules(folder, *types, path=""):
    paths = [path, *(f"{i}_{kind.rpartition('.')[2]}" for i, kind in enumerate(types) if i)]
    listing = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listing))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    write_modules(made, STATIC)
    tokenizer().save(str(made / "tokenizer.json"))
    save_file({"embedding.weight": table()}, made / "model.safetensors")
    return made


def means(texts, rows):
    """The mean of the words' rows, added up in float64; zeros without a word."""
    embeddings = []
    for text in texts:
        total = np.zeros(rows.shape[1])
        for word in text.split():
            total += rows[WORDS.index(word) if word in WORDS else 0]
        embeddings.append(total / max(len(text.split()), 1))
    return np.stack(embeddings)


def arrays(tokens):
    return {name: jnp.asarray(array) for name, array in tokens.items()}


def test_the_mean_of_the_rows_and_zeros_for_an_empty_text(folder):
    embeddings = jaxembed.load(folder).encode(TEXTS)
    np.testing.assert_allclose(embeddings, means(TEXTS, table()), atol=1e-6)
    np.testing.assert_array_equal(embeddings[1], 0)


@pytest.mark.parametrize("width", [4, 8, 64])
@pytest.mark.parametrize("padding", [0, 3])
def test_padding_changes_nothing(folder, width, padding):
    encoder = jaxembed.load(folder)
    tokens = encoder.tokenizer.with_buckets([width])(TEXTS[:3])
    tokens["input_ids"] = np.where(tokens["attention_mask"], tokens["input_ids"], padding)
    assert tokens["input_ids"].shape == (3, width)
    embeddings = encoder.apply(encoder.params, arrays(tokens))
    np.testing.assert_allclose(embeddings, means(TEXTS[:3], table()), atol=1e-6)


def test_no_text_is_cut(folder):
    text = " ".join(["cat"] * 9_000 + ["mat"] * 9_000)
    encoder = jaxembed.load(folder)
    assert encoder.tokenizer([text])["attention_mask"].sum() == 18_000
    expected = means([text, "cat"], table())
    # A float32 sum of 9,000 equal rows rounds the same way each time; cut anywhere, it is far off.
    np.testing.assert_allclose(encoder.encode([text, "cat"]), expected, atol=1e-3)
    assert "a text of any number of tokens" in (encoder.save(folder) / "README.md").read_text()


def test_max_seq_length_and_the_truncation_of_the_tokenizer(folder, tmp_path):
    text, cut = ["a cat sits on the mat"], ["a cat"]
    limited = jaxembed.load(folder, max_seq_length=2)
    saved = limited.save(tmp_path / "saved")
    for encoder in (limited, jaxembed.load(saved)):
        assert encoder.tokenizer.max_length == 2
        np.testing.assert_allclose(encoder.encode(text), means(cut, table()), atol=1e-6)
    assert Tokenizer.from_file(str(saved / "tokenizer.json")).truncation["max_length"] == 2
    longer = jaxembed.load(saved, max_seq_length=6)
    np.testing.assert_allclose(longer.encode(text), means(text, table()), atol=1e-6)
    with pytest.raises(EncoderError, match="max_seq_length must be at least 1; got 0"):
        jaxembed.load(folder, max_seq_length=0)


@pytest.mark.parametrize("kind", [STATIC, STATIC_6])
@pytest.mark.parametrize("path", [".", "0_StaticEmbedding"])
def test_types_and_paths_of_all_versions_and_modules_behind(folder, kind, path):
    (folder / path).mkdir(exist_ok=True)
    for file in ("tokenizer.json", "model.safetensors"):
        (folder / file).rename(folder / path / file)
    kernel = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    (folder / "1_Dense").mkdir()
    config = {"in_features": 5, "out_features": 3, "bias": False}
    (folder / "1_Dense/config.json").write_text(json.dumps(config))
    save_file({"linear.weight": kernel}, folder / "1_Dense/model.safetensors")
    write_modules(
        folder,
        kind,
        "sentence_transformers.models.Dense",
        "sentence_transformers.models.Normalize",
        path=path,
    )
    expected = np.tanh(means(TEXTS, table()) @ kernel.T)
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    encoder = jaxembed.load(folder)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    layers = encoder.all_layers(encoder.params, arrays(encoder.tokenizer(TEXTS)))
    np.testing.assert_allclose(layers, expected[:, None], atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_model2vec_folder_without_modules(folder, normalize):
    (folder / "modules.json").unlink()
    config = {"model_type": "model2vec", "normalize": normalize, "embedding_dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config))
    rows = table().astype(np.float16)
    save_file({"embeddings": rows}, folder / "model.safetensors")
    expected = means(TEXTS, rows)
    if normalize:
        expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    encoder = jaxembed.load(folder)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    saved = encoder.save(folder)
    np.testing.assert_array_equal(load_file(saved / "model.safetensors")["embeddings"], rows)
    config["embedding_dtype"] = "float32"
    assert json.loads((saved / "config.json").read_text()) == config
    np.testing.assert_array_equal(jaxembed.load(saved).encode(TEXTS), encoder.encode(TEXTS))


def test_rows_that_tokens_share_and_weights_of_tokens(folder):
    mapping = np.array([0, 1, 2, 2, 3, 3, 0, 4])
    weights = np.linspace(0.1, 2, len(WORDS))
    tensors = {"embeddings": table()[:5], "mapping": mapping, "weights": weights}
    save_file(tensors, folder / "model.safetensors")
    rows = weights[:, None] * table()[mapping]
    encoder = jaxembed.load(folder)
    np.testing.assert_allclose(encoder.encode(TEXTS), means(TEXTS, rows), atol=1e-6)
    again = jaxembed.load(encoder.save(folder))
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_what_is_saved_is_what_was_read(folder, tmp_path):
    encoder = jaxembed.load(folder)
    encoder.encode(TEXTS)
    saved = encoder.save(tmp_path / "saved")
    before, after = (load_file(at / "model.safetensors") for at in (folder, saved))
    assert list(after) == ["embedding.weight"]
    assert after["embedding.weight"].tobytes() == before["embedding.weight"].tobytes()
    assert (saved / "modules.json").read_text() == json.dumps(
        [{"idx": 0, "name": "0", "path": "", "type": STATIC}], indent=2
    ) + "\n"
    settings = {"modules.json", "config_sentence_transformers.json", "README.md"}
    assert {file.name for file in saved.iterdir()} == {*settings, "tokenizer.json",
                                                       "model.safetensors"}  # fmt: skip
    np.testing.assert_array_equal(jaxembed.load(saved).encode(TEXTS), encoder.encode(TEXTS))


def test_only_rows_of_used_tokens_have_a_gradient(folder):
    encoder = jaxembed.load(folder)
    tokens = arrays(encoder.tokenizer(["a cat sits", "", "sits"]))
    gradient = jax.grad(lambda params: encoder.apply(params, tokens).sum())(encoder.params)
    expected = np.zeros((len(WORDS), 5))
    for word, share in {"a": 1 / 3, "cat": 1 / 3, "sits": 1 / 3 + 1}.items():
        expected[WORDS.index(word)] = share
    np.testing.assert_allclose(gradient["transformer"]["embedding"], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_three_steps_of_training_lower_the_loss(folder, dtype):
    encoder = jaxembed.load(folder, dtype=dtype)
    objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply)
    batch = {
        "anchors": encoder.tokenizer(["a cat", "the", "sits on"]),
        "positives": encoder.tokenizer(["sits", "mat the", "a"]),
        "where": np.ones(3, bool),
    }
    params, optimizer = {"encoder": encoder.params}, optax.adam(0.1)
    state = optimizer.init(params)
    step = jax.jit(jax.value_and_grad(lambda p: objective(p, batch, key=jax.random.key(0))[0]))
    losses = []
    for _ in range(4):
        loss, gradient = step(params)
        losses.append(float(loss))
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, updates)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]


def test_bfloat16_rounds_the_rows_alone(folder):
    encoder = jaxembed.load(folder, dtype=jnp.bfloat16)
    rounded = np.asarray(jnp.asarray(table(), jnp.bfloat16), np.float64)
    np.testing.assert_allclose(encoder.encode(TEXTS), means(TEXTS, rounded), atol=1e-6)


def test_a_drawn_table(folder):
    first, again, other = (
        jaxembed.load(folder, initialize=seed).params["transformer"]["embedding"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == table().shape
    assert not np.isclose(first, other).any()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_layers": 1}, "n_layers=1, but a StaticEmbedding has no layers"),
        ({"pooling": "cls"}, "pooling 'cls' needs a Pooling module; there is none"),
    ],
)
def test_options_without_a_meaning_are_refused(folder, option, message):
    with pytest.raises(EncoderError, match=message):
        jaxembed.load(folder, **option)


def test_options_with_nothing_to_do_change_nothing(folder):
    encoder = jaxembed.load(folder, dropout=False, source="jaxembed", remat="full")
    np.testing.assert_array_equal(encoder.encode(TEXTS), jaxembed.load(folder).encode(TEXTS))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": table()}, r"must hold embedding\.weight or embeddings"),
        ({"embedding.weight": table()[0]}, r"must hold floats \[.*got float32 \[5\]"),
        ({"embedding.weight": table().astype(np.int8)}, r"must hold floats .*got int8 \[8, 5\]"),
        ({"embeddings": table().astype(np.uint8)}, r"must hold floats \[.*got uint8 \[8, 5\]"),
        ({"embeddings": np.full((8, 5), np.nan)}, "embeddings holds NaN or infinite values"),
        ({"embeddings": table(), "mapping": np.ones(8)}, "mapping must name rows of embed"),
        ({"embeddings": table(), "mapping": np.ones(0, int)}, "mapping must name rows of embed"),
        ({"embeddings": table(), "weights": np.ones(8, int)}, "weights holds int64, no floats"),
        ({"embeddings": table(), "mapping": np.arange(1, 9)}, "mapping must name rows of embed"),
        ({"embeddings": table(), "weights": np.ones(7)}, r"one per token, \[8\]; got \[7\]"),
    ],
)
def test_tensors_that_do_not_fit(folder, tensors, message):
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()},
              folder / "model.safetensors")  # fmt: skip
    with pytest.raises(EncoderError, match=message):
        jaxembed.load(folder)


def test_a_word_without_a_row_is_refused_in_a_text(folder):
    save_file({"embedding.weight": table()[:7].copy()}, folder / "model.safetensors")
    encoder = jaxembed.load(folder)
    assert encoder.encode(["a cat sits"]).shape == (1, 5)
    with pytest.raises(EncoderError, match="text 1 has the token 'mat', number 7; the model embed"):
        encoder.encode(["a cat", "the mat"])


def test_integers_of_model2vec_have_the_directions_of_their_floats(folder):
    scale = np.abs(table()).max() / 127
    integers = np.rint(table() / scale).astype(np.int8)
    save_file({"embeddings": integers * np.float32(scale)}, folder / "model.safetensors")
    floats = jaxembed.load(folder).encode(TEXTS, normalize=True)
    save_file({"embeddings": integers}, folder / "model.safetensors")
    encoder = jaxembed.load(folder)
    np.testing.assert_allclose(encoder.encode(TEXTS, normalize=True), floats, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(["cat"])[0], integers[3], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"), [(None, r"has no tokenizer\.json"), ("{", r"json cannot be read")]
)
def test_a_missing_or_broken_tokenizer(folder, content, message):
    (folder / "tokenizer.json").unlink()
    if content:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(EncoderError, match=message):
        jaxembed.load(folder)


def test_a_missing_table(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"model\.safetensors is missing"):
        jaxembed.load(folder)


def test_pooling_behind_it(folder):
    write_modules(folder, STATIC, "sentence_transformers.models.Pooling")
    with pytest.raises(EncoderError, match="leaves no tokens for a Pooling module"):
        jaxembed.load(folder)


@pytest.mark.skipif(TORCH is None, reason="JAXEMBED_TORCH_PYTHON names no Python with torch")
@pytest.mark.parametrize("max_seq_length", [None, 2])
def test_sentence_transformers_loads_what_is_saved(folder, tmp_path, max_seq_length):
    encoder = jaxembed.load(folder, max_seq_length=max_seq_length)
    saved = encoder.save(tmp_path / "saved")
    texts, out = tmp_path / "texts.json", tmp_path / "out.npz"
    texts.write_text(json.dumps(TEXTS))
    script = GOLDENS / "load_in_torch.py"
    subprocess.run([str(TORCH), str(script), str(saved), str(texts), str(out)], check=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), np.load(out)["embeddings"], atol=1e-6)


def test_potion_gives_the_published_embeddings():
    texts = json.loads((GOLDENS / "encoders/potion_texts.json").read_text())
    expected = np.load(GOLDENS / "encoders/potion.npz")["embeddings"]
    embeddings = jaxembed.load("minishlab/potion-base-8M").encode(texts)
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)
