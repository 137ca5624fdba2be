"""Every component file, of every kind: the promises that `harness.components` makes for it."""

import contextlib
import inspect
import json
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from harness import components, protocols
from harness.benchmark import Benchmark
from harness.components import FOLDERS, Component, Kind, RewardField, build, component_class, modules
from harness.errors import ComponentError, HarnessError

KINDS: tuple[Kind, ...] = get_args(Kind)
PROTOCOLS = {
    "seed": protocols.Seed,
    "generator": protocols.Generator,
    "reward": protocols.RewardModel,
    "loss": protocols.Loss,
    "judge": protocols.Judge,
    "benchmark": Benchmark,
}
EVERY = [(kind, name) for kind in KINDS for name in sorted(modules(kind)) if modules(kind)[name].startswith("harness.")]
every_component = pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda v: str(v))
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "pandas",
    "scipy",
    "sklearn",
    "openai",
    "alpaca_eval",
    "fastchat",
)

ONE_OF_SEVERAL: dict[str, dict[str, Any]] = {
    "gold": {"words": [20, 80]},
    "humaneval": {"allow_code": True},
    "lm_eval": {"revisions": {"gsm8k": "0" * 40}},
}
"""For components that need one of several fields, or a permission."""
NEEDS = {"lm_eval": "lm_eval"}
"""Packages without which a component has no identity."""


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """Something for fields that must be given."""
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}\n')
    model = "smollm2-135m-instruct"
    named = dict.fromkeys(("model", "base", "policy", "reference"), model)
    length = {"name": "length"}
    judge = {"name": "local", "model": model}
    return {
        **named,
        "path": str(path),
        "dataset": "owner/name",
        "base_url": "http://127.0.0.1:9",
        "judge": judge,
        "reward": length,
        "rewards": [length, length],
        "judges": [judge, {"name": "reward_model", "reward": length}],
        "gold": length,
        "learner": {"name": "features"},
        "pairs": 8,
        "tasks": ["gsm8k"],
    }


def constructed(kind: Kind, name: str, values: Mapping[str, Any]) -> Component:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    required = [
        field.alias or key
        for key, field in component_class(kind, name).model_fields.items()
        if field.is_required() and key != "name"
    ]
    unknown = [key for key in required if key not in values]
    if unknown:
        pytest.fail(f"give {kind} {name} sample values for {unknown}")
    return build(kind, {"name": name, **ONE_OF_SEVERAL.get(name, {}), **{key: values[key] for key in required}})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_components(kind: Kind) -> None:
    folder = Path(components.__file__).parent / FOLDERS[kind]
    files = {p.stem for p in folder.iterdir() if not p.name.startswith("_")}
    assert files
    assert files <= modules(kind).keys()


@every_component
def test_one_public_class_that_says_what_it_is(kind: Kind, name: str) -> None:
    cls = component_class(kind, name)  # raises for none, or several
    assert cls.__doc__
    assert cls.__doc__ != Component.__doc__
    assert sys.modules[cls.__module__].__doc__
    assert cls.model_config["frozen"]
    assert cls.model_config["extra"] == "forbid"
    assert cls.unkeyed <= cls.model_fields.keys()


@every_component
def test_fields_have_types(kind: Kind, name: str) -> None:
    for key, field in component_class(kind, name).model_fields.items():
        assert field.annotation is not Any, key


@every_component
def test_it_does_what_its_kind_does(kind: Kind, name: str) -> None:
    cls = component_class(kind, name)
    for method, promised in inspect.getmembers(PROTOCOLS[kind], inspect.isfunction):
        if method.startswith("_") and method != "__call__":
            continue
        own = inspect.signature(getattr(cls, method)).parameters
        assert list(own) == list(inspect.signature(promised).parameters), method
    if kind == "loss":
        assert callable(cls.__call__)


@every_component
def test_identity_is_plain_and_has_no_path(kind: Kind, name: str, values: dict[str, Any], tmp_path: Path) -> None:
    component = constructed(kind, name, values)
    written = json.dumps(component.identity(), allow_nan=False, sort_keys=True)
    assert component.identity()["name"] == name
    assert str(tmp_path) not in written
    assert written == json.dumps(constructed(kind, name, values).identity(), sort_keys=True)
    assert not component.unkeyed & component.identity().keys()


@every_component
def test_it_can_be_sent_to_another_process(kind: Kind, name: str, values: dict[str, Any]) -> None:
    """As its fields, whatever it has opened or read by then."""
    component = constructed(kind, name, values)
    component.identity()
    sent = pickle.loads(pickle.dumps(component))
    assert type(sent) is type(component)
    assert sent.model_dump() == component.model_dump()
    assert sent.identity() == component.identity()
    assert sent.model_fields_set == component.model_fields_set


@every_component
def test_an_unknown_field_is_refused(kind: Kind, name: str, values: dict[str, Any]) -> None:
    fields = constructed(kind, name, values).model_dump(exclude_unset=True, by_alias=True)
    with pytest.raises(ValidationError, match="zzz"):
        build(kind, {**fields, "zzz": 1})


@every_component
def test_check_is_cheap(kind: Kind, name: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says, it says without opening a connection."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("check() opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    component = constructed(kind, name, values)
    with contextlib.suppress(HarnessError):  # a missing key or file is a fair answer
        component.check()


def test_all_import_without_anything_heavy() -> None:
    code = textwrap.dedent(f"""
        import importlib, sys
        from harness.components import FOLDERS, RewardField, modules
        for kind in FOLDERS:
            for module in modules(kind).values():
                if module.startswith("harness."):
                    importlib.import_module(module)
        import harness.recipe.load
        print([name for name in {HEAVY!r} if name in sys.modules])
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "dpo_best_wurst"},
            "unknown loss 'dpo_best_wurst'; did you mean 'dpo_best_worst'? available: dpo_adj",
        ),
        ({"name": "qqqq"}, "unknown loss 'qqqq'; available: dpo_adj"),
        ({"beta": 0.1}, "no loss named: expected {name: ...}, the name one of dpo_adj"),
        ({"name": 3}, "no loss named"),
    ],
)
def test_a_wrong_name_gets_the_nearest(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        build("loss", fields)
    assert caught.value.message().startswith(message)


def test_a_package_adds_a_component_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text(
        "from harness.losses._base import PreferenceLoss\n\n\nclass Mine(PreferenceLoss):\n"
        "    strength: float = 2.0\n\n    def losses(self, batch, pairs):\n        return batch.logps.sum(dim=1)\n"
    )
    info = tmp_path / "my_losses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.losses]\nmine = my_losses\ndpo_best_worst = my_losses\n")
    code = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from harness.components import build, modules
        assert build("loss", {{"name": "mine"}}).strength == 2.0
        # The harness's own name stays its own.
        assert modules("loss")["dpo_best_worst"] == "harness.losses.dpo_best_worst"
        assert type(build("loss", {{"name": "dpo_best_worst"}})).__name__ != "Mine"
    """)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_classes_in_a_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two_losses.py").write_text(
        "from harness.protocols import Loss\n\n\nclass A(Loss): ...\n\n\nclass B(Loss): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(components, "modules", lambda _: {"two": "two_losses"})
    with pytest.raises(ComponentError, match="exactly one public Component, has 2"):
        component_class("loss", "two")


def test_a_component_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_loss.py").write_text("from harness.protocols import Component\n\n\nclass A(Component): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(components, "modules", lambda _: {"no_loss": "no_loss"})
    with pytest.raises(ComponentError, match="A must be derived from Loss"):
        component_class("loss", "no_loss")


class Wrapped(protocols.RewardModel):
    """With the default identity."""

    name: str = "wrapped"
    inner: RewardField
    several: tuple[RewardField, ...] = ()

    def score(self, rows: Any, ready: Any) -> list[float | None]:
        return []


@pytest.mark.filterwarnings("error")
def test_components_among_the_fields_are_written_whole() -> None:
    """Not only with the fields of their kind's base class: an identity would lose what differs."""
    words = {"name": "length", "unit": "words"}
    wrapped = Wrapped.model_validate({"inner": words, "several": [words, {"name": "length"}]})
    inner = build("reward", words)
    assert wrapped.identity() == {
        "name": "wrapped",
        "inner": inner.model_dump(mode="json"),
        "several": [inner.model_dump(mode="json"), build("reward", {"name": "length"}).model_dump(mode="json")],
    }
    assert wrapped.identity()["inner"]["unit"] == "words"
