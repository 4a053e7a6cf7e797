"""modules.json: older layouts, paths, first modules, and folders that are no text encoders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.encoders.modules import Pooling

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
TEXTS = ["a cat sat on the mat", "the dog"]
OF_TRANSFORMER = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                  "sentence_bert_config.json")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "model"))


@pytest.fixture
def listing(folder):
    return json.loads((folder / "modules.json").read_text())


def write(folder, listing):
    (folder / "modules.json").write_text(json.dumps(listing))


def edit(file, **changes):
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **changes}))


def refused(folder, message, **options):
    with pytest.raises(EncoderError, match=message) as caught:
        jaxembed.load(folder, **options)
    assert "\n" not in str(caught.value)


def move(folder, listing, path):
    (folder / path).mkdir(parents=True)
    for name in OF_TRANSFORMER:
        if (folder / name).exists():
            shutil.move(folder / name, folder / path / name)
    write(folder, [{**listing[0], "path": path}, *listing[1:]])


def test_a_transformer_below_the_root(folder, listing, tmp_path):
    expected = jaxembed.load(folder).encode(TEXTS)
    move(folder, listing, "0_Transformer")
    encoder = jaxembed.load(folder)
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)
    again = jaxembed.load(encoder.save(tmp_path / "saved"))
    np.testing.assert_array_equal(again.encode(TEXTS), expected)
    assert jaxembed.encoders.load_decoder(folder).dimension == 32


@pytest.mark.parametrize("path", ["0_Transformer/", "parts/transformer"])
def test_a_transformer_anywhere_in_the_folder(folder, listing, path):
    move(folder, listing, path)
    assert jaxembed.load(folder).tokenizer.max_length == jaxembed.load(TINY).tokenizer.max_length


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("sentence_transformers.base.modules.router.Router", "a Router of several encoders"),
        ("sentence_transformers.models.Asym", "a Router of several encoders"),
        ("sentence_transformers.models.WordEmbeddings", "an encoder of word vectors"),
        ("sentence_transformers.models.BoW", "an encoder of bags of words"),
        ("sentence_transformers.models.CLIPModel", "an encoder of images and texts"),
        ("sentence_transformers.sparse_encoder.models.MLMTransformer", "a sparse encoder"),
        ("sentence_transformers.models.Pooling", "is not supported; only Transformer"),
        ("custom_st.Transformer", "code of the model's own, which is never run"),
        ("modeling.Pooling", "code of the model's own, which is never run"),
        ("Whatever", "code of the model's own, which is never run"),
    ],
)
def test_another_first_module_is_named_before_its_files_are_missed(folder, listing, kind, what):
    for name in OF_TRANSFORMER:
        (folder / name).unlink(missing_ok=True)
    write(folder, [{**listing[0], "type": kind}])
    refused(folder, f"{what}.*{kind}|{kind}.*{what}")


@pytest.mark.parametrize(
    "kind", ["CNN", "LSTM", "SpladePooling", "MultiVectorMask", "WordWeights", "NoSuchModule"]
)
def test_another_module_is_named(folder, listing, kind):
    entry = {"path": "2_Other", "type": f"sentence_transformers.models.{kind}"}
    write(folder, [*listing[:2], entry])
    refused(folder, rf"sentence_transformers\.models\.{kind} is not supported")


def test_a_module_of_pylate_is_named(folder, listing):
    write(folder, [listing[0], {"path": "1_Dense", "type": "pylate.models.Dense.Dense"}])
    refused(folder, r"is a multi-vector model \(ColBERT\): the module pylate.models.Dense.Dense")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"config.json": {"architectures": ["BertForSequenceClassification"]}}, "a cross-encoder"),
        ({"config_sentence_transformers.json": {"model_type": "CrossEncoder"}}, "a cross-encoder"),
        ({"config_sentence_transformers.json": {"model_type": "SparseEncoder"}}, "a sparse enc"),
        ({"config_sentence_transformers.json": {"model_type": "MultiVectorEncoder"}}, "a multi-v"),
        ({"config.json": {"architectures": ["HF_ColBERT"]}}, "a multi-vector model"),
        ({"config.json": {"architectures": ["BertForMaskedLM"]}}, "a sparse encoder"),
        ({"config.json": {"architectures": None}}, "no text encoder"),
    ],
    ids=str,
)
def test_a_folder_without_a_pooling_says_what_it_is(folder, listing, files, what):
    for name, changes in files.items():
        edit(folder / name, **changes)
    write(folder, listing[:1])
    refused(folder, f"is {what}.*: no Pooling makes vectors of texts here; .* pooling='mean'")
    expected = Pooling(("mean",), width=32)
    pooled = jaxembed.load(folder, pooling="mean")
    assert pooled.modules[0][1] == expected
    assert pooled.dimension == 32


@pytest.mark.parametrize("kept", [(0, 2), (0, 3), (0, 2, 3)])
def test_modules_that_no_pooling_stands_before_are_refused_with_another_remedy(
    folder, listing, kept
):
    write(folder, [listing[index] for index in kept])
    refused(folder, r"is no text encoder: no Pooling .*; name one in modules\.json, or remove")


def test_a_bare_cross_encoder_is_named_and_a_bare_language_model_pooled(folder):
    (folder / "modules.json").unlink()
    edit(folder / "config.json", architectures=["BertForSequenceClassification"])
    refused(folder, "is a cross-encoder")
    edit(folder / "config.json", architectures=["BertForMaskedLM"])
    assert jaxembed.load(folder).modules[0][1] == Pooling(("mean",), width=32)
    edit(folder / "config.json", architectures=["BertForCausalLM"])
    assert jaxembed.load(folder).modules[0][1] == Pooling(("lasttoken",), width=32)
    edit(folder / "config.json", architectures=["BertForCausalLM"], is_causal=False)
    assert jaxembed.load(folder).modules[0][1] == Pooling(("mean",), width=32)


@pytest.mark.parametrize("path", ["../other", "/etc", "1_Pooling/../../x", "..", "a\\..\\..\\b"])
def test_a_path_outside_of_the_folder_is_refused(folder, listing, path):
    write(folder, [listing[0], {**listing[1], "path": path}])
    refused(folder, "which lies outside of the folder")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "it must be a list"),
        ("null", "it must be a list"),
        ("[]", "lists no modules"),
        ('["Pooling"]', r"\[0\] must be an object"),
        ('[{"path": ""}]', r"\[0\] lacks 'type'"),
        ('[{"type": "sentence_transformers.models.Transformer"}]', r"\[0\] lacks 'path'"),
        ('[{"path": 1, "type": "a"}]', r"\[0\]\.path must be a text; got 1"),
        ('[{"path": "", "type": null}]', r"\[0\]\.type must be a text; got null"),
        ("[", "is not valid JSON"),
    ],
)
def test_a_listing_of_another_form_is_refused(folder, content, message):
    (folder / "modules.json").write_text(content)
    refused(folder, rf"modules\.json.*{message}")


def test_two_modules_in_one_folder_are_refused(folder, listing):
    write(folder, [*listing, listing[1]])
    refused(folder, "lists two modules in '1_Pooling'")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_the_models_own_is_never_run_nor_asked_for(folder, name, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    edit(folder / name, auto_map={"AutoModel": "modeling.Own", "AutoTokenizer": ["t.T", None]})
    refused(folder, rf"{name}: auto_map names code of the model's own, which is never run")
