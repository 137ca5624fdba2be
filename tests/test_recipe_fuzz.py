"""Whatever is done to a recipe: it loads, or it is refused in one line."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import RecipeError
from tests.a_recipe import RECIPE, load, recipe_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return recipe_folder(tmp_path)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, item in inner for p in [(*path, key), *places(item, (*path, key))]]


ODD: list[Any] = [
    None, True, 0, -1, 3.5, 10**12, "", "x", "~nobody/x", "/", "a/b/c", "\0", "\n\x1b[31m", "${HOME}", "${", "é" * 300,
    "n" * 5000, [], {}, [[]], {"name": "hf"}, {"name": None}, {"": 1}, [None], "2024-01-01", "builtin", "inf", "nan",
]  # fmt: skip


def mutated(draw: random.Random) -> Any:
    recipe = copy.deepcopy(yaml.safe_load(RECIPE))
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        where = draw.choice(places(recipe))
        parent = recipe
        for key in where[:-1]:
            parent = parent[key]
        action = draw.choice(["delete", "rename", "replace", "replace", "swap"])
        if action == "delete":
            del parent[where[-1]]
        elif action == "rename" and isinstance(parent, dict):
            parent[draw.choice([str(where[-1])[:-1], "name", "n\nm", "\x1b", "key", "ß" * 90])] = parent.pop(where[-1])
        elif action == "swap":
            other = recipe
            for key in draw.choice(places(recipe)):
                other = other[key]
            parent[where[-1]] = copy.deepcopy(other)
        else:
            parent[where[-1]] = draw.choice(ODD)
        if not places(recipe):
            break
    return recipe


def outcome(folder: Path, text: str) -> str:
    """What is said of a recipe; nothing where it loads. Any other error fails the test."""
    try:
        load(folder, text)
    except RecipeError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.models._hub_config", lambda *_: None)


def test_a_mutated_recipe(folder: Path) -> None:
    told = []
    for seed in range(300):
        text = yaml.safe_dump(mutated(random.Random(seed)), sort_keys=False)
        told.append(outcome(folder, text))
        if told[-1]:
            assert told[-1].startswith("recipes/x.yaml:"), text
            assert told[-1].isprintable(), text  # so it is one line
            assert len(told[-1]) < 1200, text
    assert 10 < sum(map(bool, told)) < 290


def test_a_damaged_file(folder: Path) -> None:
    told = []
    bits = ["", ":", "{", "]", "\n", "\t", "&a", "*", "!", '"', "\u2028", "- "]
    for seed in range(200):
        draw = random.Random(seed)
        text = RECIPE
        for _ in range(draw.choice([1, 1, 3])):
            i = draw.randrange(len(text))
            text = text[:i] + draw.choice(bits) + text[i + 1 :]
        told.append(outcome(folder, text))
        if told[-1]:
            assert told[-1].startswith("recipes/x.yaml:"), text
            assert told[-1].isprintable(), text
    assert 100 < sum(map(bool, told)) < 200
