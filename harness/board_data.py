"""What a board says of the data stages in words: which stage, how the best of N grows, how reward models agree."""

from collections.abc import Iterable, Mapping
from typing import Any

from harness.board_rows import Entry, figure, number
from harness.types import Metric

_STAGES = {
    "seeds": "Seed pairs",
    "prompts": "New prompts",
    "responses": "Responses",
    "reward": "Reward model",
    "ranked": "Ranked data",
    "agreement": "Reward models compared",
}


def data_stages(entries: Iterable[Entry]) -> dict[str, str]:
    """Names of the data stages that the rows' provenance has, with what a reader calls them: those above, the parts of
    a reward model after it, and reward models that are only compared."""
    there = dict.fromkeys(name for entry in entries for name in entry.section("data"))
    found = {}
    for name, label in _STAGES.items():
        if name in there:
            found[name] = label
        if name == "reward":
            found |= {part: f"Part {_place(part)} of the reward model" for part in there if part.startswith("reward/")}
            found |= {other: _other(other) for other in there if other.startswith("other/")}
    return found


def _place(role: str) -> str:
    """`2.1` of `reward/part/1/part/0`."""
    return ".".join(str(int(step) + 1) for step in role.split("/") if step.isdecimal())


def _other(role: str) -> str:
    first, *rest = _place(role).split(".")
    whole = f"reward model {first} for comparison"
    return f"Part {'.'.join(rest)} of {whole}" if rest else whole.capitalize()


COSTS = ("answer tokens", "judge prompt tokens", "judge reply tokens", "judge, dollars")


def costs(entry: Entry) -> list[float | None]:
    """What a row's evaluation came to, in the order of COSTS: tokens of its answers, of the judge's prompts and of its
    replies, dollars. None where it is not known, or there was none."""
    answers = [report.get("tokens") for report in entry.section("answers").values() if isinstance(report, Mapping)]
    judging = [report for report in entry.section("judging").values() if isinstance(report, Mapping)]
    columns: list[list[Any]] = [
        answers,
        *([r.get(key) for r in judging] for key in ("prompt_tokens", "completion_tokens", "dollars")),
    ]
    return [sum(column) if column and None not in column else None for column in columns]


def cost_of(entry: Entry) -> dict[str, float]:
    """What a row cost, and rests on: tokens generated for its data, the share of its training prompts that are new, its
    reward model's accuracy on held-out pairs, tokens put through the policy in training, tokens of the judge's prompts
    and replies, dollars."""
    data, training = entry.section("data"), entry.section("training")
    _, asked, replied, dollars = costs(entry)
    stage: dict[str, Mapping[str, Any]] = {k: v for k, v in data.items() if isinstance(v, Mapping)}
    tokens = [stage[name].get("tokens") for name in ("prompts", "responses") if name in stage]
    ranked = stage.get("ranked", {})
    prompts, new = ranked.get("train_prompts"), ranked.get("generated_prompts")
    accuracy = (stage.get("reward", {}).get("heldout_accuracy") or {}).get("value")
    found = {
        "generated tokens": sum(t for t in tokens if t) if tokens and None not in tokens else None,
        "generated share": new / prompts if prompts and new is not None else None,
        "reward accuracy": accuracy,
        "training tokens": training.get("forward_tokens"),
        "judge tokens": None if asked is None or replied is None else asked + replied,
        "judge dollars": dollars or None,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def ranking_notes(report: Mapping[str, Any]) -> list[str]:
    """How scores go with length within prompts, and what the best and the spread of more responses are worth."""
    notes = []
    if isinstance(found := report.get("score_and_length"), Mapping) and found.get("value") is not None:
        notes.append(f"Kendall's tau of score and length within prompts {figure(Metric.model_validate(found), 2)}")
    rows = [row for row in report.get("growth_with_n") or [] if row.get("best_sd") is not None and row["n"] > 1]
    if rows:
        ns, best, spread = (
            ", ".join(cells)
            for cells in (
                [str(row["n"]) for row in rows],
                [number(row["best_sd"], 2) for row in rows],
                [number(row["spread_sd"], 2) for row in rows],
            )
        )
        notes.append(
            f"of {ns} responses the best is expected {best} standard deviations within prompts above the mean, and "
            f"{spread} above the worst ({rows[0]['prompts']:,} prompts)"
        )
    return notes


def agreement_notes(report: Mapping[str, Any]) -> list[str]:
    """Kendall's tau of each pair of reward models."""
    pairs = report.get("pairs")
    if not isinstance(pairs, list):
        return []
    return [
        f"Kendall's tau of {pair['first']} and {pair['second']} within prompts "
        f"{figure(Metric.model_validate(pair['tau']), 2)}"
        for pair in pairs
    ]
