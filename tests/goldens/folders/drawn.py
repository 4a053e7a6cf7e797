"""Model folders drawn from a number: families, tokenizers, modules, settings and layouts.

A folder is written with NumPy alone, so that the tests need no stored weights; `make.py` stores
what sentence-transformers computes with it.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

FAMILIES = Path(__file__).parents[1] / "families"
N_FOLDERS = 240
TEXTS = [
    "ship sails over the sea",
    "",
    "The CAT sits [SEP] on an unknown mat and the dog runs in a storm at night [MASK]",
    "bread " * 9 + "warm tower of stone and the light of a harbour is cold " * 4,
]
ENGLISH = """a an the cat dog sits runs on mat road in of and is are bread bake mix flour water oven
warm loaf salt ship sails over sea storm night harbour light tower stone river bank tree leaf green
wind cold winter summer sun rain sky blue cloud bird ##s ##ing"""
WORDS = ENGLISH.split()
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
MODELS = "sentence_transformers.models."
# Names that are drawn: the activations of a Dense, and how a chain may go on behind the pooling.
ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU"),
    *("LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink"),
    *("Softsign", "Tanh", "Tanhshrink"),
)
ODD = ("CNN", "LSTM", "WordWeights", "Softmax", "PReLU", "RReLU", "query_length")
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
CHAINS = (
    *("", "Normalize", "Dense", "Dense Normalize", "LayerNorm", "Dense LayerNorm Normalize"),
    *("Dropout Dense", "Residual", "Residual Dense Dropout", "Dense Dense Normalize"),
)
BEFORE = ("", "", "", "TokenDense", "TokenNormalize", "Layers", "Layers TokenDense")
SIDES = {"right": ("right",), "left": ("right", "left")}
RELATIVE = ("roberta", "xlm-roberta", "mpnet", "modernbert", "qwen3", "gemma3", "gemma3_causal")
CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
LIMITS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


@dataclass
class Folder:
    """What is drawn; `odd` is the name of what no reader supports, if any."""

    number: int
    family: str
    dtype: str
    tokenizer: dict[str, Any]
    limits: tuple[str, dict[str, Any]] | None
    pooling: tuple[str, ...]
    include_prompt: bool
    old_names: bool
    before: str
    behind: str
    settings: dict[str, Any]
    layout: str
    odd: str = ""


def draw(number: int) -> Folder:
    """Draws the folder of a number."""
    random = np.random.default_rng([11, number])
    pick = lambda options: options[int(random.integers(len(options)))]  # noqa: E731
    chance = lambda p: bool(random.random() < p)  # noqa: E731
    families = sorted(path.parent.name for path in FAMILIES.glob("*/config.json"))
    family = families[number % len(families)]
    left = "left" if family in RELATIVE and chance(0.3) else "right"
    tokenizer = {
        "class": pick(CLASSES),
        "model": pick(("words", "words", "pieces", "unigrams")),
        "lower": chance(0.7),
        "padding_side": left,
        "truncation_side": pick(("right", "left")) if chance(0.5) else None,
        "in_file": chance(0.3),  # the sides and a limit stand in tokenizer.json
        "split_special_tokens": chance(0.15),
        "model_max_length": pick((12, 20, 38)),
        "extra": chance(0.3),
        "added_in_file": chance(0.7),
    }
    limits = None
    if chance(0.7):
        limits = (pick(LIMITS), {"max_seq_length": pick((9, 16, 30, None)),
                                 "do_lower_case": chance(0.4)})  # fmt: skip
    pooling = tuple(random.permutation(POOLINGS)[: pick((1, 1, 1, 2, 3))].tolist())
    prompts = pick(
        ({}, {"query": "bird: "}, {"query": "sun ", "document": "rain "}, {"passage": "sky "},
         {"query": "", "topic": "The green leaf "})
    )  # fmt: skip
    settings = {
        "prompts": prompts,
        "default_prompt_name": pick(sorted(prompts)) if prompts and chance(0.5) else None,
        "similarity_fn_name": pick(("cosine", "dot", "euclidean", "manhattan", None)),
        "truncate_dim": pick((3, 7, 100)) if chance(0.3) else None,
    }
    folder = Folder(
        number,
        family,
        pick(("float32", "float32", "float16", "bfloat16")),
        tokenizer,
        limits,
        pooling,
        chance(0.7),
        chance(0.5),
        pick(BEFORE),
        pick(CHAINS),
        settings,
        pick(("root", "root", "root", "below", "bare")),
    )
    if number % 12 == 11:
        folder.odd = pick(ODD)
    return folder


def write(drawn: Folder, folder: Path) -> None:
    """Writes the folder."""
    random = np.random.default_rng([12, drawn.number])
    golden = FAMILIES / drawn.family
    below = folder / "0_Transformer" if drawn.layout == "below" else folder
    below.mkdir(parents=True, exist_ok=True)
    config = json.loads((golden / "config.json").read_text())
    if "Layers" in drawn.before and drawn.layout != "bare":
        config["output_hidden_states"] = True
    _json(below / "config.json", {**config, "dtype": drawn.dtype})
    tensors = load_file(golden / "model.safetensors")
    noise = {name: random.normal(scale=0.1, size=x.shape) for name, x in sorted(tensors.items())}
    tensors = {name: (x + noise[name]).astype(np.float32) for name, x in tensors.items()}
    _tensors(below, tensors, drawn.dtype)
    _write_tokenizer(drawn.tokenizer, below, config["pad_token_id"])
    if drawn.layout == "bare":
        return
    if drawn.limits:
        name, limits = drawn.limits
        if drawn.odd == "query_length":
            limits = {**limits, "query_length": 4}
        _json(below / f"sentence_{name}_config.json", limits)
    settings = {key: value for key, value in drawn.settings.items() if value is not None}
    _json(folder / "config_sentence_transformers.json", settings)
    _write_modules(drawn, folder, config, random)


def _write_modules(drawn: Folder, folder: Path, config: dict, random: Any) -> None:
    width = config.get("hidden_size", config.get("dim"))
    path = "0_Transformer" if drawn.layout == "below" else ""
    listing = [("Transformer", path)]
    for kind in (*drawn.before.split(), "Pooling", *drawn.behind.split(), drawn.odd):
        place = folder / f"{len(listing)}_{kind}"
        width, name = _write_module(kind, place, width, drawn, random)
        if name:
            listing.append((name, place.name))
    entries = [
        {"idx": index, "name": str(index), "path": path, "type": MODELS + name}
        for index, (name, path) in enumerate(listing)
    ]
    _json(folder / "modules.json", entries)


def _write_module(
    kind: str, place: Path, width: int, drawn: Folder, random: Any
) -> tuple[int, str]:
    """Writes one module; returns its width and the name of its class."""
    normal = lambda *shape: random.normal(scale=0.5, size=shape).astype(np.float32)  # noqa: E731
    if kind in ("", "query_length"):
        return width, ""
    if kind == "Pooling":
        _json(place / "config.json", _pooling(drawn, width))
        return width * len(drawn.pooling), kind
    if kind in ("Dense", "Residual", "TokenDense", "Softmax", "PReLU", "RReLU"):
        out = int(random.choice((width, 10, 14)))
        odd = kind if kind in ("Softmax", "PReLU", "RReLU") else ""
        names = {"in_features": width, "out_features": out, "bias": bool(random.random() < 0.7),
                 "activation_function": "torch.nn.modules.activation."
                 + (odd or str(random.choice(ACTIVATIONS)))}  # fmt: skip
        tensors = {"linear.weight": normal(out, width)}
        if names["bias"]:
            tensors["linear.bias"] = normal(out)
        if kind == "Residual":
            names["use_residual"] = True
            if out != width:
                tensors["residual.weight"] = normal(out, width)
        if kind == "TokenDense":
            names |= {"module_input_name": "token_embeddings"}
        if odd == "PReLU":
            tensors["activation_function.weight"] = normal(1)
        _json(place / "config.json", names)
        _tensors(place, tensors)
        return out, "Dense"
    if kind in ("Normalize", "TokenNormalize"):
        tokens = {"module_input_name": "token_embeddings"} if kind != "Normalize" else {}
        place.mkdir(parents=True)
        if tokens:
            _json(place / "config.json", tokens)
        return width, "Normalize"
    if kind == "LayerNorm":
        _json(place / "config.json", {"dimension": width})
        _tensors(place, {"norm.weight": 1 + normal(width), "norm.bias": normal(width)})
        return width, kind
    if kind == "Dropout":
        _json(place / "config.json", {"dropout": 0.3})
        return width, kind
    if kind == "Layers":
        layers = load_file(FAMILIES / drawn.family / "model.safetensors")
        n = n_layers(drawn.family, layers)
        first = int(random.integers(n))
        names = {"word_embedding_dimension": width, "layer_start": first, "num_hidden_layers": n}
        _json(place / "config.json", names)
        _tensors(place, {"layer_weights": 1 + np.abs(normal(n + 1 - first))})
        return width, "WeightedLayerPooling"
    place.mkdir(parents=True)
    _json(place / "config.json", {})
    return width, kind


def n_layers(family: str, tensors: dict[str, np.ndarray]) -> int:
    """Returns the number of layers of a family's golden."""
    config = json.loads((FAMILIES / family / "config.json").read_text())
    return config.get("num_hidden_layers", config.get("n_layers"))


def _pooling(drawn: Folder, width: int) -> dict[str, Any]:
    if drawn.old_names and drawn.pooling == tuple(m for m in POOLINGS if m in drawn.pooling):
        old = {"cls": "cls_token", "lasttoken": "lasttoken"}
        modes = {
            "pooling_mode_" + old.get(mode, mode.removesuffix("_tokens") + "_tokens"): mode
            in drawn.pooling
            for mode in POOLINGS
        }
        return {"word_embedding_dimension": width, **modes, "include_prompt": drawn.include_prompt}
    mode = drawn.pooling[0] if len(drawn.pooling) == 1 else list(drawn.pooling)
    return {"embedding_dimension": width, "pooling_mode": mode,
            "include_prompt": drawn.include_prompt}  # fmt: skip


def _write_tokenizer(drawn: dict[str, Any], folder: Path, pad: int) -> None:
    special = dict(SPECIAL)
    if pad == 1:
        special = {name: SPECIAL[name] for name in ("unk", "pad", "cls", "sep", "mask")}
    vocabulary = {token: number for number, token in enumerate([*special.values(), *WORDS])}
    made = Tokenizer(_model(drawn["model"], vocabulary))
    made.normalizer = normalizers.BertNormalizer(lowercase=drawn["lower"])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    if drawn["added_in_file"]:
        made.add_special_tokens(list(special.values()))
    if drawn["extra"]:
        made.add_special_tokens(["<image>"] * (drawn["added_in_file"]))
        filler = [f"<filler{number}>" for number in range(70 - len(vocabulary))]
        made.add_special_tokens(filler)
    sides = {"padding_side": drawn["padding_side"], "truncation_side": drawn["truncation_side"]}
    if drawn["in_file"]:
        made.enable_truncation(33, direction=drawn["truncation_side"] or "right")
        made.enable_padding(direction=drawn["padding_side"], pad_id=pad, pad_token=special["pad"])
        sides = {}
    made.save(str(folder / "tokenizer.json"))
    config = {f"{name}_token": token for name, token in special.items()}
    if drawn["split_special_tokens"]:
        config["split_special_tokens"] = True
    sides = {key: side for key, side in sides.items() if side}
    _json(folder / "tokenizer_config.json", {
        "tokenizer_class": drawn["class"], "model_max_length": drawn["model_max_length"],
        **config, **sides,
    })  # fmt: skip


def _model(kind: str, vocabulary: dict[str, int]) -> Any:
    if kind == "words":
        return models.WordLevel(vocabulary, unk_token="[UNK]")
    if kind == "pieces":
        return models.WordPiece(vocabulary, unk_token="[UNK]")
    scores = [(token, -float(number % 7) - 1) for token, number in vocabulary.items()]
    return models.Unigram(scores, unk_id=vocabulary["[UNK]"], byte_fallback=False)


def _json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def _tensors(folder: Path, tensors: dict[str, np.ndarray], dtype: str = "float32") -> None:
    """Writes safetensors byte by byte: NumPy has no bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, x in tensors.items():
        raw = _rounded(x, dtype).tobytes()
        header[name] = {"dtype": DTYPES[dtype], "shape": x.shape,
                        "data_offsets": [len(data), len(data) + len(raw)]}  # fmt: skip
        data += raw
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    (folder / "model.safetensors").write_bytes(content)


def _rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":  # the upper half of a float32
        return ((np.ascontiguousarray(x).view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    return np.ascontiguousarray(x, dtype)


def rewrite(folder: Path, files: dict[str, str]) -> None:
    """Makes a folder the one that sentence-transformers saved: `files` are its texts.

    The weights of the modules stay what they are; those of a transformer below the root move there.
    """
    below = folder / "0_Transformer"
    if below.exists():
        shutil.move(below / "model.safetensors", folder / "model.safetensors")
        shutil.rmtree(below)
    for file in [*folder.rglob("*.json")]:
        file.unlink()
    places = {path.name.split("_")[0]: path for path in folder.iterdir() if path.is_dir()}
    for name, text in files.items():
        file = folder / name
        if "/" in name and not file.parent.exists():
            number = name.split("_")[0]
            places[number].rename(file.parent) if number in places else file.parent.mkdir()
        file.write_text(text)
