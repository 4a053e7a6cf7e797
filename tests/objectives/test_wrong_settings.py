"""Settings of the wrong kind or form are refused where they are set, before anything is trained."""

import pytest

from jaxembed import similarity as s
from jaxembed.calls import arguments_of
from jaxembed.objectives import REGISTRY
from jaxembed.similarity_forms import COLUMNS, FAMILIES

FORMS = [
    (objective, name, argument.form)
    for objective in REGISTRY.values()
    for name, argument in arguments_of(objective.loss).items()
    if argument.form is not None and name in objective.settings
]


@pytest.mark.parametrize(
    ("objective", "name", "form"), FORMS, ids=[f"{o.name}-{name}" for o, name, _ in FORMS]
)
def test_a_similarity_of_the_other_form_is_refused(objective, name, form):
    kind = name.removesuffix("_fn")
    for family in FAMILIES:
        for column, function in zip(COLUMNS, family, strict=True):
            if function is None:
                continue
            if column == (kind, form):
                assert objective.with_settings(**{name: function}).chosen[name] is function
            else:
                with pytest.raises(ValueError, match=f"{name} must be a {kind} that compares"):
                    objective.with_settings(**{name: function})
    with pytest.raises(ValueError, match=f"{name} "):
        objective.with_settings(**{name: "no such name"})


def test_the_loss_of_pairs_alone_and_of_margins_look_at_the_form_too():
    for name in ("distill_kl_div", "margin_mse"):
        with pytest.raises(ValueError, match=r"got cosine, .*: pass paired_cosine"):
            REGISTRY[name].with_settings(similarity_fn=s.cosine)


def test_numbers_are_numbers():
    with pytest.raises(ValueError, match=r"scale of .* must be a number; got 'a'"):
        REGISTRY["cosent"].with_settings(scale="a")
