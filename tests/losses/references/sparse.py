"""References of jaxembed/losses/sparse.py and sparse_auto_encoder.py."""

import functools

import numpy as np

from tests.losses.references import distillation, pairs, ranking, triplets


def reference_of(loss):
    """The reference of a loss of the package, settings bound by `partial` included."""
    if isinstance(loss, functools.partial):
        return functools.partial(reference_of(loss.func), **loss.keywords)
    if loss.__name__ == "flops_loss":
        return flops_loss
    modules = (ranking, distillation, pairs, triplets)
    return next(vars(module)[loss.__name__] for module in modules if loss.__name__ in vars(module))


def flops_loss(embeddings, *, threshold=None):
    loss = 0.0
    for v in range(embeddings.shape[1]):
        weights = []
        for row in embeddings:
            active = sum(weight != 0 for weight in row)
            weights.append(row[v] if threshold is None or active > threshold else 0.0)
        loss += np.mean(weights) ** 2 if weights else 0.0
    return loss


def splade_loss(
    queries,
    *documents,
    loss_fn,
    document_regularizer_weight,
    query_regularizer_weight=None,
    document_regularizer=flops_loss,
    query_regularizer=flops_loss,
    use_document_regularizer_only=False,
    negatives_where=None,
    candidates_where=None,
    **keywords,
):
    masks = {"negatives_where": negatives_where, "candidates_where": candidates_where}
    masks = {name: mask for name, mask in masks.items() if mask is not None}
    loss = reference_of(loss_fn)(queries, *documents, **masks, **keywords)
    rows = [*queries] if use_document_regularizer_only else []
    for column in documents:
        for i in range(len(column)):
            if column.ndim == 2:
                rows.append(column[i])
                continue
            for c in range(column.shape[1]):
                if all(mask[i, c] for mask in masks.values()):
                    rows.append(column[i, c])
    rows = np.array(rows).reshape(-1, queries.shape[1])
    loss += document_regularizer_weight * reference_of(document_regularizer)(rows)
    if query_regularizer_weight is not None and not use_document_regularizer_only:
        loss += query_regularizer_weight * reference_of(query_regularizer)(queries)
    return loss


def greatest(z, k):
    """The k greatest entries where they are positive, the first of equal ones."""
    kept = np.zeros_like(z)
    for h in sorted(range(len(z)), key=lambda h: (-z[h], h))[:k]:
        kept[h] = max(z[h], 0.0)
    return kept


def count(last_nonzero, latents):
    return np.array(
        [
            1 if any(row[h] > 1e-5 for row in latents) else silent + 1
            for h, silent in enumerate(last_nonzero)
        ]
    )


def sparse_auto_encode(
    params, embeddings, last_nonzero, *, k, k_aux, normalize=False, dead_threshold=30
):
    """One column: a dict of arrays with one entry per row, and the counters after it."""
    weight, pre_bias, latent_bias = (params[name] for name in ("weight", "pre_bias", "latent_bias"))
    means, scales, codes = [], [], []
    for x in embeddings:
        mean, scale = (np.mean(x), np.std(x, ddof=1)) if normalize else (0.0, 1.0)
        means.append(mean)
        scales.append(scale)
        codes.append(
            weight @ ((x - mean) / (scale + 1e-5 if normalize else 1.0) - pre_bias) + latent_bias
        )
    latents = [greatest(z, k) for z in codes]
    latents_4k = [greatest(z, 4 * k) for z in codes]
    silent = count(last_nonzero, latents)
    outputs = []
    for i, z in enumerate(codes):
        dead = np.array([z[h] if silent[h] > dead_threshold else 0.0 for h in range(len(z))])
        decode = lambda code, i=i: scales[i] * (weight.T @ code + pre_bias)  # noqa: E731
        outputs.append(
            {
                "embeddings": embeddings[i],
                "latents": latents[i],
                "reconstruction": decode(latents[i]) + means[i],
                "reconstruction_4k": decode(latents_4k[i]) + means[i],
                "reconstruction_aux": decode(greatest(dead, k_aux)),
                "centred": decode(latents[i]) + means[i] - scales[i] * pre_bias,
            }
        )
    columns = {name: np.array([row[name] for row in outputs]) for name in outputs[0]}
    return columns, count(silent, latents_4k)


def reconstruction_of_a_column(code, beta, k_aux):
    x = code["embeddings"]
    loss = np.mean((x - code["reconstruction"]) ** 2)
    loss += np.mean((x - code["reconstruction_4k"]) ** 2) / 8
    if k_aux == 0:
        return loss
    rest = x - code["centred"]
    variance = np.mean((rest - rest.mean(axis=0)) ** 2)
    if variance == 0 or all(np.array_equal(row, rest[0]) for row in rest):
        variance = 1.0
    return loss + beta * np.mean((code["reconstruction_aux"] - rest) ** 2) / variance


def encode_texts(columns, params, last_nonzero, **settings):
    """The codes of every text of a row, one after the other: the counters go from text to text."""
    texts = []
    for column in columns:
        texts += [column] if column.ndim == 2 else [column[:, c] for c in range(column.shape[1])]
    codes = []
    for text in texts:
        code, last_nonzero = sparse_auto_encode(params, text, last_nonzero, **settings)
        codes.append(code)
    return codes


def csr_reconstruction_through_auto_encoder(
    *columns, weight, pre_bias, latent_bias, last_nonzero, beta=1.0, **settings
):
    params = {"weight": weight, "pre_bias": pre_bias, "latent_bias": latent_bias}
    codes = encode_texts(columns, params, last_nonzero, **settings)
    return np.mean([reconstruction_of_a_column(code, beta, settings["k_aux"]) for code in codes])


def csr_through_auto_encoder(
    *columns, weight, pre_bias, latent_bias, last_nonzero, beta=0.1, gamma=1.0, **settings
):
    params = {"weight": weight, "pre_bias": pre_bias, "latent_bias": latent_bias}
    codes = encode_texts(columns, params, last_nonzero, **settings)
    anchors, positives, *negatives = [code["latents"] for code in codes]
    base = ranking.multiple_negatives_ranking_loss(
        anchors,
        positives,
        np.stack(negatives, axis=1) if negatives else None,
        scale=1.0,
        similarity_fn="dot",
    )
    reconstruction = [reconstruction_of_a_column(code, beta, settings["k_aux"]) for code in codes]
    return np.mean(reconstruction) + gamma * base
