"""All YAML from outside goes through one reader, within limits; numbers that people read otherwise are refused."""

import ast
import time
from pathlib import Path

import pytest

from harness.errors import DataError, HarnessError, RecipeError
from harness.outside_yaml import YamlError, parse_yaml
from harness.recipe.launch import Accelerate
from harness.recipe.prompt_template import load_template
from harness.recipe.reading.document import Document
from harness.servers.prices import read_prices

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
DEEP = "a: " + "[" * 5_000


def test_nothing_else_reads_yaml() -> None:
    root = Path(__file__).parents[2] / "harness"
    readers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            readers |= {path.name for name in names if name.split(".")[0] == "yaml"}
    assert readers == {"outside_yaml.py"}


def template(path: Path) -> None:
    try:
        load_template(path)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def accelerate(path: Path) -> None:
    try:
        Accelerate.model_validate({"config": str(path)})
    except ValueError as error:
        raise RecipeError(str(error).splitlines()[2]) from None


READERS = [Document.read, template, accelerate, read_prices]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", [BOMB, DEEP, "a: &a [*a]", "x" * (2 << 20), "a: 010", "a: {b: 1, b: 2}", "a: \x07"])
def test_every_reader_has_its_limits(reader: object, text: str, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    started = time.monotonic()
    with pytest.raises(HarnessError) as caught:
        reader(path)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10


def test_aliases_have_a_limit_of_their_own() -> None:
    assert parse_yaml(f"a: &a x\nb: [{'*a, ' * 100}]")["b"] == ["x"] * 100
    with pytest.raises(YamlError, match="line 2: not valid YAML: more than 100 aliases"):
        parse_yaml(f"a: &a x\nb: [{'*a, ' * 101}]")


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_for_what_is_no_file(reader: object, tmp_path: Path) -> None:
    import os

    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    link = tmp_path / "inner" / "link.yaml"
    link.parent.mkdir()
    (tmp_path / "secret.yaml").write_text("secret: 1")
    link.symlink_to(tmp_path / "secret.yaml")
    for path in (fifo, Path("/dev/zero"), tmp_path, link):
        with pytest.raises(HarnessError) as caught:
            reader(path)  # type: ignore[operator]
        assert "\n" not in str(caught.value)
        assert "secret: 1" not in str(caught.value)


def test_a_byte_order_mark_is_read_by_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text("gpt: {input: 1, output: 2}\n", encoding=encoding)
        assert read_prices(path).models["gpt"].output == 2
        path.write_text("name: x\n", encoding=encoding)
        assert Document.read(path).data == {"name": "x"}
        path.write_text("style: chat\ntask: t\nask: a\n", encoding=encoding)
        assert load_template(path).task == "t"


@pytest.mark.parametrize(
    ("text", "read_as"),
    [("010", "8"), ("-017", "-15"), ("0_17", "15"), ("1:30", "90"), ("12:30:45", "45045"), ("1:30.5", "90.5")],
)
def test_numbers_that_yaml_reads_otherwise_than_people(text: str, read_as: str) -> None:
    for document in (f"a: {text}", f"[x, {text}]"):
        with pytest.raises(
            YamlError, match=f"YAML reads '{text}' as {read_as}; write the number that is meant, or put"
        ):
            parse_yaml(document)
    assert parse_yaml(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("10", 10), ("1_000", 1000), ("0x10", 16), ("0.5", 0.5), ("1e-4", 1e-4), ("0o10", "0o10"),
        ("2024-01-01", "2024-01-01"), ("~", None), ("08:30x", "08:30x"), ("1.2.3", "1.2.3"), ("yes", True),
    ],
)  # fmt: skip
def test_numbers_and_texts_that_are_clear(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}") == {"a": value}


@pytest.mark.parametrize("text", ["12e45678", ".inf", "-.inf", ".nan", "9" * 30])
def test_numbers_out_of_range_are_texts_that_want_quotes(text: str) -> None:
    with pytest.raises(YamlError, match=r"expected a finite number, got '.*'; put it in quotes if it is text"):
        parse_yaml(f"revision: {text}")


def test_keys_that_are_numbers_where_a_file_may_have_them() -> None:
    assert parse_yaml("{1: a, 2: b}", any_keys=True) == {1: "a", 2: "b"}
    with pytest.raises(YamlError, match="expected a field name"):
        parse_yaml("{1: a}")


def test_true_is_no_price(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("gpt: {input: yes, output: 2}\n")
    with pytest.raises(DataError, match=r"gpt\.input: expected a number, not true or false"):
        read_prices(path)
