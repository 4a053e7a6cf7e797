"""Weights of a model folder: sharded, quantised, in 8 bits, broken, or outside of the folder."""

import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxembed.encoders import EncoderError
from jaxembed.encoders.checkpoint import INDEX, read_tensors
from jaxembed.encoders.families import load_family

FAMILY = Path(__file__).parents[1] / "goldens/families/bert"
QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(FAMILY, tmp_path / "model"))


def load(folder):
    return load_family(folder, dtype=np.float32)


def change(folder, tensors):
    """Writes the checkpoint with other tensors."""
    file = folder / "model.safetensors"
    save_file(load_file(file) | tensors, file)


def write_float8(file, tensors, kinds):
    """Writes safetensors with types that NumPy lacks."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        kind, dtype = kinds.get(name, ("F32", np.float32))
        raw = tensor.astype(dtype).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def shard(folder):
    """Splits the checkpoint into two files and an index, which is returned."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for part in set(places.values()):
        chosen = {name: tensor for name, tensor in tensors.items() if places[name] == part}
        save_file(chosen, folder / part)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


def test_shards_are_read_as_one_checkpoint(folder):
    whole = load(folder).params
    shard(folder)
    jax.tree.map(np.testing.assert_array_equal, load(folder).params, whole)


def test_a_shard_may_be_a_link_as_in_the_hubs_cache(folder, tmp_path):
    shard(folder)
    blob = tmp_path / "blob"
    (folder / "part-0.safetensors").rename(blob)
    (folder / "part-0.safetensors").symlink_to(blob)
    load(folder)


@pytest.mark.parametrize("way", ["../{}", "{folder}/{}", "a/../../{}", "..\\{}", "C:{}"])
def test_files_outside_of_the_folder_are_refused(folder, way):
    places = shard(folder)
    for name, part in places.items():
        places[name] = way.format(part, folder=folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(EncoderError, match="which lies outside of the folder"):
        load(folder)


def test_a_shard_that_lacks_a_tensor_is_named(folder):
    places = shard(folder)
    (folder / INDEX).write_text(
        json.dumps({"weight_map": places | {"new.weight": "part-1.safetensors"}})
    )
    with pytest.raises(EncoderError, match=r"part-1\.safetensors lacks the tensor new\.weight"):
        load(folder)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"part-1\.safetensors is missing"):
        load(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "it must be an object"),
        ("null", "it must be an object"),
        ("{}", "lacks 'weight_map'"),
        ('{"weight_map": ["part-0.safetensors"]}', "weight_map must be an object"),
        ('{"weight_map": {"a": 1}}', r"weight_map\.a must be a text; got 1"),
        ("{", "is not valid JSON"),
        ("\xff", "is not valid JSON"),
    ],
)
def test_an_index_of_another_form_is_refused(tmp_path, index, message):
    (tmp_path / INDEX).write_bytes(index.encode("latin-1"))
    with pytest.raises(EncoderError, match=message) as caught:
        read_tensors(tmp_path)
    assert INDEX in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{}", b"\xff" * 64])
def test_files_that_are_no_safetensors_are_named(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(EncoderError, match=r"model\.safetensors is broken or cut short"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.bool_])
def test_weights_that_are_no_floats_are_refused_by_name(folder, dtype):
    change(folder, {QUERY: np.ones((128, 1) if dtype is np.uint8 else (16, 16), dtype)})
    with pytest.raises(EncoderError, match=rf"{QUERY} holds {np.dtype(dtype)}, .*dequantise"):
        load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(folder, value):
    tensor = load_file(folder / "model.safetensors")[QUERY]
    tensor[3, 4] = value
    change(folder, {QUERY: tensor})
    with pytest.raises(EncoderError, match=f"{QUERY} holds NaN or infinite values"):
        load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.1.attention.self.distance_embedding.weight",
        "encoder.layer.0.output.adapters.a.adapter_down.0.weight",
        "bert.encoder.layer.0.crossattention.self.query.weight",
    ],
)
def test_a_tensor_that_no_layer_has_is_named(folder, name):
    prefix = {} if name.startswith("encoder") else load_file(folder / "model.safetensors")
    change(
        folder, {name: np.ones((4, 16), np.float32)} | {f"bert.{n}": x for n, x in prefix.items()}
    )
    inner = name.removeprefix("bert.")
    with pytest.raises(EncoderError, match=f"has the tensor {inner}, which no layer of this"):
        load(folder)


def test_what_stands_outside_of_the_layers_is_kept(folder):
    change(folder, {"cls.predictions.bias": np.ones(64, np.float32)})
    transformer = load(folder)
    assert "cls.predictions.bias" in transformer.tensors(transformer.params)


def test_large_weights_are_finite(folder):
    change(folder, {QUERY: np.full((16, 16), 3e38, np.float32)})
    load(folder)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F8_E5M2", ml_dtypes.float8_e5m2)]
)
def test_floats_of_8_bits_are_read_unless_scales_stand_apart(folder, kind, dtype):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    write_float8(file, tensors, {QUERY: (kind, dtype)})
    query = load(folder).params["layers"]["attention"]["query"]["kernel"][1]
    np.testing.assert_array_equal(query, tensors[QUERY].astype(dtype).astype(np.float32).T)
    scale = QUERY + "_scale"
    write_float8(file, {**tensors, scale: np.ones(16)}, {QUERY: (kind, dtype)})
    with pytest.raises(EncoderError, match=f"{scale} scales weights of 8 bits"):
        load(folder)


def test_types_that_nothing_reads_are_refused_by_name(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    write_float8(file, tensors, {QUERY: ("F8_E8M0", ml_dtypes.float8_e8m0fnu)})
    with pytest.raises(EncoderError, match=f"{QUERY} has the type F8_E8M0"):
        load(folder)
