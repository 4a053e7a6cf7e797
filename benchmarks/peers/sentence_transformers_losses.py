"""Computes the losses with the classes of sentence-transformers, for loss_time.py, which starts it.

Lines of JSON: its versions first; then it answers `{"load": name, "n": …, "d": …}` with the value
and the norm of the gradient, `{"measure": name}` with the seconds of a call, forward and backward,
and `{"grow": name}` with the bytes that a call takes. Models are replaced by what hands the
embeddings (or scores) back. Each column of embeddings is a tensor of its own, as a model would
return it.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from answering import serve
from loss_workloads import Workload, workloads
from sentence_transformers.cross_encoder import CrossEncoder, losses as reranking
from sentence_transformers.multi_vector_encoder import losses as late
from sentence_transformers.multi_vector_encoder.scoring import XTRScores
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.losses.contrastive import SiameseDistanceMetric
from sentence_transformers.sparse_encoder import losses as sparse
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder
from timing import enough_repeats, seconds_per_call
from torch import Tensor, nn
from torch_precision import DEVICE, FACTS, finish, memory_growth, prepare
from transformers import PreTrainedTokenizerBase

Columns = list[Tensor]
Given = dict[str, Tensor]
Compute = Callable[[], Any]
Prepare = Callable[[Columns, Given, dict[str, Any]], Compute]


class Same(nn.Module):
    """Stands for a model: hands back the features it is given."""

    device = torch.device(DEVICE)

    def forward(self, features: Given, **_: Any) -> Given:
        return features


class Entry(nn.Sequential):
    """Stands for a model of which a class wants more: hands back one entry of the features."""

    tokenizer = mock.Mock(PreTrainedTokenizerBase)
    max_seq_length = 1

    def __init__(self, key: str = "sentence_embedding"):
        super().__init__(Same())
        self.key = key

    def forward(self, features: Given) -> Given:
        return {"sentence_embedding": features[self.key]}


class Scores(CrossEncoder):
    """Stands for a reranker: the document of a pair is the number of its column of scores."""

    num_labels = 1
    device = torch.device(DEVICE)

    def __init__(self, columns: Columns):
        nn.Module.__init__(self)
        self.columns = columns

    def preprocess(self, pairs: list[tuple[int, int]], **_: Any) -> dict[str, Any]:
        return {"column": pairs[0][1]}

    def forward(self, features: dict[str, Any], **_: Any) -> Given:
        return {"scores": self.columns[features["column"]]}


def features(columns: Columns) -> list[Given]:
    return [{"sentence_embedding": column} for column in columns]


def over_embeddings(build: Callable[..., nn.Module]) -> Prepare:
    """Most classes: a model, settings; columns of embeddings, and perhaps one array of labels."""

    def prepare(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
        loss = build(Same(), **settings)
        labels = next(iter(given.values()), None)
        return lambda: loss(features(columns), labels)

    return prepare


def contrastive(model: nn.Module, margin: float, distance_fn: Any = None) -> nn.Module:
    metric = SiameseDistanceMetric
    return losses.ContrastiveLoss(
        model, metric.EUCLIDEAN if distance_fn else metric.COSINE_DISTANCE, margin
    )


def mined_triplets(build: Callable[..., nn.Module]) -> Prepare:
    functions = losses.BatchHardTripletLossDistanceFunction

    def with_metric(model: nn.Module, distance_fn: str = "euclidean_distance", **settings: Any):
        return build(model, distance_metric=getattr(functions, distance_fn), **settings)

    return over_embeddings(with_metric)


def gist(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
    loss = losses.GISTEmbedLoss(Entry(), Entry("guide"), **settings)
    guides = [part for x in given.values() for part in (x.unbind(1) if x.ndim == 3 else [x])]
    rows = [
        {"sentence_embedding": column, "guide": guide}
        for column, guide in zip(columns, guides, strict=True)
    ]
    return lambda: loss(rows, None)


def mega_batch(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
    loss = losses.MegaBatchMarginLoss(Entry(), use_mini_batched_version=False, **settings)
    return lambda: loss(features(columns), None)


def tension_in_batch(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
    loss = losses.ContrastiveTensionLossInBatchNegatives(Same())
    loss.model1, loss.model2 = Entry("first"), Entry("second")
    loss.logit_scale = given["logit_scale"]
    row = {"first": columns[0], "second": columns[1]}
    return lambda: loss([row], None)


def classification(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
    loss = losses.SoftmaxLoss(Same(), columns[0].shape[1], given["bias"].shape[0])
    loss.classifier.weight, loss.classifier.bias = given["weight"], given["bias"]
    return lambda: loss(features(columns), given["labels"])


def reconstruction(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
    """The class without its encoder and decoder, which it loads by name."""
    loss = losses.DenoisingAutoEncoderLoss.__new__(losses.DenoisingAutoEncoderLoss)
    nn.Module.__init__(loss)
    loss.encoder, loss.need_retokenization = Same(), False
    loss.decoder = lambda **_: (columns[0],)
    loss.tokenizer_decoder = mock.Mock(pad_token_id=settings["pad_id"])
    targets = given["target_ids"]
    noisy = {"sentence_embedding": torch.zeros(len(targets), 1), "attention_mask": targets}
    clean = {"input_ids": torch.cat([targets[:, :1], targets], dim=1)}
    return lambda: loss([noisy, clean], None)


def flops(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
    loss = sparse.FlopsLoss(Same())
    return lambda: loss.compute_loss_from_embeddings(columns[0])


def splade(model: nn.Module, loss_fn: Any, **settings: Any) -> nn.Module:
    base = sparse.SparseMultipleNegativesRankingLoss(model)
    return sparse.SpladeLoss(model, base, **settings)


def coded(build: Callable[..., nn.Module]) -> Prepare:
    def prepare(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
        latents, width = given["weight"].shape
        model = SparseAutoEncoder(width, latents, settings.pop("k"), settings.pop("k_aux")).to(
            DEVICE
        )
        model.encoder.weight = given["weight"]
        model.pre_bias, model.latent_bias = given["pre_bias"], given["latent_bias"]
        model.stats_last_nonzero.copy_(given["last_nonzero"])
        loss = build(model, **settings)
        if isinstance(loss, sparse.CSRLoss):
            return lambda: loss(features(columns))
        return lambda: loss.compute_loss_from_embeddings([model(row) for row in features(columns)])

    return prepare


def over_tokens(build: Callable[..., nn.Module]) -> Prepare:
    def prepare(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
        xtr = {"similarity_fct": XTRScores()} if settings.get("similarity_fn") == "xtr" else {}
        loss = build(Same(), **xtr)
        masks = [given["query_mask"], *given["document_mask"].unbind(1)]
        rows = [
            {"token_embeddings": column, "attention_mask": mask}
            for column, mask in zip(columns, masks, strict=True)
        ]
        labels = given.get("scores", given.get("margins"))
        return lambda: loss(rows, labels)

    return prepare


def over_scores(build: Callable[..., nn.Module]) -> Prepare:
    def prepare(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
        loss = build(Scores(columns))
        n = len(columns[0])
        texts = [[0] * n, *([column] * n for column in range(len(columns)))]
        labels = next(iter(given.values()))
        return lambda: loss(texts, labels)

    return prepare


def over_drawn_scores(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
    """The part of the class that follows the drawing of negatives."""
    loss = reranking.MultipleNegativesRankingLoss(Scores(columns))
    return lambda: loss.calculate_loss(columns, len(columns[0]))


def over_lists(build: Callable[..., nn.Module]) -> Prepare:
    """All documents are scored at once. The class pairs the texts itself, in Python."""

    def prepare(columns: Columns, given: Given, settings: dict[str, Any]) -> Compute:
        loss = build(Scores(columns), mini_batch_size=-1)
        queries, documents = columns[0].shape
        texts = [[0] * queries, [[0] * documents for _ in range(queries)]]
        labels = [*given["labels"]]
        return lambda: loss(texts, labels)

    return prepare


PEERS: dict[str, Prepare] = {
    "multiple_negatives_ranking_loss": over_embeddings(losses.MultipleNegativesRankingLoss),
    "multiple_negatives_symmetric_ranking_loss": over_embeddings(
        losses.MultipleNegativesSymmetricRankingLoss
    ),
    "gist_embed_loss": gist,
    "mega_batch_margin_loss": mega_batch,
    "contrastive_tension_loss": over_embeddings(losses.ContrastiveTensionLoss),
    "contrastive_tension_in_batch_negatives_loss": tension_in_batch,
    "global_orthogonal_regularization_loss": over_embeddings(
        losses.GlobalOrthogonalRegularizationLoss
    ),
    "contrastive_loss": over_embeddings(contrastive),
    "online_contrastive_loss": over_embeddings(losses.OnlineContrastiveLoss),
    "cosine_similarity_loss": over_embeddings(losses.CosineSimilarityLoss),
    "cosent_loss": over_embeddings(losses.CoSENTLoss),
    "angle_loss": over_embeddings(losses.AnglELoss),
    "softmax_loss": classification,
    "triplet_loss": over_embeddings(losses.TripletLoss),
    "batch_hard_triplet_loss": mined_triplets(losses.BatchHardTripletLoss),
    "batch_hard_soft_margin_triplet_loss": mined_triplets(losses.BatchHardSoftMarginTripletLoss),
    "batch_semi_hard_triplet_loss": mined_triplets(losses.BatchSemiHardTripletLoss),
    "batch_all_triplet_loss": mined_triplets(losses.BatchAllTripletLoss),
    "mse_loss": over_embeddings(losses.MSELoss),
    "embed_distill_loss": over_embeddings(losses.EmbedDistillLoss),
    "margin_mse_loss": over_embeddings(losses.MarginMSELoss),
    "distill_kl_div_loss": over_embeddings(losses.DistillKLDivLoss),
    "denoising_auto_encoder_loss": reconstruction,
    "flops_loss": flops,
    "splade_loss": over_embeddings(splade),
    "csr_reconstruction_loss": coded(sparse.CSRReconstructionLoss),
    "csr_loss": coded(sparse.CSRLoss),
    "multi_vector_multiple_negatives_ranking_loss": over_tokens(
        late.MultiVectorMultipleNegativesRankingLoss
    ),
    "multi_vector_distill_kl_div_loss": over_tokens(late.MultiVectorDistillKLDivLoss),
    "multi_vector_margin_mse_loss": over_tokens(late.MultiVectorMarginMSELoss),
    "reranking.binary_cross_entropy_loss": over_scores(reranking.BinaryCrossEntropyLoss),
    "reranking.cross_entropy_loss": over_scores(reranking.CrossEntropyLoss),
    "reranking.mse_loss": over_scores(reranking.MSELoss),
    "reranking.margin_mse_loss": over_scores(reranking.MarginMSELoss),
    "reranking.multiple_negatives_ranking_loss": over_drawn_scores,
    "reranking.listnet_loss": over_lists(reranking.ListNetLoss),
    "reranking.listmle_loss": over_lists(reranking.ListMLELoss),
    "reranking.p_listmle_loss": over_lists(reranking.PListMLELoss),
    "reranking.lambda_loss": over_lists(reranking.LambdaLoss),
    "reranking.ranknet_loss": over_lists(reranking.RankNetLoss),
    "reranking.adr_mse_loss": over_lists(reranking.ADRMSELoss),
}
# Arrays that are split into columns along their second axis.
STACKED = {"negatives", "candidates", "documents"}
STACKED_SCORES = {"reranking.margin_mse_loss", "reranking.multiple_negatives_ranking_loss"}


def load(workload: Workload, dtype: str) -> tuple[Callable[[], Tensor], Columns]:
    """Returns a call, forward and backward, that gives the value; and what it differentiates.

    Values are those of the precision, in float32: the library's trainer raises them to that.
    """
    arrays = {name: torch.from_numpy(a).to(DEVICE) for name, a in workload.arrays().items()}
    for name in (*workload.embeddings, *workload.parameters):
        arrays[name] = arrays[name].to(getattr(torch, dtype)).float()
    columns: Columns = []
    for name in workload.embeddings:
        array = arrays[name]
        stacked = (name in STACKED and array.ndim > 2) or workload.loss in STACKED_SCORES
        parts = array.unbind(1) if stacked else [array]
        columns += [nn.Parameter(part.contiguous()) for part in parts]
    parameters = {name: nn.Parameter(arrays[name]) for name in workload.parameters}
    keywords = {
        name: arrays[name].long() if arrays[name].dtype == torch.int32 else arrays[name]
        for name in workload.keywords
    }
    compute = PEERS[workload.loss](columns, {**keywords, **parameters}, dict(workload.settings))
    differentiated = [*columns, *parameters.values()]

    def call() -> Tensor:
        for tensor in differentiated:
            tensor.grad = None
        value: Any = compute()
        value = sum(value.values()) if isinstance(value, dict) else value
        value.backward()
        finish()
        return value.detach()

    return call, differentiated


def answer(request: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    if "load" in request:
        table = {row.name: row for row in workloads(request["n"], request["d"])}
        workload = table[request["load"]]
        if workload.loss not in PEERS:
            return {"known": False}
        state["call"], differentiated = load(workload, request["dtype"])
        value = float(state["call"]())
        squares = sum(
            float(tensor.grad.double().square().sum())
            for tensor in differentiated
            if tensor.grad is not None
        )
        state["repeats"] = enough_repeats(state["call"])
        return {"known": True, "value": value, "gradient_norm": math.sqrt(squares)}
    if "grow" in request:
        return {"resident_growth": memory_growth(state["call"])}
    return {"seconds": seconds_per_call(state["call"], state["repeats"])}


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    prepare()
    state: dict[str, Any] = {}
    packages = ("torch", "sentence-transformers", "transformers", "numpy")
    serve(
        lambda request: answer(request, state), packages, threads=torch.get_num_threads(), **FACTS
    )


if __name__ == "__main__":
    main()
