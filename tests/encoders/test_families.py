"""Our own transformers against transformers' PyTorch models: states and gradients by family."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxembed.encoders.families import FAMILIES, load_family
from jaxembed.encoders.families.blocks import dropout
from jaxembed.encoders.families.transformer import relative_buckets

FOLDER = Path(__file__).parents[1] / "goldens/families"
NAMES = sorted(file.parent.name for file in FOLDER.glob("*/expected.npz"))


def load(name, **options):
    folder = FOLDER / name
    return load_family(folder, **{"dtype": jnp.float32, **options})


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    return request.param, load(request.param), np.load(FOLDER / request.param / "expected.npz")


def renamed(tensor):
    """The name of a tensor today: gamma and beta were the names of norms before."""
    return tensor.replace("gamma", "weight").replace("beta", "bias")


def tokens_of(expected, side):
    return {name: expected[f"{side}_{name}"] for name in ("input_ids", "attention_mask")}


def test_every_family_is_here():
    types = {
        json.loads((FOLDER / name / "config.json").read_text())["model_type"] for name in NAMES
    }
    assert types == FAMILIES.keys()


@pytest.mark.parametrize("side", ["right", "left"])
def test_hidden_states_of_every_layer_are_those_of_pytorch(case, side):
    _, transformer, expected = case
    tokens = tokens_of(expected, side)
    real = tokens["attention_mask"][:, None, :, None]
    found = jax.jit(transformer.all_layers)(transformer.params, tokens)  # [n l t d]
    hidden = np.moveaxis(expected[f"{side}_hidden"], 0, 1)
    assert found.shape == hidden.shape
    np.testing.assert_allclose(found * real, hidden * real, atol=2e-5, rtol=2e-5)
    last = jax.jit(transformer.apply)(transformer.params, tokens)
    np.testing.assert_allclose(last * real[:, 0], hidden[:, -1] * real[:, 0], atol=2e-5, rtol=2e-5)


def test_relative_positions_fall_into_the_buckets_of_pytorch():
    expected = np.load(FOLDER / "mpnet/expected.npz")
    found = relative_buckets(expected["relative_positions"], 32)
    np.testing.assert_array_equal(found, expected["relative_position_buckets"])


def test_gradients_are_those_of_pytorch(case):
    name, transformer, expected = case
    tokens = tokens_of(expected, "right")

    @jax.jit
    def gradient(params):
        def loss(params):
            weights = expected["w"] * tokens["attention_mask"][..., None]
            return jnp.sum(transformer.apply(params, tokens) * weights)

        return jax.grad(loss)(params)

    found = transformer.tensors(gradient(transformer.params))
    wanted = {
        renamed(key.removeprefix("grad/")): expected[key]
        for key in expected.files
        if key.startswith("grad/") and "pooler" not in key
    }
    assert len(wanted) >= 10
    greatest = max(np.abs(array).max() for array in wanted.values())
    for tensor, array in wanted.items():
        # Of a key's bias it is 0 but for rounding: a softmax does not see it.
        scale = max(np.abs(array).max(), 1e-3 * greatest)
        assert np.abs(found[tensor] - array).max() < 1e-4 * scale, (name, tensor)


def test_what_is_written_back_is_what_was_read(case):
    name, transformer, _ = case
    read = load_file(FOLDER / name / "model.safetensors")
    written = transformer.tensors(transformer.params)
    assert written.keys() == {renamed(key) for key in read}
    for key, tensor in read.items():
        np.testing.assert_array_equal(written[renamed(key)], tensor, err_msg=key)


def test_drawn_parameters_have_the_same_shapes(case):
    name, transformer, _ = case
    drawn = load(name, initialize=0).params
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)  # noqa: E731
    assert shapes(drawn) == shapes(transformer.params)


def test_the_first_layers_alone(case):
    name, transformer, expected = case
    tokens = tokens_of(expected, "right")
    cut = load(name, n_layers=2)
    states = jax.jit(cut.all_layers)(cut.params, tokens)
    whole = jax.jit(transformer.all_layers)(transformer.params, tokens)
    np.testing.assert_allclose(states[:, :2], whole[:, :2], atol=1e-5)
    assert states.shape[1] == 3


@pytest.mark.parametrize("remat", ["full", "dots"])
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_recomputing_changes_no_gradient(name, remat):
    expected = np.load(FOLDER / name / "expected.npz")
    tokens = tokens_of(expected, "right")

    def gradient(transformer):
        loss = lambda params: jnp.sum(transformer.apply(params, tokens) * expected["w"])  # noqa: E731
        return jax.jit(jax.grad(loss))(transformer.params)

    plain, again = gradient(load(name)), gradient(load(name, remat=remat))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), plain, again)


@pytest.mark.parametrize("name", ["bert", "mpnet"])
def test_dropout_is_drawn_by_row_whatever_the_batch(name):
    transformer = load(name)
    tokens = tokens_of(np.load(FOLDER / name / "expected.npz"), "right")
    keys = jax.random.split(jax.random.key(0), 4)
    apply = jax.jit(transformer.apply)
    whole = apply(transformer.params, tokens, key=keys)
    two = {entry: x[2:] for entry, x in tokens.items()}
    np.testing.assert_allclose(
        apply(transformer.params, two, key=keys[2:]), whole[2:], atol=1e-5, rtol=1e-5
    )
    plain = apply(transformer.params, tokens)
    assert np.abs(whole - plain).max() > 0.05
    off = load(name, dropout=False)
    np.testing.assert_allclose(off.apply(off.params, tokens, key=keys), plain, atol=1e-5)


def test_dropout_drops_its_share_and_keeps_the_mean():
    keys = jax.random.split(jax.random.key(0), 64)
    x = jnp.ones((64, 50, 40))
    dropped = dropout(x, 0.1, keys, site=1)
    assert abs(float((dropped == 0).mean()) - 0.1) < 0.002
    assert abs(float(dropped.mean()) - 1) < 0.003
    assert (dropped != dropout(x, 0.1, keys, site=2)).any()
    np.testing.assert_array_equal(dropout(x, 0.1, None, site=1), x)


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "modernbert", "qwen3", "gemma3"])
def test_texts_packed_into_a_row_are_as_alone(name):
    transformer = load(name)
    expected = np.load(FOLDER / name / "expected.npz")
    tokens = tokens_of(expected, "right")
    lengths = tokens["attention_mask"].sum(axis=1)
    alone = jax.jit(transformer.apply)(transformer.params, tokens)
    rows = [row for row in range(4) if lengths[row] < 12]  # 9, 5 and 1 tokens
    ids = np.concatenate([tokens["input_ids"][row, : lengths[row]] for row in rows])
    segments = np.repeat(np.arange(1, len(rows) + 1), lengths[rows])
    positions = np.concatenate([np.arange(lengths[row]) for row in rows])
    packed = {
        "input_ids": ids[None],
        "attention_mask": np.ones((1, ids.size), np.int32),
        "segment_ids": segments[None],
        "positions": positions[None],
    }
    together = jax.jit(transformer.apply)(transformer.params, packed)[0]
    start = 0
    for row in rows:
        stop = start + lengths[row]
        np.testing.assert_allclose(together[start:stop], alone[row, : lengths[row]], atol=1e-5)
        start = stop


@pytest.fixture
def broken(tmp_path):
    """A copy of a family's folder to break."""
    shutil.copytree(FOLDER / "bert", tmp_path / "bert")
    return tmp_path / "bert"


def write(folder, tensors):
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()},
              folder / "model.safetensors")  # fmt: skip


def read_broken(folder, **options):
    from jaxembed.encoders import EncoderError

    with pytest.raises(EncoderError) as refusal:
        load_family(folder, dtype=jnp.float32, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_broken_checkpoint_is_refused_by_name(broken):
    tensors = load_file(broken / "model.safetensors")
    name = next(key for key in tensors if key.endswith("layer.1.intermediate.dense.weight"))
    write(broken, {key: x for key, x in tensors.items() if key != name})
    assert f"lacks 1 tensors, such as {name}" in read_broken(broken)
    write(broken, {**tensors, name: tensors[name][:-1]})
    shape = tensors[name].shape
    wrong = (shape[0] - 1, shape[1])
    assert f"tensor {name} must be {shape}; got {wrong}" in read_broken(broken)
    write(broken, {**tensors, name.replace("layer.1.", "layer.7."): tensors[name]})
    assert "for which config.json has no layer" in read_broken(broken)
    (broken / "model.safetensors").write_bytes(
        (FOLDER / "bert/model.safetensors").read_bytes()[:999]
    )
    assert "broken or cut short" in read_broken(broken)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "0.auto_model.", "module.bert."])
def test_names_of_a_wrapper_are_told(broken, prefix):
    tensors = load_file(broken / "model.safetensors")
    write(broken, {prefix + key: x for key, x in tensors.items()})
    message = read_broken(broken)
    assert f"; it has {prefix}" in message
    assert message.endswith(f"save the model itself, or take {prefix} away")


def test_weights_that_were_not_fetched_are_told_so(broken):
    file = broken / "model.safetensors"
    content = file.read_bytes()
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    assert "is only a pointer of Git LFS; fetch the file: git lfs pull" in read_broken(broken)
    file.unlink()
    (broken / "model-00001-of-00002.safetensors").write_bytes(content)
    assert "there are parts of it, but no model.safetensors.index.json" in read_broken(broken)
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors is missing, which model.s" in read_broken(broken)


def test_a_broken_configuration_is_refused(broken):
    settings = json.loads((broken / "config.json").read_text())
    settings.pop("hidden_size")
    (broken / "config.json").write_text(json.dumps(settings))
    assert "config.json: it lacks 'hidden_size'" in read_broken(broken)


def test_wrong_options_are_refused():
    assert "n_layers must lie between 1 and" in read_broken(FOLDER / "bert", n_layers=9)
    assert "remat must be one of none, full, dots; got 'all'" in read_broken(
        FOLDER / "bert", remat="all"
    )
