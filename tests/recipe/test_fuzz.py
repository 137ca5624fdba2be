"""Mutated recipes either load or are refused in one line."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import RecipeError
from tests.a_recipe import RECIPE, load


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
    """The message of a refused recipe; empty where it loads. Any other error fails the test."""
    try:
        load(folder, text)
    except RecipeError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "on-the-hub" / "config.json"
    config.parent.mkdir()
    config.write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    monkeypatch.setattr("harness.models.checkpoints.hub.configuration", lambda *_: config)


@pytest.mark.slow
def test_a_mutated_recipe(folder: Path) -> None:
    messages = []
    for seed in range(300):
        text = yaml.safe_dump(mutated(random.Random(seed)), sort_keys=False)
        messages.append(outcome(folder, text))
        if messages[-1]:
            assert messages[-1].startswith("recipes/x.yaml:"), text
            assert messages[-1].isprintable(), text  # so it is one line
            assert len(messages[-1]) < 1200, text
    assert 10 < sum(map(bool, messages)) < 290


def test_a_damaged_file(folder: Path) -> None:
    messages = []
    bits = ["", ":", "{", "]", "\n", "\t", "&a", "*", "!", '"', "\u2028", "- "]
    for seed in range(200):
        draw = random.Random(seed)
        text = RECIPE
        for _ in range(draw.choice([1, 1, 3])):
            i = draw.randrange(len(text))
            text = text[:i] + draw.choice(bits) + text[i + 1 :]
        messages.append(outcome(folder, text))
        if messages[-1]:
            assert messages[-1].startswith("recipes/x.yaml:"), text
            assert messages[-1].isprintable(), text
    assert 100 < sum(map(bool, messages)) < 200
