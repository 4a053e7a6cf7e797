"""Outside data is of the form that is declared, or named with what is due and what came."""

import json

import pytest

from jaxembed.forms import At, Choice, FormError, check_form, read_json

FORM = {
    "size": At(int, least=1),
    "rate?": (At(float, above=0, most=1), None),
    "side?": Choice("left", "right"),
    "parts?": [{"path": str}],
    "prompts?": {str: str},
    "windows?": (int, [int]),
}


@pytest.mark.parametrize(
    "value",
    [
        {"size": 1},
        {"size": 3, "rate": None, "unknown": [1, {"a": None}]},
        {"size": 3, "rate": 1, "side": "left", "parts": [], "prompts": {}, "windows": [1, 2]},
        {"size": 3, "parts": [{"path": "", "idx": 0}], "prompts": {"query": ""}, "windows": 4},
    ],
)
def test_data_of_the_form_is_returned(value):
    assert check_form(value, FORM, "file") is value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "file: it must be an object; got []"),
        (None, "file: it must be an object; got null"),
        ({}, "file: it lacks 'size'"),
        ({"size": 0}, "file: size must be a whole number at least 1; got 0"),
        ({"size": True}, "file: size must be a whole number at least 1; got true"),
        ({"size": 1.0}, "file: size must be a whole number at least 1; got 1.0"),
        (
            {"size": 1, "rate": 0},
            "file: rate must be a finite number above 0 and at most 1 or null; got 0",
        ),
        (
            {"size": 1, "rate": float("nan")},
            "file: rate must be a finite number above 0 and at most 1 or null; got NaN",
        ),
        ({"size": 1, "side": "up"}, 'file: side must be one of "left", "right"; got "up"'),
        ({"size": 1, "parts": {}}, "file: parts must be a list whose items are an object; got {}"),
        ({"size": 1, "parts": [{"path": ""}, {}]}, "file: parts[1] lacks 'path'"),
        ({"size": 1, "prompts": {"a": 2}}, "file: prompts.a must be a text; got 2"),
        ({"size": 1, "windows": [1, "2"]}, 'file: windows[1] must be a whole number; got "2"'),
        (
            {"size": 1, "windows": {}},
            "file: windows must be a whole number or a list whose items are a whole number; got {}",
        ),
    ],
)
def test_the_place_that_differs_is_named(value, message):
    with pytest.raises(FormError) as error:
        check_form(value, FORM, "file")
    assert str(error.value) == message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(content, tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(FormError, match=r"config\.json is not valid JSON"):
        read_json(file)


def test_a_file_is_read_against_its_form(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"size": 2}))
    assert read_json(file, {"size": int}) == {"size": 2}
    with pytest.raises(FormError, match=r"config\.json: size must be a text"):
        read_json(file, {"size": str})
