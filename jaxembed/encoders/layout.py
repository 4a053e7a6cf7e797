"""modules.json: which modules a folder chains, and what a folder is that is no text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxembed.encoders.checkpoint import inside, read_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.lora import configuration
from jaxembed.encoders.modules import MODULES
from jaxembed.encoders.settings import FILE, KEYS

LISTING = [{"path": str, "type": str, "idx?": int, "name?": (str, int), "kwargs?": ([str], None)}]
FIRST = ("Transformer", "StaticEmbedding")
CROSS = "a cross-encoder, which scores pairs of texts"
SPARSE = "a sparse encoder (SPLADE)"
MULTI = "a multi-vector model (ColBERT)"

# What a folder is by the model_type of its settings, the type of a module, and the end of an
# architecture in config.json.
OF_MODEL_TYPE = {"CrossEncoder": CROSS, "SparseEncoder": SPARSE, "MultiVectorEncoder": MULTI}
OF_MODULE = {
    "MLMTransformer": SPARSE,
    "SpladePooling": SPARSE,
    "SparseStaticEmbedding": SPARSE,
    "SparseAutoEncoder": SPARSE,
    "LogitScore": CROSS,
    "MultiVectorMask": MULTI,
    "Router": "a Router of several encoders",
    "Asym": "a Router of several encoders",
    "WordEmbeddings": "an encoder of word vectors",
    "BoW": "an encoder of bags of words",
    "CLIPModel": "an encoder of images and texts",
}
OF_ARCHITECTURE = {"ForSequenceClassification": CROSS, "ForMaskedLM": SPARSE, "ColBERT": MULTI}


@dataclass(frozen=True)
class Entry:
    """A module of modules.json: where it lies, the name of its class, and that with its package."""

    path: str
    kind: str
    published_type: str = ""


@dataclass(frozen=True)
class Layout:
    """The modules of a folder: the first one, and those behind it if the folder lists them."""

    first: Entry
    others: tuple[Entry, ...] | None

    @property
    def static(self) -> bool:
        return self.first.kind == "StaticEmbedding"

    def pools(self) -> bool:
        """True where a module makes text vectors of token vectors."""
        return self.static or any(entry.kind == "Pooling" for entry in self.others or ())


def read_layout(folder: Path) -> Layout:
    """Reads modules.json; without it, returns what Model2Vec would write there, or no others.

    Raises:
        EncoderError: a listing of another form, of paths outside of the folder, or of modules that
            are not supported.
    """
    file = folder / "modules.json"
    if not file.exists():
        config = read_json(
            configuration(folder), {"model_type?": (str, None), "normalize?": (bool, None)}
        )
        if config.get("model_type") != "model2vec":
            return Layout(Entry("", "Transformer"), None)
        normalize = (Entry("1_Normalize", "Normalize"),) * bool(config.get("normalize"))
        return Layout(Entry("", "StaticEmbedding"), normalize)
    entries = []
    for listed in read_json(file, LISTING):
        inside(folder, listed["path"], file)
        package, _, kind = listed["type"].rpartition(".")
        _check_package(folder, package, kind, listed["type"])
        entries.append(Entry(listed["path"].rstrip("/"), kind, listed["type"]))
    if not entries:
        raise EncoderError(f"{file} lists no modules")
    paths = [entry.path for entry in entries]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise EncoderError(f"{file} lists two modules in {twice!r}; give each a folder of its own")
    layout = Layout(entries[0], tuple(entries[1:]))
    _check_kinds(folder, layout)
    return layout


def check_encodes(folder: Path, layout: Layout) -> None:
    """Refuses what makes no text vectors, or is no text encoder by its configuration.

    Raises:
        EncoderError: says what the folder is, and that `pooling` makes an encoder of it.
    """
    kind = _model_type(folder) or (None if layout.pools() else _of_config(folder, layout))
    if kind or not (layout.pools() or layout.others is None):
        remedy = "to take its transformer as an encoder, choose the pooling, such as pooling='mean'"
        if layout.others:
            remedy = "name one in modules.json, or remove the modules behind the transformer there"
        raise EncoderError(
            f"{folder} is {kind or 'no text encoder'}: no Pooling makes vectors of texts here;"
            f" {remedy}"
        )


def is_causal(folder: Path) -> bool:
    """True for a causal language model, whose last token sees all of a text."""
    config = _config(folder)
    architecture = (config.get("architectures") or [""])[0]
    return architecture.endswith("ForCausalLM") and config.get("is_causal") is not False


def check_no_code(folder: Path) -> None:
    """Refuses a transformer or tokenizer that code in its folder, or elsewhere, computes.

    Raises:
        EncoderError: config.json or tokenizer_config.json has an auto_map.
    """
    for file in (configuration(folder), folder / "tokenizer_config.json"):
        if file.exists() and read_json(file, {"auto_map?": object}).get("auto_map"):
            raise EncoderError(
                f"{file}: auto_map names code of the model's own, which is never run; if the model"
                " computes the same without it, remove auto_map"
            )


def _check_package(folder: Path, package: str, kind: str, published_type: str) -> None:
    known = package.split(".")[0]
    if known == "pylate":
        raise _not_supported(folder, published_type, MULTI)
    if known not in ("sentence_transformers", "") or (known == "" and kind not in FIRST):
        raise EncoderError(
            f"{folder}: the module {published_type!r} is code of the model's own, which is never"
            " run"
        )


def _check_kinds(folder: Path, layout: Layout) -> None:
    for entry in (layout.first, *(layout.others or ())):
        known = FIRST if entry is layout.first else tuple(MODULES)
        if entry.kind in OF_MODULE:
            raise _not_supported(folder, entry.published_type, OF_MODULE[entry.kind])
        if entry.kind not in known:
            place = "first module" if entry is layout.first else "module"
            raise EncoderError(
                f"{folder}: the {place} {entry.published_type} is not supported; only"
                f" {', '.join(known)} are"
            )
        if layout.static and entry.kind in ("Pooling", "WeightedLayerPooling"):
            raise EncoderError(
                f"{folder}: a StaticEmbedding leaves no tokens for a {entry.kind} module"
            )


def _not_supported(folder: Path, published_type: str, kind: str) -> EncoderError:
    return EncoderError(
        f"{folder} is {kind}: the module {published_type} is not supported; load a text encoder,"
        f" whose first module is a {' or a '.join(FIRST)}"
    )


def _model_type(folder: Path) -> str | None:
    file = folder / FILE
    content = read_json(file, dict(KEYS.used)) if file.exists() else {}
    return OF_MODEL_TYPE.get(content.get("model_type") or "")


def _of_config(folder: Path, layout: Layout) -> str | None:
    """Says what a chain without pooling is; a bare transformer with a head for words is none."""
    for architecture in _config(folder / layout.first.path).get("architectures") or ():
        for end, kind in OF_ARCHITECTURE.items():
            bare = layout.others is None and kind == SPARSE
            if architecture.endswith(end) and not bare:
                return kind
    return None


def _config(folder: Path) -> dict[str, Any]:
    form = {"architectures?": ([str], None), "is_causal?": (bool, None)}
    return read_json(configuration(folder), form)
