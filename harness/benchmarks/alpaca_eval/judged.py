"""Preferences from several replies on one pair, in one order or in both, and what they come from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from harness.benchmarks.alpaca_eval.annotator import Asking, OutputPair, annotate
from harness.benchmarks.alpaca_eval.data import Instruction
from harness.benchmarks.alpaca_eval.evaluators import Annotator
from harness.errors import RecipeError
from harness.types import Ask, Metric, Verdict


def check_asking(annotator: Annotator, asking: Asking) -> None:
    """Raises RecipeError for options that mean nothing with an annotator."""
    temperature = annotator.options["temperature"] if asking.temperature is None else asking.temperature
    if asking.samples > 1 and not temperature:
        raise RecipeError(
            f"samples: {asking.samples} replies at temperature 0, which annotator '{annotator.name}' prescribes, are "
            "copies; set temperature: 1, at which their share estimates a preference, or samples: 1"
            if asking.temperature is None
            else f"samples: {asking.samples} replies at temperature: 0 are copies; set a temperature above 0"
        )
    if asking.without_logprobs == "stated" and len(annotator.choices) != 2:
        raise RecipeError(
            f"without_logprobs: stated needs an annotator with two replies, and '{annotator.name}' has none; use "
            "weighted_alpaca_eval_gpt4_turbo, or remove the option"
        )


def verdicts_on(
    items: Sequence[Instruction],
    outputs: Mapping[str, str],
    references: Mapping[str, str],
    ask: Ask,
    annotator: Annotator,
    asking: Asking,
    orders: Literal["seeded", "both"],
) -> list[Verdict]:
    """One verdict per instruction, in order: the average over `asking.samples` replies, in the package's order or in
    both; not scored without an output or a reference."""
    have = [i for i in items if i.id in outputs and i.id in references]
    pairs = [OutputPair(i.id, i.instruction, references[i.id], outputs[i.id]) for i in have]
    rounds = [
        annotate(annotator, pairs, ask, switched=switched, asking=asking, sample=sample)
        for switched in ((None,) if orders == "seeded" else (False, True))
        for sample in range(asking.samples if pairs else 0)
    ]
    verdicts = {each[0].question_id: averaged(each, asking.samples) for each in zip(*rounds, strict=True)}
    reasons = {i.id: "no reference output" if i.id in outputs else "no answer" for i in items}
    return [verdicts.get(i.id) or Verdict(question_id=i.id, value=None, invalid=reasons[i.id]) for i in items]


def sampled(
    annotator: Annotator, pairs: Sequence[OutputPair], ask: Ask, asking: Asking, *, switched: bool
) -> list[Verdict]:
    """One verdict per pair, in order: the average over `asking.samples` replies, in one order; `switched`: the output
    is shown first."""
    rounds = [
        annotate(annotator, pairs, ask, switched=switched, asking=asking, sample=sample)
        for sample in range(asking.samples)
    ]
    return [averaged(each, asking.samples) for each in zip(*rounds, strict=True)]


def averaged(rounds: Sequence[Verdict], samples: int) -> Verdict:
    """The average of several verdicts on one pair; not scored if one of them is not. `samples`: replies to each
    prompt. `detail["source"]`: `samples` where each is a text, so that their share is the preference; `several` where
    some have log-probabilities."""
    if len(rounds) == 1:
        return rounds[0]
    values = [v.value for v in rounds]
    scored = [v for v in values if v is not None]
    missing = next((v for v in rounds if v.value is None), None)
    prices: list[Any] = [v.detail.get("price") for v in rounds if v.detail.get("asked")]
    price = None if None in prices else sum(prices)
    detail = {
        **rounds[0].detail,
        "preferences": values,
        "price": price,
        "replies": [v.reply for v in rounds],
    }
    if any(v.detail.get("from_text") for v in rounds):
        detail["from_text"] = True
    if thought := sum(v.detail.get("thought", 0) for v in rounds):
        detail["thought"] = thought
    detail.pop("source", None)
    sources = {v.detail["source"] for v in rounds if "source" in v.detail}
    if sources and missing is None:
        share = "samples" if sources == {"text"} and samples > 1 else next(iter(sources))
        detail["source"] = share if len(sources) == 1 else "several"
    value = None if missing else sum(scored) / len(scored)
    return rounds[0].model_copy(
        update={"value": value, "invalid": missing.invalid if missing else None, "detail": detail}
    )


def source_metrics(verdicts: Sequence[Verdict]) -> dict[str, Metric]:
    """How many verdicts come from what, where not all come from log-probabilities, and how many from replies after a
    thought."""
    counts = Counter(v.detail.get("source") for v in verdicts if v.value is not None)
    figures = {
        "from_text": counts["text"] + counts["several"],
        "from_samples": counts["samples"],
        "from_stated": counts["stated"],
    }
    if any(figures.values()):
        figures["from_logprobs"] = counts["log-probabilities"]
    figures["thoughts"] = sum(bool(v.detail.get("thought")) for v in verdicts)
    return {name: Metric(value=float(count), n=len(verdicts)) for name, count in figures.items() if count}


def source_notes(metrics: Sequence[str]) -> list[str]:
    """What a reader of the win rate has to know about where its verdicts come from."""
    texts = {
        "from_logprobs": "log-probabilities of the judge",
        "from_text": "the text of one reply, which counts as certain",
        "from_samples": "the share of several replies to one prompt",
        "from_stated": "a probability that the judge states",
    }
    found = [text for name, text in texts.items() if f"alpaca_eval.{name}" in metrics]
    if not found:
        return []
    mixture = " A mixture: rows with other shares of them can't be compared." if len(found) > 1 else ""
    return [f"AlpacaEval preferences here come from {'; '.join(found)}.{mixture}"]
