"""Checks of what a recipe names: its files, models and keys, and whether its models can read its seed's prompts."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.components import BASES
from harness.data.read import split
from harness.errors import HarnessError, installation, is_installed, missing_package, need
from harness.models.facts import facts
from harness.models.load import check as check_model
from harness.models.load import check_trainable
from harness.models.templates.checking import check_prompts, orders_of_roles
from harness.protocols import Component
from harness.recipe.data import Data
from harness.recipe.policy import check_given_answers, check_template
from harness.recipe.reading.document import Document
from harness.recipe.reading.plain_yaml import FieldPath
from harness.recipe.reading.problems import Problem
from harness.recipe.recipe import Recipe
from harness.recipe.sizes import Sizes
from harness.serving.commands import check as check_engine
from harness.types import Messages

RunCheck = Callable[[FieldPath, object, Callable[[], object]], None]
"""Runs a check of a field, unless it has been run for the same subject."""


def check_problems(document: Document, recipe: Recipe, checked: set[str]) -> list[Problem]:
    """Files, models and keys that the components or the policy need and that are missing or unusable. `checked`: what
    has passed its check already; added to."""
    problems: list[Problem] = []

    def run_check(path: FieldPath, subject: object, check: Callable[[], object]) -> None:
        # The cells of a sweep share most subjects.
        if (key := repr(subject)) in checked:
            return
        try:
            check()
        except (HarnessError, OSError) as error:
            problems.append(Problem(_field_at_fault(document, path, str(error)), _error_text(error)))
        except ModuleNotFoundError as error:
            if (missing := missing_package(error, "this")) is None:
                raise
            problems.append(Problem(path, str(missing)))
        checked.add(key)

    for path, what, packages in _needed(recipe):
        # Once for all that one command installs.
        if absent := next((name for name in packages if not is_installed(name)), None):
            run_check(path, installation(absent), partial(need, what, packages))
    if problems:  # the other checks import them
        return problems
    if policy := recipe.policy:
        check_policy = check_trainable if recipe.methods else check_model
        run_check(("policy", "model"), policy, lambda: check_policy(policy.model, policy.revision))
        if not problems:
            on = {"trained": bool(recipe.methods), "sampled": bool(recipe.data and recipe.data.responses)}
            run_check(("policy",), ("template", policy, on), lambda: check_template(policy, **on))
    if launch := recipe.runtime.launch:
        run_check(("runtime", "launch", "accelerate", "config"), launch, launch.accelerate.check)
    for name, engine in recipe.runtime.engines.items():
        run_check(("runtime", "engines", name), engine, partial(check_engine, engine))
    for path, component in components_in(recipe, ()):
        run_check(path, component, component.check)
    if not problems and recipe.data and all(seed.quick for seed in recipe.data.sets):
        _check_seed(recipe, recipe.data, run_check)
    return problems


def _needed(recipe: Recipe) -> Iterator[tuple[FieldPath, str, tuple[str, ...]]]:
    """The fields that need packages of an extra: (field, what needs them, the packages as they are imported)."""
    if recipe.policy:
        yield ("policy",), "a policy", ("torch", "transformers")
    if recipe.data:
        yield ("data",), "making training data", ("transformers", "datasets", "datasketch", "py3langid", "sacrebleu")
    if recipe.methods:
        yield ("methods",), "training", ("trl", "peft", "accelerate")
    for path, component in components_in(recipe, ()):
        kind = next((kind for kind, base in BASES.items() if isinstance(component, base)), "component")
        yield path, f"{kind} '{component.name}'", component.needs


def _check_seed(recipe: Recipe, data: Data, run_check: RunCheck) -> None:
    """The seed's pairs, read once: that they can be split, and that the models' chat templates take their prompts, and
    the policy's their answers."""
    orders: list[Messages] = []
    answers: list[str] = []

    def check_pairs() -> None:
        pairs = [pair for seed in data.sets for pair in seed.pairs()]
        orders.extend(orders_of_roles(pair.messages for pair in pairs))
        answers.extend(text for p in pairs for text in [r.text for r in p.responses] or (p.chosen, p.rejected))
        split(pairs, data.holdout, recipe.seed)

    def check_policy() -> None:
        if policy := recipe.policy:
            check_prompts(policy.model, policy.revision, orders, fold, policy.chat_template_kwargs)
            if recipe.methods:
                check_given_answers(policy, answers)

    fold = data.system == "fold"
    run_check(("data", "generated_per_seed"), ("share", data), Sizes(data).check_share)
    if rounds := recipe.rounds:
        run_check(("rounds", "prompts"), ("rounds", rounds, data), partial(Sizes(data).check_rounds, rounds))
    # One subject, as the cells of a sweep that share the seed may differ in a model.
    run_check(("data", "holdout"), (data, recipe.policy, recipe.seed), check_pairs)
    run_check(("policy", "model"), ("prompts", data, recipe.policy), check_policy)
    for path, part in _readers(data):
        run_check(path, ("prompts", data, part), partial(part.check_prompts, orders, fold))


def _readers(data: Data) -> Iterator[tuple[FieldPath, Component]]:
    """The components that read the seed's prompts: generators of responses, and reward models."""
    for field in ("responses", "reward", "other_rewards"):
        yield from components_in(dict(data)[field], ("data", field))


def with_folded(report: Mapping[str, Any], data: Data, policy: str | None = None) -> dict[str, Any]:
    """The report of the stage of seed pairs, with the models (of the data, and the policy) for which its system
    messages are put in front of the user's turn."""
    count = report.get("system_messages")
    models = [model for _, part in _readers(data) for model in part.models_in_process()] if count else []
    named = {Path(model).name: count for model in (policy, *models) if model and facts(model).system != "written"}
    return {**report, "system_folded_for": named} if named else dict(report)


def _error_text(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def components_in(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, Component]]:
    """Every component in a recipe, with its path."""
    if isinstance(value, Component):
        yield path, value
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        for name, part in value:
            yield from components_in(part, (*path, fields[name].alias or name))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from components_in(item, (*path, i))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from components_in(item, (*path, key))


def models_of(recipe: Recipe) -> list[str]:
    """The models that this process loads for a recipe: its policy, and those of its components."""
    policy = [recipe.policy.model] if recipe.policy else []
    return policy + [model for _, part in components_in(recipe, ()) for model in part.models_in_process()]


def _field_at_fault(document: Document, path: FieldPath, message: str) -> FieldPath:
    """The field that an error message is about: one whose value or distinctive name it contains, else the component."""
    fields = document.value(document.existing(path))
    if not isinstance(fields, dict):
        return path
    texts = {k: Path(v).name for k, v in fields.items() if isinstance(v, str) and k != "name" and len(v) > 2}
    by_value = [k for k in sorted(texts, key=lambda k: -len(texts[k])) if texts[k] in message]
    by_name = [k for k in fields if "_" in k and k in message]
    return next(((*path, k) for k in by_value + by_name), path)
