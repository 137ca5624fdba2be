"""What a row's provenance says about its judge, its loss, its training, its guards, and what it cost."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from harness.boards.entry import BoardRow, Entry
from harness.boards.provenance import JudgeCalibration, LossFacts, RoundFacts
from harness.components import loss_class

Row = TypeVar("Row", bound=BoardRow)

EVALUATION_COSTS = ("answer tokens", "judge prompt tokens", "judge reply tokens", "judge, dollars")
MOST_NAMED = 8
"""Rows that are named one by one; of more, only the count is given."""


def training_problems(entry: BoardRow) -> list[str]:
    """What went wrong in a row's training: why it stopped early, what was lost by cutting, and its failure
    signatures."""
    training = entry.provenance.training
    if training is None:
        return []
    identical = []
    if count := training.identical_responses:
        dropped = f"; {training.dropped_examples:,} prompts had no pair left" if training.dropped_examples else ""
        identical = [
            f"{count:,} responses have the same tokens as a better one of their prompt once they are cut, and were "
            f"left out{dropped}: raise training.max_length"
        ]
    return [*([training.stopped] if training.stopped else []), *identical, *training.warnings]


def doubts(entry: BoardRow) -> list[str]:
    """The validity guards that fired for a row (see `harness.pipeline.guards`), one text each."""
    guards = entry.provenance.guards.items()
    return [flag.text if name == "row" else f"{name}: {flag.text}" for name, flags in guards for flag in flags]


def doubt_names(entry: BoardRow) -> list[str]:
    """The names of the guards that fired for a row, each once: `truncated`, `own family`."""
    flags = [flag for flags in entry.provenance.guards.values() for flag in flags]
    return list(dict.fromkeys(flag.name.replace("_", " ") or "other" for flag in flags))


def doubts_of_rows(entries: Iterable[BoardRow]) -> list[tuple[str, str]]:
    """(rows, why their figures are doubtful); a doubt that several rows share is listed once."""
    ids_by_doubt: dict[str, list[str]] = {}
    for entry in entries:
        for doubt in doubts(entry):
            ids_by_doubt.setdefault(doubt, []).append(entry.id)
    return [
        (", ".join(ids) if len(ids) <= MOST_NAMED else f"{len(ids)} rows", doubt) for doubt, ids in ids_by_doubt.items()
    ]


def loss_label(entry: BoardRow) -> str:
    """The row's loss as Markdown and the page show it: `–` for the untrained policy."""
    return "–" if entry.method == "base" else entry.method


def calibration(entry: BoardRow) -> JudgeCalibration | None:
    """The calibration of the row's judge; None for a row that was not judged."""
    found = entry.provenance.judge_calibration
    if not entry.provenance.judge:
        return None
    if isinstance(found, JudgeCalibration):
        return found
    return JudgeCalibration(
        verdict="uncalibrated" if found in (None, "", "uncalibrated") else "unknown", text=found or ""
    )


def judges_by_verdict(entries: Iterable[BoardRow]) -> dict[str, dict[str, JudgeCalibration]]:
    """The judges of rows with their calibrations, by the calibrations' verdicts."""
    judges: dict[str, dict[str, JudgeCalibration]] = {}
    for entry in entries:
        if (found := calibration(entry)) is not None:
            judges.setdefault(found.verdict, {})[judge_name(entry) or "unnamed"] = found
    return judges


NEAR_CHANCE = 60.0
"""An agreement that may be chance and is below this at best was measured well enough to be called chance."""


def chance_words(here: Sequence[float] | None) -> str:
    """What is said of a judge that is not shown to be better than chance. `here`: its interval within systems."""
    if here is None:
        return "no better than chance"
    if here[1] < 50:
        return "worse than chance"
    if here[0] > 50:  # it is above chance within systems, but not between siblings
        return "no better than chance between similar systems"
    if here[1] < NEAR_CHANCE:
        return "no better than chance"
    return "not told from chance by so few pairs"


def agreement_words(found: JudgeCalibration) -> str:
    """`agreement 51 %, 95 % CI 47 to 55, within a system; between siblings 50 %`; empty without a figure."""
    if found.agreement is None:
        return ""
    ends = "" if found.here is None else f", 95 % CI {found.here[0]:.0f} to {found.here[1]:.0f},"
    siblings = "" if found.siblings is None else f"; between siblings {found.siblings:.0f} %"
    return f"agreement {found.agreement:.0f} %{ends} within a system{siblings}"


def judge_name(entry: BoardRow) -> str:
    """`local smollm2-135m-instruct`: the judge's component and model, from its identity; empty if unjudged."""
    judge = entry.provenance.judge or {}
    model = judge.get("model")
    if isinstance(model, Mapping):
        model = model.get("model")
    if isinstance(reward := judge.get("reward"), Mapping):  # a reward model as judge
        model = model or reward.get("name")
    return " ".join(str(part) for part in (judge.get("name"), model) if part)


def loss_facts(entry: BoardRow) -> LossFacts:
    """What the row declares about its loss. Older rows declare nothing: then the installed loss is asked. All of TRL's
    losses train on pairs."""
    if entry.provenance.loss is not None:
        return entry.provenance.loss
    loss = loss_class(entry.method)
    on_pairs = loss.on_pairs or entry.method.startswith("trl:")
    return LossFacts(on_pairs=on_pairs, is_multi_dpo=loss.is_multi_dpo, reconstruction=loss.reconstruction)


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
    prompts, self-BLEU of 50 of its prompts and of its responses (lower is more varied), its reward model's accuracy on
    held-out pairs, tokens through the policy in training, tokens of the judge's prompts and replies, and dollars; of a
    later round, those of the rounds before included. Unknown ones are left out."""
    reports, training = entry.provenance.data, entry.provenance.training
    before = entry.provenance.round or RoundFacts()
    _, prompt_tokens, reply_tokens, dollars = evaluation_costs(entry)
    tokens = [reports[name].get("tokens") for name in ("prompts", "responses") if name in reports]
    tokens += [before.generated_tokens]
    trained = None if training is None else [training.forward_tokens, before.forward_tokens]
    ranked, variety = reports.get("ranked", {}), reports.get("report", {})
    prompts, new = ranked.get("train_prompts"), ranked.get("generated_prompts")
    accuracy = (reports.get("reward", {}).get("heldout_accuracy") or {}).get("value")
    amounts = {
        "generated tokens": sum(filter(None, tokens)) if len(tokens) > 1 and None not in tokens else None,
        "generated share": new / prompts if prompts and new is not None else None,
        "prompts' self-BLEU": variety.get("prompt_self_bleu"),
        "responses' self-BLEU": variety.get("response_self_bleu"),
        "reward accuracy": accuracy,
        "training tokens": sum(filter(None, trained)) if trained and None not in trained else None,
        "judge tokens": None if prompt_tokens is None or reply_tokens is None else prompt_tokens + reply_tokens,
        "judge dollars": dollars or None,
    }
    return {name: float(value) for name, value in amounts.items() if value is not None}


def training_key(entry: BoardRow) -> str | None:
    """The key of the training whose model a row is, or a checkpoint of; None if it has none. The stages of fine-tuning
    have such ids, too."""
    about = entry.provenance
    start = about.sft.row if about.sft else None
    keys = [key for name, key in about.keys.items() if name.startswith("train/") and name != f"train/{start}"]
    return keys[0] if len(keys) == 1 else None


def one_a_training(rows: Sequence[Row]) -> list[Row]:
    """The rows without the checkpoints on the way of a training whose last one is among them: what is said of a
    training is said once."""
    ends = {training_key(row) for row in rows if row.provenance.checkpoint is None}
    return [row for row in rows if row.provenance.checkpoint is None or training_key(row) not in ends]
