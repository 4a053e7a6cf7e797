"""References of jaxembed/losses/reranking."""

import numpy as np

from tests.losses.references.vectors import logsumexp


def identity(x):
    return x


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_sigmoid(x):
    return -np.log1p(np.exp(-x)) if x > 0 else x - np.log1p(np.exp(x))


def is_real(where, *index):
    return where is None or where[index]


# Pointwise ---------------------------------------------------------------------------------------


def binary_cross_entropy_loss(
    scores, *, labels, pos_weight=1.0, activation_fn=identity, where=None
):
    values = []
    for i in range(len(scores)):
        if is_real(where, i):
            s, y = activation_fn(scores[i]), labels[i]
            values.append(-pos_weight * y * log_sigmoid(s) - (1 - y) * log_sigmoid(-s))
    return np.mean(values)


def cross_entropy_loss(scores, *, labels, activation_fn=identity, where=None):
    values = []
    for i in range(len(scores)):
        if is_real(where, i):
            logits = [activation_fn(s) for s in scores[i]]
            values.append(logsumexp(logits) - logits[labels[i]])
    return np.mean(values)


def mse_loss(scores, *, labels, activation_fn=identity, where=None):
    rows = [i for i in range(len(scores)) if is_real(where, i)]
    return np.mean([(activation_fn(scores[i]) - labels[i]) ** 2 for i in rows])


def margin_mse_loss(
    scores,
    *,
    margins=None,
    teacher_scores=None,
    activation_fn=identity,
    negatives_where=None,
    where=None,
):
    if margins is None:
        assert teacher_scores is not None
        margins = teacher_scores[:, :1] - teacher_scores[:, 1:]
    values = []
    for i in range(len(scores)):
        errors = []
        for j in range(1, scores.shape[1]):
            if is_real(where, i) and is_real(negatives_where, i, j - 1):
                student = activation_fn(scores[i, 0]) - activation_fn(scores[i, j])
                errors.append((student - margins[i, j - 1]) ** 2)
        if errors:
            values.append(np.mean(errors))
    return np.mean(values) if values else 0.0


def multiple_negatives_ranking_loss(
    scores, *, scale=10.0, activation_fn=sigmoid, negatives_where=None, where=None
):
    values = []
    for i in range(len(scores)):
        if is_real(where, i):
            positive = scale * activation_fn(scores[i, 0])
            negatives = [
                scale * activation_fn(scores[i, j])
                for j in range(1, scores.shape[1])
                if is_real(negatives_where, i, j - 1)
            ]
            values.append(logsumexp([positive, *negatives]) - positive)
    return np.mean(values)


# Lists -------------------------------------------------------------------------------------------


def lists(scores, labels, activation_fn, where):
    """The scores and labels of each query's real documents, as they come; no empty lists."""
    for q in range(len(scores)):
        real = [j for j in range(scores.shape[1]) if is_real(where, q, j)]
        if real:
            yield (
                [activation_fn(scores[q, j]) for j in real],
                [0.0 if labels is None else labels[q, j] for j in real],
            )


def mean(values):
    return np.mean(values) if values else 0.0


def listnet_loss(scores, *, labels, activation_fn=identity, where=None):
    values = []
    for s, y in lists(scores, labels, activation_fn, where):
        value = 0.0
        for score, label in zip(s, y, strict=True):
            value -= np.exp(label - logsumexp(y)) * (score - logsumexp(s))
        values.append(value)
    return mean(values)


def listmle_loss(
    scores,
    *,
    labels=None,
    respect_input_order=True,
    activation_fn=identity,
    where=None,
    weight=lambda rank, n: 1.0,
):
    values = []
    for s, y in lists(scores, labels, activation_fn, where):
        if not respect_input_order:
            s = [s[i] for i in np.argsort([-label for label in y], kind="stable")]
        value = 0.0
        for r in range(len(s)):
            value -= weight(r + 1, len(s)) * (s[r] - logsumexp(s[r:]))
        values.append(value)
    return mean(values)


def p_listmle_loss(scores, **keywords):
    def weight(rank, n):
        total = sum(2 ** (n - r) - 1 for r in range(1, n + 1))  # exact: Python's integers
        return (2 ** (n - rank) - 1) / (total + 1e-10)

    return listmle_loss(scores, weight=weight, **keywords)


# Pairs: the weight of documents i and j from their gains (G) and ranks (r) -----------------------


def discount(rank):
    return np.log2(1 + rank)


def no_weighting(gain_i, gain_j, rank_i, rank_j):
    return 1.0


def ndcg_loss1(gain_i, gain_j, rank_i, rank_j):
    return gain_i / discount(rank_i)


def ndcg_loss2(gain_i, gain_j, rank_i, rank_j):
    step = abs(rank_i - rank_j)
    return abs(1 / discount(step) - 1 / discount(step + 1)) * abs(gain_i - gain_j)


def lambda_rank(gain_i, gain_j, rank_i, rank_j):
    return abs(1 / discount(rank_i) - 1 / discount(rank_j)) * abs(gain_i - gain_j)


def ndcg_loss2pp(*pair, mu=10.0):
    return mu * ndcg_loss2(*pair) + lambda_rank(*pair)


def lambda_loss(
    scores,
    *,
    labels,
    weighting=ndcg_loss2pp,
    all_pairs=False,
    k=None,
    sigma=1.0,
    epsilon=1e-10,
    reduction_log="binary",
    activation_fn=identity,
    where=None,
):
    values = []
    for s, y in lists(scores, labels, activation_fn, where):
        n = len(s)
        cut = n if k is None else k
        order = np.argsort([-score for score in s], kind="stable")
        ranks = {i: rank for rank, i in enumerate(order, start=1)}
        gains = [2.0 ** max(label, 0) - 1 for label in y]
        ideal = sorted(gains, reverse=True)[:cut]
        best = sum(gain / discount(rank) for rank, gain in enumerate(ideal, start=1))
        gains = [gain / max(best, epsilon) for gain in gains]
        for i in range(n):
            for j in range(n):
                if (all_pairs or y[i] > y[j]) and min(ranks[i], ranks[j]) <= cut:
                    value = -log_sigmoid(sigma * (s[i] - s[j]))
                    value = value / np.log(2) if reduction_log == "binary" else value
                    values.append(weighting(gains[i], gains[j], ranks[i], ranks[j]) * value)
    return mean(values)


def ranknet_loss(scores, **keywords):
    return lambda_loss(scores, weighting=no_weighting, **keywords)


def adr_mse_loss(scores, *, labels, alpha=1.0, activation_fn=identity, where=None):
    values = []
    for s, y in lists(scores, labels, activation_fn, where):
        for i in range(len(s)):
            rank = sum(label > y[i] for label in y) + (sum(label == y[i] for label in y) + 1) / 2
            others = [j for j in range(len(s)) if j != i]
            smooth = 1 + sum(sigmoid(alpha * (s[j] - s[i])) for j in others)
            values.append((rank - smooth) ** 2 / np.log2(rank + 1))
    return mean(values)
