"""Wrong use of a loss is refused with what was expected and what came."""

import functools
import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config

from jaxembed import losses, similarity
from jaxembed.calls import arguments_of
from jaxembed.similarity_forms import COLUMNS, FAMILIES
from tests.arrays import cast
from tests.losses.cases import RICHEST

N, D, K = 4, 6, 2
X, Y = jnp.ones((N, D)), jnp.ones((N, D)) / 2
NEGATIVES = jnp.ones((N, K, D))
LABELS, SCORES = jnp.arange(N), jnp.linspace(0.0, 1.0, N)
GUIDE = {"guide_anchors": X, "guide_positives": Y}


@pytest.fixture(autouse=True)
def unchecked():
    """Lets wrong shapes and dtypes reach the functions' own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


# loss, arrays, keywords, message
WRONG = [
    ("cosent_loss", (X,), {"scores": SCORES}, "cosent_loss takes the arrays left, right; got 1"),
    ("mega_batch_margin_loss", (X, Y, NEGATIVES), {}, "takes the arrays anchors, positives; got 3"),
    ("sigmoid_loss", (X, Y, NEGATIVES), {}, "takes the arrays anchors, positives; got 3"),
    ("triplet_loss", (X, Y), {}, "takes the arrays anchors, positives, negatives; got 2"),
    ("batch_all_triplet_loss", (X, Y), {"labels": LABELS}, "takes the arrays embeddings; got 2"),
    (
        "multiple_negatives_ranking_loss",
        (X,),
        {},
        r"takes the arrays anchors, positives, negatives \(optional\); got 1",
    ),
    *(
        (loss, (X,), {"labels": SCORES}, "labels must be integers; got float32")
        for loss in (
            "batch_hard_triplet_loss",
            "batch_hard_soft_margin_triplet_loss",
            "batch_semi_hard_triplet_loss",
            "batch_all_triplet_loss",
            "softmax_loss",
        )
    ),
    (
        "denoising_auto_encoder_loss",
        (NEGATIVES,),
        {"target_ids": jnp.ones((N, K)), "pad_id": 0},
        "target_ids must be integers; got float32",
    ),
    *(
        (loss, (X,), {"labels": LABELS, "margin": -0.5}, "margin must not be below 0; got -0.5")
        for loss in (
            "batch_hard_triplet_loss",
            "batch_semi_hard_triplet_loss",
            "batch_all_triplet_loss",
        )
    ),
    *(
        (loss, (X, Y), {"labels": LABELS, "margin": -1}, "margin must not be below 0; got -1")
        for loss in ("contrastive_loss", "online_contrastive_loss")
    ),
    ("triplet_loss", (X, Y, X), {"margin": -0.1}, "margin must not be below 0; got -0.1"),
    ("gist_embed_loss", (X, Y), {**GUIDE, "margin": -0.1}, "margin must not be below 0; got -0.1"),
    *(
        (loss, (X, Y), {"scale": 0, **keywords}, "scale must be above 0; got 0")
        for loss, keywords in (
            ("multiple_negatives_ranking_loss", {}),
            ("multiple_negatives_symmetric_ranking_loss", {}),
            ("mega_batch_margin_loss", {}),
            ("sigmoid_loss", {}),
            ("contrastive_tension_loss", {"labels": LABELS}),
            ("contrastive_tension_in_batch_negatives_loss", {}),
            ("cosent_loss", {"scores": SCORES}),
            ("angle_loss", {"scores": SCORES}),
        )
    ),
    ("gist_embed_loss", (X, Y), {**GUIDE, "temperature": 0.0}, "temperature must be above 0"),
    (
        "gist_embed_loss",
        (X, Y),
        {**GUIDE, "margin_strategy": "none"},
        r"margin_strategy must be one of \['absolute', 'relative'\]; got 'none'",
    ),
    ("gist_embed_loss", (X, Y, NEGATIVES), GUIDE, "negatives and guide_negatives go together"),
    (
        "gist_embed_loss",
        (X, Y),
        {"guide_anchors": X[:3], "guide_positives": Y[:3]},
        r"guide_anchors must start with the axes \(4,\); got shape \(3, 6\)",
    ),
    ("contrastive_loss", (X, Y), {"labels": LABELS[:3]}, r"labels must be one per row, \(4,\)"),
    (
        "contrastive_loss",
        (X, Y),
        {"labels": LABELS, "where": LABELS[:, None] > 0},
        r"where must have the shape \(4,\); got \(4, 1\)",
    ),
    ("mse_loss", (X,), {"teacher": X, "where": LABELS}, "where must be booleans; got int32"),
    ("mse_loss", (X > 0,), {"teacher": X}, "embeddings and scores must be floats; got bool"),
    ("contrastive_loss", (X, Y[:3]), {"labels": LABELS}, r"right must have the shape of left"),
    ("cosine_similarity_loss", (X, Y), {"scores": X}, "scores must be one per row"),
    ("cosent_loss", (X, Y), {"scores": SCORES[:2]}, r"scores must have the shape \(4,\)"),
    (
        "angle_loss",
        (X, Y),
        {},
        r"angle_loss needs scores \[n\] or negatives \[n k d\]; got neither",
    ),
    ("angle_loss", (X, Y), {"scores": SCORES, "ibn_w": -1.0}, "ibn_w must not be below 0"),
    (
        "triplet_loss",
        (X, Y, jnp.ones((N, K, D + 1))),
        {},
        r"negatives must be \[4 6\] or \[4 k 6\]; got \(4, 2, 7\)",
    ),
    ("mse_loss", (X,), {"teacher": X[:, :3]}, r"teacher must have the shape of student, \(4, 6\)"),
    (
        "embed_distill_loss",
        (X,),
        {"teacher": X, "distance": "dot"},
        r"distance must be one of \['cosine', 'mse', 'l2'\]; got 'dot'",
    ),
    ("margin_mse_loss", (X, Y, NEGATIVES), {}, "exactly one of margins, scores; got none"),
    (
        "margin_mse_loss",
        (X, Y, NEGATIVES),
        {"margins": jnp.ones((N, K)), "scores": jnp.ones((N, K + 1))},
        "give exactly one of",
    ),
    (
        "margin_mse_loss",
        (X, Y, NEGATIVES),
        {"margins": jnp.ones((N, K + 1))},
        r"margins must have the shape \(4, 2\); got \(4, 3\)",
    ),
    (
        "distill_kl_div_loss",
        (X, NEGATIVES[:, :1]),
        {"scores": jnp.ones((N, 1))},
        r"candidates must be \[4 k 6\] with k of 2 or more; got \(4, 1, 6\)",
    ),
    ("distill_kl_div_loss", (X, NEGATIVES), {}, "exactly one of scores, teacher_queries; got none"),
    (
        "distill_kl_div_loss",
        (X, NEGATIVES),
        {"teacher_queries": X},
        "teacher_queries and teacher_candidates go together",
    ),
    (
        "distill_kl_div_loss",
        (X, NEGATIVES),
        {"scores": jnp.ones((N, K)), "temperature": 0.0},
        "temperature must be above 0; got 0.0",
    ),
    (
        "global_orthogonal_regularization_loss",
        (X,),
        {"mean_weight": 0, "second_moment_weight": 0.0},
        "must not both be 0",
    ),
    (
        "batch_all_triplet_loss",
        (X,),
        {"labels": LABELS, "where": LABELS[:2] > 0},
        r"where must have the shape \(4,\)",
    ),
]


@pytest.mark.parametrize(
    ("loss", "arrays", "keywords", "message"),
    WRONG,
    ids=[f"{loss}-{index}" for index, (loss, *_) in enumerate(WRONG)],
)
def test_wrong_use_is_refused(loss, arrays, keywords, message):
    with pytest.raises(ValueError, match=message):
        getattr(losses, loss)(*arrays, **keywords)


def test_all_features_of_a_pair_switched_off_are_refused():
    off = {"concatenation_sent_rep": False, "concatenation_sent_difference": False}
    with pytest.raises(ValueError, match="must be True; got False for all"):
        losses.pair_features(X, Y, **off)


def test_traced_numbers_are_not_checked():
    loss = jax.jit(lambda margin: losses.triplet_loss(X, Y, X, margin=margin))(-1.0)
    assert jnp.isfinite(loss)


def test_names_may_stand_for_positions():
    assert losses.mse_loss(student=X, teacher=X) == 0


def test_a_label_out_of_range_shows_as_not_a_number():
    values = losses.softmax_loss(X, labels=jnp.array([0, D - 1, D, -1]), reduce_fn=None)
    assert jnp.array_equal(jnp.isnan(values), jnp.array([False, False, True, True]))


def test_numpy_arrays_are_taken_and_left_as_they_were():
    where = np.array([True, True, False, True])
    ids = np.arange(2 * N, dtype=np.uint32).reshape(N, 2)
    arrays: Any = {"ids": ids, "where": where, "scale": 1.0}
    x: Any = np.asarray(jax.random.normal(jax.random.key(0), (N, D)))
    loss = jax.jit(lambda y: losses.multiple_negatives_ranking_loss(y, x, **arrays))(x)
    expected = losses.multiple_negatives_ranking_loss(
        jnp.asarray(x), jnp.asarray(x), **jax.tree.map(jnp.asarray, arrays)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert where.tolist() == [True, True, False, True]


def forms_of(case) -> dict[str, Any]:
    """The forms that the similarity or distance of a loss may have, by the argument's name."""
    arguments = arguments_of(case.loss)
    return {name: argument.form for name, argument in arguments.items() if argument.form}


def called(case, keywords, n=N):
    embeddings, rows = case.inputs(n)
    parameters = case.parameters(np.random.default_rng(0))
    arrays = cast((embeddings, {**rows, **parameters}), jnp.float32)
    run = lambda x: case.loss(*x[0], **{**x[1], **case.settings, **keywords})  # noqa: E731
    return jax.eval_shape(run, arrays)


@pytest.mark.parametrize(
    "case", [case for case in RICHEST if forms_of(case)], ids=lambda case: case.name
)
def test_the_other_form_is_refused(case):
    for argument, form in forms_of(case).items():
        kind = argument.removesuffix("_fn")
        for family in FAMILIES:
            of_column = dict(zip(COLUMNS, family, strict=True))
            right = of_column.pop((kind, form))
            for (its_kind, its_form), wrong in of_column.items():
                if wrong is None:
                    continue
                message = (
                    f"(?m){argument} must be a {kind} .*; got {wrong.__name__}, a {its_kind}.*"
                )
                message += f": pass {right.__name__}$" if right else re.escape(its_form.words)
                with pytest.raises(ValueError, match=message):
                    called(case, {argument: wrong})
                if (its_form.vector_axes, its_form) != (form.vector_axes, form):
                    for n in (1, N):
                        with pytest.raises(ValueError, match=f"{argument} must be a {kind}"):
                            called(case, {argument: functools.partial(hidden, wrong)}, n)
        with pytest.raises(
            ValueError, match=f"{argument} .*must be a function; got 'dot': such as"
        ):
            called(case, {argument: "dot"})


def hidden(function, *arrays, **masks):
    """A function of ours that is not known as such."""
    return function(*arrays, **masks)


def test_a_similarity_that_returns_the_pairs_turned_round_is_refused_though_the_batch_is_square():
    turned = lambda left, right: similarity.cosine(right, left)  # noqa: E731
    with pytest.raises(ValueError, match=r"got <lambda>, which makes \(5, 3\) of \(3, 6\) and"):
        losses.multiple_negatives_ranking_loss(X, Y, similarity_fn=turned)


def test_a_similarity_that_knows_the_number_of_candidates_is_taken():
    bias = jnp.linspace(0.0, 1.0, N)
    corrected = lambda left, right: similarity.cosine(left, right) - bias[None]  # noqa: E731
    assert losses.multiple_negatives_ranking_loss(X, Y, similarity_fn=corrected) > 0


@pytest.mark.parametrize(
    "case",
    [case for case in RICHEST if case.loss.__module__.startswith("jaxembed.")],
    ids=lambda case: case.name,
)
def test_values_of_another_kind_and_unknown_keywords_are_refused_in_one_line(case):
    columns = list(inspect.signature(case.loss).parameters)[: len(case.inputs(2)[0])]
    for name, argument in arguments_of(case.loss).items():
        if name in columns or not argument.kind:
            continue
        wrong = ["text", {"a": 1}, *([[1.0]] if argument.kind != "a function" else [1.0])]
        if argument.kind == "several values":  # the loss itself looks at a text
            wrong = [1.0]
        for value in wrong:
            with pytest.raises(ValueError, match=f"^{name} of .* must be {argument.kind}; got "):
                called(case, {name: value})
    with pytest.raises(ValueError, match=r"_loss takes no similarity_fct; "):
        called(case, {"similarity_fct": similarity.dot})
    embeddings, rows = case.inputs(N)
    for wrong in (None, 3, "texts", [1.0]):
        first = wrong, *cast(embeddings[1:], jnp.float32)
        with pytest.raises(ValueError, match=r"must be an array; got|take a SparseCode"):
            case.loss(*first, **cast(rows, jnp.float32), **case.settings)


@pytest.mark.parametrize(
    "case",
    [case for case in RICHEST if any(a.unsigned for a in arguments_of(case.loss).values())],
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32, bool])
def test_ids_that_are_no_unsigned_integers_are_refused(case, dtype):
    for name, argument in arguments_of(case.loss).items():
        if argument.unsigned:
            message = f"{name} must be unsigned integers, the two words of a hash; got "
            with pytest.raises(ValueError, match=message + jnp.dtype(dtype).name):
                called(case, {name: jnp.zeros((N, 2), dtype)})
