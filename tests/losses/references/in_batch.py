"""References of the other losses with in-batch candidates: GIST, mega-batch, sigmoid, GOR."""

import numpy as np

from tests.losses.references.ranking import same
from tests.losses.references.vectors import cosine, in_numpy, logsumexp, softplus


def is_equivalent(i, j, ids, anchor_ids):
    """Rows with the same positive or the same anchor are no negatives of each other."""
    same_positive = ids is not None and same(ids[i], ids[j])
    same_anchor = anchor_ids is not None and same(anchor_ids[i], anchor_ids[j])
    return same_positive or same_anchor


def gist_embed_loss(
    anchors,
    positives,
    negatives=None,
    *,
    guide_anchors,
    guide_positives,
    guide_negatives=None,
    ids=None,
    anchor_ids=None,
    negative_ids=None,
    temperature=0.01,
    margin_strategy="absolute",
    margin=0.0,
    contrast_anchors=True,
    contrast_positives=True,
    exclude_self=False,
    false_negative_margin=None,
    negatives_where=None,
):
    n = len(anchors)
    values = []
    for i in range(n):
        own = cosine(anchors[i], positives[i])
        guide_own = cosine(guide_anchors[i], guide_positives[i])
        if margin_strategy == "absolute":
            threshold = guide_own - margin
        else:
            threshold = guide_own - abs(guide_own) * margin

        def closer(similarity, own=own):
            return false_negative_margin is not None and similarity > own + false_negative_margin

        logits = [own / temperature]
        for j in range(n):
            if j != i:
                similarity = cosine(anchors[i], positives[j])
                suppressed = cosine(guide_anchors[i], guide_positives[j]) > threshold
                suppressed |= is_equivalent(i, j, ids, anchor_ids) or closer(similarity)
                if not suppressed:
                    logits.append(similarity / temperature)

        for contrast, texts, guide_texts in (
            (contrast_anchors, anchors, guide_anchors),
            (contrast_positives, positives, guide_positives),
        ):
            for j in range(n):
                similarity = cosine(texts[i], texts[j])
                suppressed = cosine(guide_texts[i], guide_texts[j]) > threshold
                if j == i:
                    suppressed |= exclude_self
                else:
                    suppressed |= is_equivalent(i, j, ids, anchor_ids) or closer(similarity)
                if contrast and not suppressed:
                    logits.append(similarity / temperature)

        if negatives is not None:
            assert guide_negatives is not None
            for j in range(n):
                for c in range(negatives.shape[1]):
                    if negatives_where is not None and not negatives_where[j, c]:
                        continue
                    similarity = cosine(anchors[i], negatives[j, c])
                    suppressed = cosine(guide_anchors[i], guide_negatives[j, c]) > threshold
                    suppressed |= closer(similarity)
                    if ids is not None and negative_ids is not None:
                        suppressed |= same(ids[i], negative_ids[j, c])
                    if not suppressed:
                        logits.append(similarity / temperature)
        values.append(logsumexp(logits) - own / temperature)
    return np.mean(values)


def similarities_of_negatives(
    i, anchors, positives, ids, anchor_ids, false_negative_margin, similarity_fn
):
    similarity_of = in_numpy(similarity_fn)
    own = similarity_of(anchors[i], positives[i])
    similarities = []
    for j in range(len(positives)):
        similarity = similarity_of(anchors[i], positives[j])
        if j == i or is_equivalent(i, j, ids, anchor_ids):
            continue
        if false_negative_margin is not None and similarity > own + false_negative_margin:
            continue
        similarities.append(similarity)
    return similarities


def mega_batch_margin_loss(
    anchors,
    positives,
    *,
    ids=None,
    anchor_ids=None,
    positive_margin=0.8,
    negative_margin=0.3,
    scale=1.0,
    false_negative_margin=None,
    similarity_fn="cosine",
):
    values = []
    for i in range(len(anchors)):
        own = in_numpy(similarity_fn)(anchors[i], positives[i])
        others = similarities_of_negatives(
            i, anchors, positives, ids, anchor_ids, false_negative_margin, similarity_fn
        )
        value = max(positive_margin - scale * own, 0)
        if others:
            value += max(scale * max(others) - negative_margin, 0)
        values.append(value)
    return np.mean(values)


def sigmoid_loss(
    anchors,
    positives,
    *,
    ids=None,
    anchor_ids=None,
    scale=10.0,
    bias=-10.0,
    false_negative_margin=None,
    similarity_fn="cosine",
):
    values = []
    for i in range(len(anchors)):
        own = in_numpy(similarity_fn)(anchors[i], positives[i])
        others = similarities_of_negatives(
            i, anchors, positives, ids, anchor_ids, false_negative_margin, similarity_fn
        )
        value = softplus(-(scale * own + bias))
        for similarity in others:
            value += softplus(scale * similarity + bias)
        values.append(value)
    return np.mean(values)


def global_orthogonal_regularization_loss(
    embeddings, *, ids=None, mean_weight=1.0, second_moment_weight=1.0, similarity_fn="cosine"
):
    n, d = embeddings.shape
    similarities = []
    for i in range(n):
        for j in range(n):
            if i != j and not (ids is not None and same(ids[i], ids[j])):
                similarities.append(in_numpy(similarity_fn)(embeddings[i], embeddings[j]))
    count = max(len(similarities), 1)
    mean = sum(similarities) / count
    second_moment = sum(s**2 for s in similarities) / count
    return mean_weight * mean**2 + second_moment_weight * max(second_moment - 1 / d, 0)
