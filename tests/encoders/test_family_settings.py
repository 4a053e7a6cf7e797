"""Settings of the families against transformers' PyTorch models: angles, windows, activations."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxembed.encoders import EncoderError
from jaxembed.encoders.families import load_family
from jaxembed.encoders.families.activations import ACTIVATIONS
from jaxembed.encoders.families.rope import read_rope

FOLDER = Path(__file__).parents[1] / "goldens/families"
STORED = json.loads((FOLDER / "settings.json").read_text())
CASES, SCALINGS = STORED["cases"], STORED["scalings"]
# One of each kind; those of one kind share the code.
FAST = {
    "qwen3_yarn_mscale",
    "qwen3_longrope",
    "qwen3_llama3",
    "qwen3_window",
    "gemma3_yarn",
    "modernbert_old_yarn",
    "mpnet_laplace",
}
slow = pytest.mark.exhaustive
NAMES = [pytest.param(name, marks=() if name in FAST else slow) for name in CASES]


def folder_of(family, changes, path):
    """A family's folder whose configuration has other entries; None removes one."""
    folder = Path(shutil.copytree(FOLDER / family, path / family))
    settings = json.loads((folder / "config.json").read_text()) | changes
    settings = {key: value for key, value in settings.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def drawn_weights(folder, groups, inners):
    """Gives an ALBERT the layers that goldens/families/make_settings.py drew."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    first = "encoder.albert_layer_groups.0.albert_layers.0."
    for group in range(groups):
        for inner in range(inners):
            for name in [name for name in tensors if name.startswith(first)]:
                generator = np.random.default_rng([group, inner, len(name)])
                noise = generator.normal(0, 0.1 * (group + inner > 0), tensors[name].shape)
                other = f"encoder.albert_layer_groups.{group}.albert_layers.{inner}."
                other += name.removeprefix(first)
                tensors[other] = tensors[name] + noise.astype(np.float32)
    save_file(tensors, file)


def load_case(name, path):
    family, changes = CASES[name]
    folder = folder_of(family, changes, path)
    if family == "albert":
        drawn_weights(
            folder, changes.get("num_hidden_groups", 1), changes.get("inner_group_num", 1)
        )
    return load_family(folder, dtype=jnp.float32)


def rows():
    expected = np.load(FOLDER / "qwen3/expected.npz")
    return {name: expected[f"right_{name}"] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("name", NAMES)
def test_states_are_those_of_pytorch(name, tmp_path):
    transformer, tokens = load_case(name, tmp_path), rows()
    found = jax.jit(transformer.apply)(transformer.params, tokens)
    found = np.asarray(found)[tokens["attention_mask"] > 0]
    np.testing.assert_allclose(found, np.load(FOLDER / "settings.npz")[name], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", ["qwen3_longrope", "qwen3_window", "gemma3_longrope"])
def test_texts_in_a_row_have_the_states_of_each_alone(name, tmp_path):
    transformer, tokens = load_case(name, tmp_path), rows()
    lengths = tokens["attention_mask"].sum(axis=1)
    packed = {
        "input_ids": tokens["input_ids"][tokens["attention_mask"] > 0][None],
        "attention_mask": np.ones((1, lengths.sum()), np.int32),
        "segment_ids": np.repeat(np.arange(1, 5), lengths)[None],
        "positions": np.concatenate([np.arange(length) for length in lengths])[None],
    }
    found = jax.jit(transformer.apply)(transformer.params, packed)[0]
    expected = np.load(FOLDER / "settings.npz")[name]
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_of_every_scaling_are_those_of_pytorch(name):
    numbers = {
        key: [x for x in value for _ in range(8)] if isinstance(value, list) else value
        for key, value in SCALINGS[name].items()
    }
    rope = read_rope({"rope_theta": 1e6, **numbers}, head=128, n_positions=40_960, place="")
    *frequencies, factor = np.load(FOLDER / "settings.npz")[f"rope/{name}"]
    np.testing.assert_allclose(rope.frequencies, frequencies, rtol=5e-7)
    np.testing.assert_allclose(rope.factor, factor, rtol=1e-6)


def test_activations_are_those_of_pytorch():
    expected = np.load(FOLDER / "settings.npz")
    names = {key.removeprefix("activation/") for key in expected if "activation/" in key}
    assert names == ACTIVATIONS.keys()
    for name, function in ACTIVATIONS.items():
        found = function(jnp.asarray(expected["x"]))
        np.testing.assert_allclose(
            found, expected[f"activation/{name}"], atol=1e-6, rtol=2e-6, err_msg=name
        )


YARN = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}
LONG = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 8}


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("qwen3", {"rope_scaling": {"rope_type": "mrope"}}, "rope_type must be one of default"),
        ("qwen3", {"rope_scaling": {"rope_type": "yarn"}}, "it lacks 'factor'"),
        ("qwen3", {"rope_scaling": {"rope_type": 3}}, "rope_type must be one of"),
        ("qwen3", {"rope_scaling": {"type": "linear", **YARN}}, "type 'linear'; keep one"),
        ("qwen3", {"rope_scaling": [YARN]}, "rope_scaling must be an object or null"),
        ("qwen3", {"rope_scaling": {**YARN, "factor": "2"}}, 'factor must be .*got "2"'),
        ("qwen3", {"rope_scaling": {**YARN, "factor": 0}}, "factor must be a finite number above"),
        ("qwen3", {"rope_scaling": {**YARN, "alpha": 2.0}}, "the key 'alpha' is unknown for"),
        ("qwen3", {"rope_scaling": LONG}, "short_factor must hold 8 numbers"),
        ("qwen3", {"rope_parameters": {"full_attention": YARN}}, "key 'full_attention' is unknown"),
        ("qwen3", {"rope_scaling": {**YARN, "partial_rotary_factor": 0.5}}, "partial_rotary_fac"),
        ("gemma3", {"rope_parameters": YARN}, "must hold full_attention and sliding_attention"),
        ("gemma3", {"rope_parameters": {"full_attention": 1}}, "full_attention must be an object"),
        ("gemma3", {"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": None},
         "type is read by some versions only; write rope_type"),
        ("modernbert", {"rope_scaling": {**YARN, "truncate": False}}, "truncate is read by some"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 3}, "use_sliding_window is false"),
        ("qwen3", {"layer_types": ["full_attention"] * 2}, "layer_types must have 3 entries"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 3}, r"layer_types\[0\] must be one of"),
        ("qwen3", {"use_sliding_window": True, "is_causal": False, "max_window_layers": 0,
                   "layer_types": None}, "is_causal false does not go with layers"),
        ("qwen3", {"num_attention_heads": 3}, "3 heads cannot share 2 of keys"),
        ("qwen3", {"head_dim": 15}, "heads of even width; got 15"),
        ("qwen3", {"head_dim": 2**31}, "a head must have 1 to 65536 features"),
        ("modernbert", {"hidden_size": 2**30}, "a head must have 1 to 65536 features"),
        ("modernbert", {"num_attention_heads": 64}, "a head must have 1 to 65536 features; got 0"),
        ("gemma3", {"head_dim": []}, "head_dim must be a whole number"),
        ("albert", {"num_hidden_groups": 4}, "num_hidden_groups 4 are more than"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_by_name(family, changes, message, tmp_path):
    with pytest.raises(EncoderError, match=message) as caught:
        load_family(folder_of(family, changes, tmp_path), dtype=jnp.float32)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_albert_of_several_groups_is_not_cut(tmp_path):
    folder = folder_of("albert", {"num_hidden_groups": 3}, tmp_path)
    with pytest.raises(EncoderError, match="n_layers is not for layers in several groups"):
        load_family(folder, dtype=jnp.float32, n_layers=1)
