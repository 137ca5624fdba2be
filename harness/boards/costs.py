"""What a row cost: tokens and dollars for its data, its training and its evaluation."""

from typing import Any

from harness.boards.entry import Entry

EVALUATION_COSTS = ("answer tokens", "judge prompt tokens", "judge reply tokens", "judge, dollars")


def evaluation_costs(entry: Entry) -> list[float | None]:
    """What a row's evaluation cost: tokens of the answers, of the judge's prompts and of its replies, and dollars, in
    the order of EVALUATION_COSTS. None where the amount is unknown or there was none."""
    judging = entry.provenance.judging.values()
    columns: list[list[Any]] = [
        [report.get("tokens") for report in entry.provenance.answers.values()],
        [facts.prompt_tokens for facts in judging],
        [facts.completion_tokens for facts in judging],
        [facts.dollars for facts in judging],
    ]
    return [sum(column) if column and None not in column else None for column in columns]


def row_costs(entry: Entry) -> dict[str, float]:
    """A row's costs and inputs: tokens generated for its data, the share of generated prompts among its training
    prompts, its reward model's accuracy on held-out pairs, tokens through the policy in training, tokens of the judge's
    prompts and replies, and dollars. Unknown ones are left out."""
    reports, training = entry.provenance.data, entry.provenance.training
    _, prompt_tokens, reply_tokens, dollars = evaluation_costs(entry)
    tokens = [reports[name].get("tokens") for name in ("prompts", "responses") if name in reports]
    ranked = reports.get("ranked", {})
    prompts, new = ranked.get("train_prompts"), ranked.get("generated_prompts")
    accuracy = (reports.get("reward", {}).get("heldout_accuracy") or {}).get("value")
    amounts = {
        "generated tokens": sum(t for t in tokens if t) if tokens and None not in tokens else None,
        "generated share": new / prompts if prompts and new is not None else None,
        "reward accuracy": accuracy,
        "training tokens": training.forward_tokens if training else None,
        "judge tokens": None if prompt_tokens is None or reply_tokens is None else prompt_tokens + reply_tokens,
        "judge dollars": dollars or None,
    }
    return {name: float(value) for name, value in amounts.items() if value is not None}
