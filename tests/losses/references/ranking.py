"""References of jaxembed/losses/ranking.py."""

import numpy as np

from tests.losses.references.vectors import in_numpy, logsumexp


def same(left, right):
    return left is not None and right is not None and tuple(left) == tuple(right)


def multiple_negatives_ranking_loss(
    anchors,
    positives,
    negatives=None,
    *,
    ids=None,
    anchor_ids=None,
    negative_ids=None,
    scale=20.0,
    directions=("query_to_doc",),
    partition_mode="joint",
    hardness_mode=None,
    hardness_strength=0.0,
    false_negative_margin=None,
    similarity_fn="cosine",
    negatives_where=None,
):
    similarity_of = in_numpy(similarity_fn)
    n = len(anchors)
    text = ids if ids is not None else [None] * n
    asked = anchor_ids if anchor_ids is not None else [None] * n
    documents = [(positives[j], j, "positive", text[j]) for j in range(n)]
    if negatives is None:
        negatives = np.zeros((n, 0, anchors.shape[1]))
    for j in range(n):
        for c in range(negatives.shape[1]):
            if negatives_where is None or negatives_where[j, c]:
                text_id = negative_ids[j, c] if negative_ids is not None else None
                documents.append((negatives[j, c], j, "negative", text_id))

    values = []
    for i in range(n):
        own_similarity = similarity_of(anchors[i], positives[i])

        def closer(similarity, own_similarity=own_similarity):
            return (
                false_negative_margin is not None
                and similarity > own_similarity + false_negative_margin
            )

        def equivalent(j, i=i):
            return same(text[i], text[j]) or same(asked[i], asked[j])

        def false_negative(document, similarity, i=i, closer=closer, equivalent=equivalent):
            _, j, kind, text_id = document
            if same(text_id, text[i]) or closer(similarity):
                return True
            return kind == "positive" and equivalent(j)

        partitions = {direction: [] for direction in directions}
        for document in documents:
            vector, j, kind, _ = document
            own_positive = j == i and kind == "positive"
            similarity = similarity_of(anchors[i], vector)
            if own_positive or not false_negative(document, similarity):
                hard = {
                    None: False,
                    "in_batch_negatives": j != i,
                    "hard_negatives": j == i and kind == "negative",
                    "all_negatives": not own_positive,
                }[hardness_mode]
                logit = scale * similarity + (hardness_strength * similarity if hard else 0)
                partitions["query_to_doc"].append(logit)
            similarity = similarity_of(vector, positives[i])
            if "doc_to_doc" in directions and j != i and not false_negative(document, similarity):
                partitions["doc_to_doc"].append(scale * similarity)
        for j in range(n):
            similarity = similarity_of(anchors[j], anchors[i])
            excluded = j == i or equivalent(j) or closer(similarity)
            if "query_to_query" in directions and not excluded:
                partitions["query_to_query"].append(scale * similarity)
            similarity = similarity_of(anchors[j], positives[i])
            excluded = j != i and (equivalent(j) or closer(similarity))
            if "doc_to_query" in directions and not excluded:
                partitions["doc_to_query"].append(scale * similarity)

        if partition_mode == "joint":
            normaliser = logsumexp([logit for logits in partitions.values() for logit in logits])
        else:
            normaliser = np.mean([logsumexp(logits) for logits in partitions.values()])
        values.append(normaliser - scale * own_similarity)
    return np.mean(values)


def multiple_negatives_symmetric_ranking_loss(anchors, positives, negatives=None, **keywords):
    return multiple_negatives_ranking_loss(
        anchors,
        positives,
        negatives,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
        **keywords,
    )
