"""The stage of the dataset folder: the ranked dataset with a card, to be read by `datasets.load_dataset` or uploaded to
a hub."""

from collections.abc import Mapping
from typing import Any

from harness.augmentation.card import card
from harness.components import identity
from harness.engine.stage import Context, Stage
from harness.protocols import Component
from harness.recipe.checks import with_folded
from harness.recipe.data import Data


def dataset_stage(name: str, data: Data, stages: Mapping[str, Stage]) -> Stage:
    """The ranked dataset as a folder: `ranked.jsonl` (train), `heldout.jsonl`, and a card, `README.md`. `name`: the
    recipe's. `stages`: the data's stages by name; the card has what they report."""
    roles = [role for role in ("seeds", "prompts", "responses", "reward", "ranked", "report") if role in stages]
    sources = [{"name": s.name, "licence": s.origin.licence, "home": s.origin.home} for s in data.sets]
    made_with = _made_with(data)

    def body(ctx: Context) -> dict[str, Any]:
        ranked = ctx.inputs["ranked"]
        for file in ("ranked.jsonl", "heldout.jsonl"):
            ranked.copy(file, ctx.folder / file)
        report = ctx.inputs["report"].json("report.json") if "report" in ctx.inputs else None
        facts = {role: ctx.inputs[role].report for role in roles}
        facts["seeds"] = with_folded(facts["seeds"], data)
        text = card(name, facts, sources, made_with, report)
        (ctx.folder / "README.md").write_text(text, encoding="utf-8")
        return {k: v for k, v in ranked.report.items() if k in ("train_prompts", "heldout_prompts", "responses")}

    params = {"name": name, "sources": sources, "made_with": made_with}
    return Stage("dataset", "dataset", 2, params, {role: stages[role] for role in roles}, body)


def _made_with(data: Data) -> dict[str, Any]:
    """The generators, their sampling, and the reward model, as the card names them."""
    facts: dict[str, Any] = {"imported": True} if data.ranked else {}
    prompts, responses = data.new_prompts, data.responses
    if prompts:
        facts["prompts"] = {"generator": _model_label(prompts.generator), "shots": prompts.shots}
        facts["prompts"] |= {"temperature": prompts.temperature, "top_p": prompts.top_p}
    if responses:
        sources = responses.sources_of(responses.n)
        generators = [f"{_model_label(s.generator)} ({s.n} of {responses.n})" for s in sources]
        facts["responses"] = {"generators": generators, "temperature": responses.temperature, "top_p": responses.top_p}
    if data.reward:
        facts["reward"] = _model_label(data.reward)
    return facts


def _model_label(component: Component) -> str:
    """A component's name and model: `hf smollm2-135m-instruct`."""
    fields = identity(component)
    model = fields.get("model") or fields.get("base") or ""
    model = model.get("model", "") if isinstance(model, Mapping) else model
    return f"{fields['name']} {model}".strip()
