"""Makes the goldens of the classes that wrap a loss: of embeddings of one layer or of all layers.

Nothing is drawn: all dims and all layers take part. A case's settings are those of the base loss,
under "base", and of the transforms by their names in jaxembed.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "losses"))

import in_batch  # noqa: E402
import record  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.base.modules import Transformer  # noqa: E402
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling  # noqa: E402

N, K, D, LAYERS = 5, 2, 6, 4
COLUMNS = {
    "multiple_negatives_ranking_loss": ("anchors", "positives", "negatives"),
    "cosent_loss": ("left", "right"),
    "angle_loss": ("left", "right"),
    "mse_loss": ("student",),
    "gist_embed_loss": ("anchors", "positives"),
    "batch_all_triplet_loss": ("embeddings",),
}
TARGETS = {
    "cosent_loss": {"scores": (N,)},
    "angle_loss": {"scores": (N,)},
    "mse_loss": {"teacher": (N, D)},
    "gist_embed_loss": {"guide_anchors": (N, 3), "guide_positives": (N, 3)},
}
RANKING, COSENT, MSE = "multiple_negatives_ranking_loss", "cosent_loss", "mse_loss"
DIMS = ("dims", "weights")
TEACHER = {"truncate": ["teacher"]}
ALL = {"n_layers_per_step": -1}

# family: name: (loss, its settings, those of matryoshka, those of adaptive_layer)
CASES = {
    "matryoshka": {
        "ranking": (RANKING, {}, {"dims": [6, 4, 1]}),
        "ranking_unsorted": (
            *(RANKING, {"scale": 7.0}),
            {"dims": [2, 6, 3], "weights": [0.5, 2.0, 0.3]},
        ),
        "ranking_dot": (RANKING, {"similarity_fn": "dot", "scale": 2.0}, {"dims": [6]}),
        "ranking_without_full_width": (RANKING, {}, {"dims": [2, 5]}),
        "ranking_cached": (RANKING, {}, {"dims": [6, 3, 2], "weights": [1.0, 0.5, 2.0]}),
        "cosent": (COSENT, {}, {"dims": [6, 3, 2], "weights": [1, 2, 3]}),
        "angle": ("angle_loss", {}, {"dims": [6, 4, 3]}),
        "mse": (MSE, {}, {"dims": [6, 4, 1], "weights": [0.2, 1.0, 3.0], **TEACHER}),
        "gist": ("gist_embed_loss", {"temperature": 0.1}, {"dims": [6, 4, 2]}),
        "batch_all": ("batch_all_triplet_loss", {"margin": 0.5}, {"dims": [6, 3]}),
    },
    "adaptive_layer": {
        "ranking": (RANKING, {}, None, ALL),
        "ranking_log": (RANKING, {"scale": 5.0}, None, {**ALL, "layer_weighting": "log"}),
        "ranking_weights": (
            *(RANKING, {}, None),
            {**ALL, "last_layer_weight": 0.5, "prior_layers_weight": 2.0, "kl_div_weight": 0.2},
        ),
        "ranking_of_one_layer": (RANKING, {}, None, {**ALL, "kl_div_weight": 3.0}),
        "cosent": (COSENT, {}, None, {**ALL, "kl_div_weight": 2.5, "kl_temperature": 1.7}),
        "cosent_without_kl": (
            *(COSENT, {}, None),
            {**ALL, "kl_temperature": 0.0, "layer_weighting": "log"},
        ),
        "cosent_weightless_kl": (COSENT, {}, None, {**ALL, "kl_div_weight": 0.0}),
        "mse": (MSE, {}, None, {"n_layers_per_step": 3, "layer_weighting": "linear"}),
        "batch_all": (
            *("batch_all_triplet_loss", {"margin": 1.0}, None),
            {"n_layers_per_step": 7, "prior_layers_weight": 0.3},
        ),
    },
    "matryoshka_2d": {
        "ranking": (RANKING, {}, {"dims": [6, 3]}, ALL),
        "ranking_weights": (
            *(RANKING, {}, {"dims": [6, 4, 2], "weights": [1.0, 0.5, 0.25]}),
            {**ALL, "layer_weighting": "log", "kl_div_weight": 0.7, "last_layer_weight": 2.0},
        ),
        "cosent": (
            *(COSENT, {}, {"dims": [5, 2]}),
            {**ALL, "layer_weighting": "linear", "kl_temperature": 0.8},
        ),
        "angle": ("angle_loss", {}, {"dims": [6, 4]}, {**ALL, "prior_layers_weight": 0.5}),
    },
}


class OneLayer(in_batch.Entry):
    """A stand-in for the model: hands back the embeddings it is given, and knows their width."""

    def get_embedding_dimension(self) -> int:
        return D


class AllLayers(Transformer):
    """A stand-in for the transformer: hands back the states `[n l d]` it is given, as one token."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.model = SimpleNamespace(config=SimpleNamespace(output_hidden_states=False))

    def forward(self, features: dict[str, Tensor], **_) -> dict[str, Tensor]:
        states = features["sentence_embedding"]
        features["attention_mask"] = torch.ones(len(states), 1, dtype=states.dtype)
        features["all_layer_embeddings"] = [state[:, None] for state in states.unbind(1)]
        features["token_embeddings"] = features["all_layer_embeddings"][-1]
        return features


def base_loss(loss: str, model: torch.nn.Module, settings: dict, cached: bool) -> torch.nn.Module:
    if cached:
        return losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2, **settings)
    if loss == "gist_embed_loss":
        return losses.GISTEmbedLoss(model, OneLayer("guide"), **settings)
    library = {
        RANKING: losses.MultipleNegativesRankingLoss,
        COSENT: losses.CoSENTLoss,
        MSE: losses.MSELoss,
        "angle_loss": losses.AnglELoss,
        "batch_all_triplet_loss": losses.BatchAllTripletLoss,
    }
    return library[loss](model, **in_batch.translate(settings))


def wrapped(loss: str, settings: dict, cached: bool) -> torch.nn.Module:
    """Builds the class over its base loss, for all dims and all layers."""
    dims = {f"matryoshka_{key}": settings.get("matryoshka", {}).get(key) for key in DIMS}
    if "adaptive_layer" not in settings:
        model = OneLayer()
        return losses.MatryoshkaLoss(
            model, base_loss(loss, model, settings["base"], cached), **dims
        )
    model = SentenceTransformer(modules=[AllLayers(), Pooling(D)], device="cpu")
    inner = base_loss(loss, model, settings["base"], cached)
    if "matryoshka" not in settings:
        return losses.AdaptiveLayerLoss(model, inner, **settings["adaptive_layer"])
    return losses.Matryoshka2dLoss(
        model, inner, **dims, n_dims_per_step=-1, **settings["adaptive_layer"]
    )


def columns_and_labels(loss: str, tensors: dict[str, Tensor]):
    """Makes the features and labels of a call; every negative is a column of its own."""
    columns = []
    for name in COLUMNS[loss]:
        x = tensors[name]
        parts = x.unbind(1) if name == "negatives" else [x]
        guide = {"guide": tensors[f"guide_{name}"]} if f"guide_{name}" in tensors else {}
        columns += [{"sentence_embedding": part, **guide} for part in parts]
    labels = [tensors[name] for name in ("scores", "teacher", "labels") if name in tensors]
    return columns, labels[0] if labels else None


def add(recorder: record.Recorder, name: str, loss: str, settings: dict) -> None:
    layers = () if "adaptive_layer" not in settings else (1 if "one_layer" in name else LAYERS,)
    shapes = {
        column: (N, *([K] if column == "negatives" else []), *layers, D) for column in COLUMNS[loss]
    }
    targets = record.draw(f"{name}-targets", **TARGETS.get(loss, {}))
    if loss == "batch_all_triplet_loss":
        targets = {"labels": np.array([0, 1, 0, 1, 0])}

    def compute(tensors):
        return wrapped(loss, settings, "cached" in name)(*columns_and_labels(loss, tensors))

    embeddings = record.draw(name, **shapes)
    recorder.add(name, loss, compute, embeddings=embeddings, keywords=targets, settings=settings)


if __name__ == "__main__":
    record.HERE = HERE
    recorder = record.Recorder("wrappers")
    for family, cases in CASES.items():
        for name, (loss, *settings) in cases.items():
            named = zip(("base", "matryoshka", "adaptive_layer"), settings, strict=False)
            named = {key: value for key, value in named if value is not None}
            add(recorder, f"{family}-{name}", loss, named)
    recorder.save()
