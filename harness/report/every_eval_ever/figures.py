"""A row's figures as results: score, bounds, uncertainty, judge, and how answers were sampled."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, who_judged
from harness.boards.facts import calibration
from harness.boards.uncertainty import LARGEST
from harness.components import benchmark_class
from harness.figures import HELDOUT, Figure
from harness.report.every_eval_ever.identity import (
    Context,
    HubModel,
    answer_settings,
    evaluation_id,
    public_name,
    texts,
)
from harness.types import Metric

UNITS = {"%": "percent", "nats": "nats", "characters": "characters", "points": "points"}
_INTERVAL = "over prompts: a bootstrap, an exact interval where they are few, Wilson's for shares of pairs"
_HERE = {"local": "self_deployed", "reward_model": "self_deployed"}
"""Judges that run in process; of others, a board doesn't say who runs them."""


def results(entry: Entry, about: Context) -> list[dict[str, Any]]:
    """One result for each figure that has a value, in the order of the tables. The schema has no result without a
    score: figures that were not scored are in the row's own part of the record."""
    figures = Figures([entry])
    scored = [f for f in figures.all if f.metric in entry.metrics and entry.metrics[f.metric].value is not None]
    return [_result(entry, about, figure, entry.metrics[figure.metric]) for figure in scored]


def _result(entry: Entry, about: Context, figure: Figure, metric: Metric) -> dict[str, Any]:
    settings = {} if figure.benchmark == HELDOUT else _generation(entry, figure)
    return {
        "evaluation_result_id": result_id(entry, about, figure.metric),
        "evaluation_name": figure.benchmark,
        "source_data": _source_data(entry, figure),
        "evaluation_timestamp": about.moment.isoformat(),
        "metric_config": _metric_config(entry, about, figure, metric),
        "score_details": _score(entry, figure, metric),
        **({"generation_config": settings} if settings else {}),
    }


def result_id(entry: Entry, about: Context, metric: str) -> str:
    """The id by which samples refer to a result."""
    return f"{evaluation_id(entry, about)}/{metric}"


def _source_data(entry: Entry, figure: Figure) -> dict[str, Any]:
    if figure.benchmark == HELDOUT:
        name, details = f"held-out pairs of {(entry.provenance.recipe or {}).get('name') or 'the recipe'}", {}
    else:
        identity = entry.provenance.benchmark(figure.benchmark)
        name, details = figure.group or figure.benchmark, {k: v for k, v in identity.items() if k != "judge"}
    return {"dataset_name": name, "source_type": "other", "additional_details": texts(details)}


def _metric_config(entry: Entry, about: Context, figure: Figure, metric: Metric) -> dict[str, Any]:
    low, high = figure.limits or (None, None)
    ends = [x for x in (metric.value, *(metric.ci95 or ())) if x is not None]
    # Rounding may carry a value past its bound by the last digit, which the schema's validator takes for a mistake.
    bounds = "-Infinity" if low is None else min(low, *ends), "Infinity" if high is None else max(high, *ends)
    details = {
        "direction": "neither is better" if figure.higher_is_better is None else None,
        "part_of": figure.part_of,
        "note": figure.note,
    }
    identity = entry.provenance.benchmark(figure.benchmark)
    reference = identity.get("reference")
    judged = _llm_scoring(entry, about, figure)
    return {
        "evaluation_description": figure.head + (f" ({figure.note})" if figure.note else ""),
        "metric_id": figure.metric,
        "metric_name": figure.title,
        "metric_kind": figure.name,
        "metric_unit": UNITS.get(figure.unit, figure.unit) or ("proportion" if figure.difference_unit else "points"),
        "metric_parameters": {"reference": reference} if isinstance(reference, str) else {},
        "lower_is_better": figure.higher_is_better is False,
        "score_type": "continuous",
        "min_score": bounds[0],
        "max_score": bounds[1],
        **({"llm_scoring": judged} if judged else {}),
        "additional_details": texts(details),
    }


def _score(entry: Entry, figure: Figure, metric: Metric) -> dict[str, Any]:
    resamples = entry.resamples.get(figure.metric)
    uncertainty: dict[str, Any] = {}
    if metric.stderr is not None:
        uncertainty["standard_error"] = {"value": metric.stderr, "method": "bootstrap" if resamples else "over prompts"}
    if metric.ci95 is not None:
        uncertainty["confidence_interval"] = {
            "lower": metric.ci95[0],
            "upper": metric.ci95[1],
            "confidence_level": 0.95,
            "method": "bootstrap over prompts" if resamples else _INTERVAL,
        }
    uncertainty["num_samples"] = metric.n
    if resamples:
        uncertainty["num_bootstrap_samples"] = len(resamples)
    return {
        "score": metric.value,
        "details": {"n_invalid": str(metric.n_invalid)},
        "uncertainty": uncertainty,
    }


def _generation(entry: Entry, figure: Figure) -> dict[str, Any]:
    """How the answers were sampled. A temperature of None is the benchmark's own, which may differ by question."""
    answers = answer_settings(entry)
    if not answers:
        return {}
    temperature, most = _number(answers.get("temperature")), _number(answers.get("max_new_tokens"))
    given = {
        "temperature": temperature,
        "top_p": _number(answers.get("top_p")),
        "max_tokens": most if isinstance(most, int) and most >= 1 else None,
    }
    details = {
        "temperature": "as the benchmark prescribes for each question" if temperature is None else None,
        "prompt": "the question as the user's turn, by the chat template of the model's tokenizer",
        "max_thinking_tokens": answers.get("max_thinking_tokens"),
        "answers": entry.provenance.answers.get(figure.benchmark),
    }
    return {
        "generation_args": {name: value for name, value in given.items() if value is not None},
        "additional_details": texts(details),
    }


def _number(value: Any) -> int | float | None:
    """A number of a recipe, which may be a stranger's; None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST else None


def _llm_scoring(entry: Entry, about: Context, figure: Figure) -> dict[str, Any] | None:
    """The judge of a figure that follows from verdicts; None for others, and where no judge was asked or the
    judge is a rule."""
    benchmark = entry.provenance.benchmark(figure.benchmark)
    judge = benchmark.get("judge") or entry.provenance.judge
    from_verdicts = figure.pairing is not None or figure.part_of is not None or figure.counted is not None
    asked = entry.provenance.judging.get(figure.benchmark)
    if figure.benchmark == HELDOUT or not from_verdicts or not isinstance(judge, Mapping) or not judge:
        return None
    if not benchmark_class(figure.benchmark).judged or (asked is not None and asked.replies == 0):
        return None
    found = calibration(entry)
    if found is not None and found.verdict == "rule":  # a program: no model scores
        return None
    judges = [_judge(one, about.builtin) for one in _members(judge)]
    details = {
        "calibration": found.verdict if found else None,
        "calibration_text": (found.text or None) if found else None,
        "agreement_percent": found.agreement if found else None,
        "agreement_ci95": found.here if found else None,
        "judge": who_judged(judge),
    }
    return {
        "judges": judges,
        "input_prompt": _prompt(figure.benchmark, benchmark),
        **({"aggregation_method": "average"} if len(judges) > 1 else {}),
        "additional_details": texts(details),
    }


def _members(judge: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    members = judge.get("judges")
    listed = [one for one in members if isinstance(one, Mapping)] if isinstance(members, list) else []
    return listed or [judge]


def _judge(judge: Mapping[str, Any], builtin: Mapping[str, HubModel]) -> dict[str, Any]:
    name, names = str(judge.get("name") or "judge"), list(_models(judge))
    model = public_name(names[0], builtin) if names else name
    details = {
        "deployment_type": _HERE.get(name, "unknown"),
        "model_availability": "open_weights" if names and names[0] in builtin else "unknown",
        "component": name,
        "sha256": judge.get("sha256"),
        "revision": judge.get("revision"),
        "dtype": judge.get("dtype"),
    }
    temperature = _number(judge.get("temperature"))
    return {
        "model_info": {"name": model, "id": model, "additional_details": texts(details)},
        **({"temperature": temperature} if temperature is not None else {}),
    }


def _models(judge: Mapping[str, Any]) -> Iterator[str]:
    """Names of a judge's model: its own, its reward model's, or who gave recorded verdicts."""
    for value in (judge.get("model"), judge.get("reward"), judge.get("recorded_by")):
        while isinstance(value, Mapping):
            value = value.get("model")
        if isinstance(value, str) and value:
            yield value


def _prompt(name: str, benchmark: Mapping[str, Any]) -> str:
    """The template by which the judge was asked; where it isn't installed, what it is called, and its hash."""
    if (text := benchmark_class(name).template_text(benchmark)) is not None:
        return text
    known = {key: value for key, value in sorted(benchmark.items()) if isinstance(value, str)}
    named = [f"{key} {known[key]}" for key in known if key in ("annotator", "alpaca_eval", "fschat", "mode")]
    hashes = [f"{key} {value}" for key, value in known.items() if key.endswith("sha256")]
    return "; ".join([name, *named, *hashes])
