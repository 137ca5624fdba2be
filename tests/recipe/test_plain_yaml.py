"""Refused before any field is checked: broken YAML, tags, repeated fields, and files that are too large."""

from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.recipe.load import load_recipe
from tests.a_recipe import refused

SYNTAX = [
    ("name: [x", "1: not valid YAML: "),
    ("name: x\n\tseed: 0", "2: not valid YAML: "),
    ("name: x\n---\nname: y", "2: not valid YAML: expected a single document"),
    ("name: x\nseed: 'a", "not valid YAML: "),
    ("a: *b", "1: not valid YAML: "),
    ("name: \x07", "1: not valid YAML: character 0x7 is not allowed"),
    ("", "1: expected a mapping of fields (name: ..., data: ...), got an empty file"),
    ("# nothing\n", "1: expected a mapping of fields (name: ..., data: ...), got an empty file"),
    ("- a\n- b", "1: expected a mapping of fields (name: ..., data: ...), got a list"),
    ("text", "1: expected a mapping of fields (name: ..., data: ...), got 'text'"),
    ("name: x\nseed: 0\nname: y", "3: name: given twice (first on line 1); remove one"),
    ("data:\n  n: 0\n  n: 1", "3: data.n: given twice (first on line 2); remove one"),
    ("1: x", "1: expected a field name, got '1'; put it in quotes to use it as a name"),
    ("data:\n  on: x", "2: data: expected a field name, got 'on'"),
    ("? [a]\n: x", "1: expected a field name, got an empty mapping"),
    ("name: !!python/object/apply:os.system [id]", "1: name: expected plain YAML, got the tag "),
    ("name: !!binary aGk=", "1: name: expected plain YAML, got the tag "),
    ("a: &a {b: 1}\nc:\n  <<: *a", "3: c: merging with << is not supported"),
    ('name: "\\ud800"', "1: name: expected text, got half of a surrogate pair"),
    ("seed: 0b_", "1: seed: expected a whole number, got '0b_'"),
    ("seed: 0x" + "f" * 9000, "1: seed: expected a finite number, got '0xfff"),
    ("a: &a [*a]", "1: a.0.0.0: too large: "),
    ("a: " + "[" * 500, "1: not valid YAML: more than 100 aliases, or nested more than 64 deep"),
    ("a: &a x\nb: [" + "*a, " * 101 + "]", "2: not valid YAML: more than 100 aliases, or nested more than 64 deep"),
    (
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
        "too large: expected at most 100000 values",
    ),
]


@pytest.mark.parametrize(("text", "message"), SYNTAX, ids=[message[:40] for _, message in SYNTAX])
def test_yaml_that_is_refused(folder: Path, text: str, message: str) -> None:
    error = refused(folder, text)
    assert error.startswith("recipes/x.yaml:")
    assert message in error
    assert len(error) < 400


def test_bytes_that_are_refused(folder: Path) -> None:
    (folder / "x.yaml").write_bytes(b"name: x\nseed: \xff\n")
    with pytest.raises(RecipeError, match=r"x\.yaml: can't be read \(line 2 is not UTF-8; .*\); expected a YAML"):
        load_recipe(folder / "x.yaml")
    (folder / "x.yaml").write_bytes(b"#" * 1_048_577)
    with pytest.raises(
        RecipeError, match=r"x\.yaml: can't be read \(it has 1,048,577 bytes; expected at most 1,048,576\)"
    ):
        load_recipe(folder / "x.yaml")
