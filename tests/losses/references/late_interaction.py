"""References of the late-interaction losses and of the scores they are made of."""

import functools

import numpy as np

from tests.losses.references.ranking import same
from tests.losses.references.vectors import dot, log_softmax, logsumexp

EMPTY_DOCUMENT = -1e9


def real_tokens(tokens, mask):
    return [token for t, token in enumerate(tokens) if mask is None or mask[t]]


def maxsim(query, document):
    """Of two lists of real tokens."""
    if not document:
        return EMPTY_DOCUMENT
    return sum(max(dot(token, other) for other in document) for token in query)


def mean_maxsim(query, document):
    return maxsim(query, document) / max(len(query), 1)


def xtr(query, documents, top_k=256):
    """Scores of all documents of a batch: their tokens are searched together."""
    totals, counts = np.zeros(len(documents)), np.zeros(len(documents))
    for token in query:
        found = [(dot(token, other), j) for j, tokens in enumerate(documents) for other in tokens]
        retrieved = sorted(found, reverse=True)[:top_k]
        for j in range(len(documents)):
            own = [similarity for similarity, owner in retrieved if owner == j]
            if own:
                totals[j] += max(own)
                counts[j] += 1
    return [
        total / max(count, 1) if tokens else EMPTY_DOCUMENT
        for total, count, tokens in zip(totals, counts, documents, strict=True)
    ]


def scores_of(similarity_fn, query, documents):
    """What a function of `jaxembed.late_interaction` gives for a query and documents."""
    if isinstance(similarity_fn, functools.partial):
        keywords, name = similarity_fn.keywords, similarity_fn.func.__name__
    else:
        keywords, name = {}, getattr(similarity_fn, "__name__", similarity_fn)
    if name == "xtr":
        return xtr(query, documents, **keywords)
    score = {"maxsim": maxsim, "mean_maxsim": mean_maxsim}[name.removeprefix("paired_")]
    return [score(query, document) for document in documents]


def lists(queries, documents, query_mask, document_mask):
    """Tokens of the queries, and of each of their documents."""
    n, k = documents.shape[:2]
    return (
        [real_tokens(queries[i], None if query_mask is None else query_mask[i]) for i in range(n)],
        [
            [
                real_tokens(documents[i, c], None if document_mask is None else document_mask[i, c])
                for c in range(k)
            ]
            for i in range(n)
        ],
    )


def multi_vector_multiple_negatives_ranking_loss(
    queries,
    documents,
    *,
    query_mask=None,
    document_mask=None,
    ids=None,
    document_ids=None,
    scale=1.0,
    similarity_fn="maxsim",
    documents_where=None,
):
    n, k = documents.shape[:2]
    queries, documents = lists(queries, documents, query_mask, document_mask)
    if document_ids is None and ids is not None:
        document_ids = ids[:, None]
    real = [
        (i, c)
        for i in range(n)
        for c in range(k)
        if documents_where is None or documents_where[i, c]
    ]
    values = []
    for i in range(n):
        if (i, 0) not in real:
            continue
        scores = scores_of(similarity_fn, queries[i], [documents[j][c] for j, c in real])
        logits = []
        for (j, c), score in zip(real, scores, strict=True):
            if (j, c) == (i, 0):
                own = scale * score
            elif document_ids is not None and same(document_ids[j, c], document_ids[i, 0]):
                continue
            logits.append(scale * score)
        values.append(logsumexp(logits) - own)
    return np.mean(values) if values else 0.0


def multi_vector_distill_kl_div_loss(
    queries,
    documents,
    *,
    scores,
    query_mask=None,
    document_mask=None,
    temperature=1.0,
    student_temperature=None,
    teacher_temperature=None,
    similarity_fn="paired_maxsim",
    documents_where=None,
):
    if student_temperature is None:
        student_temperature = temperature
    if teacher_temperature is None:
        teacher_temperature = temperature
    n, k = documents.shape[:2]
    queries, documents = lists(queries, documents, query_mask, document_mask)
    values = []
    for i in range(n):
        real = [c for c in range(k) if documents_where is None or documents_where[i, c]]
        if not real:
            continue
        student = scores_of(similarity_fn, queries[i], [documents[i][c] for c in real])
        log_student = log_softmax([score / student_temperature for score in student])
        log_teacher = log_softmax([scores[i, c] / teacher_temperature for c in real])
        divergence = 0.0
        for log_p, log_s in zip(log_teacher, log_student, strict=True):
            if log_p > -np.inf:
                divergence += np.exp(log_p) * (log_p - log_s)
        values.append(student_temperature**2 * divergence)
    return np.mean(values) if values else 0.0


def multi_vector_margin_mse_loss(
    queries,
    documents,
    *,
    margins=None,
    scores=None,
    query_mask=None,
    document_mask=None,
    similarity_fn="paired_maxsim",
    documents_where=None,
):
    n, k = documents.shape[:2]
    if margins is None:
        assert scores is not None
        margins = scores[:, :1] - scores[:, 1:]
    queries, documents = lists(queries, documents, query_mask, document_mask)
    values = []
    for i in range(n):
        student = scores_of(similarity_fn, queries[i], documents[i])
        errors = []
        for c in range(1, k):
            if documents_where is None or (documents_where[i, 0] and documents_where[i, c]):
                errors.append((student[0] - student[c] - margins[i, c - 1]) ** 2)
        if errors:
            values.append(np.mean(errors))
    return np.mean(values) if values else 0.0
