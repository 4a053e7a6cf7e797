"""References of jaxembed/losses/distillation.py."""

import numpy as np

from tests.losses.references.vectors import cosine, euclidean_distance, in_numpy, log_softmax


def embed_distill_loss(student, *, teacher, distance="cosine"):
    values = []
    for x, t in zip(student, teacher, strict=True):
        values.append(
            {
                "cosine": 1 - cosine(x, t),
                "mse": np.mean((x - t) ** 2),
                "l2": euclidean_distance(x, t),
            }[distance]
        )
    return np.mean(values)


def mse_loss(student, *, teacher):
    return embed_distill_loss(student, teacher=teacher, distance="mse")


def margin_mse_loss(
    queries,
    positives,
    negatives,
    *,
    margins=None,
    scores=None,
    similarity_fn="paired_dot",
    negatives_where=None,
):
    similarity = in_numpy(similarity_fn)
    if margins is None:
        assert scores is not None
        margins = np.stack([row[0] - row[1:] for row in scores])
    values = []
    for i in range(len(queries)):
        errors = []
        for c in range(negatives.shape[1]):
            if negatives_where is None or negatives_where[i, c]:
                to_positive = similarity(queries[i], positives[i])
                to_negative = similarity(queries[i], negatives[i, c])
                errors.append((to_positive - to_negative - margins[i, c]) ** 2)
        if errors:
            values.append(np.mean(errors))
    return np.mean(values) if values else 0.0


def distill_kl_div_loss(
    queries,
    candidates,
    *,
    scores=None,
    teacher_queries=None,
    teacher_candidates=None,
    temperature=1.0,
    student_temperature=None,
    teacher_temperature=None,
    similarity_fn="paired_dot",
    candidates_where=None,
):
    similarity = in_numpy(similarity_fn)
    if student_temperature is None:
        student_temperature = temperature
    if teacher_temperature is None:
        teacher_temperature = temperature
    if scores is None:
        assert teacher_queries is not None
        assert teacher_candidates is not None
        scores = np.zeros(teacher_candidates.shape[:2])
        for i in range(len(queries)):
            for c in range(candidates.shape[1]):
                scores[i, c] = similarity(teacher_queries[i], teacher_candidates[i, c])
    values = []
    for i in range(len(queries)):
        student, teacher = [], []
        for c in range(candidates.shape[1]):
            if candidates_where is None or candidates_where[i, c]:
                teacher.append(scores[i, c] / teacher_temperature)
                student.append(similarity(queries[i], candidates[i, c]) / student_temperature)
        if student:
            divergence = 0.0
            for log_p, log_s in zip(log_softmax(teacher), log_softmax(student), strict=True):
                if log_p > -np.inf:
                    divergence += np.exp(log_p) * (log_p - log_s)
            values.append(student_temperature**2 * divergence)
    return np.mean(values) if values else 0.0


def denoising_auto_encoder_loss(logits, *, target_ids, pad_id):
    values = []
    for i in range(len(logits)):
        for t in range(logits.shape[1]):
            target = target_ids[i, t]
            if target != pad_id:
                values.append(-log_softmax(list(logits[i, t]))[target])
    return np.mean(values) if values else 0.0
