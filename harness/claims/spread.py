"""What a difference between two methods varies by, for planning a run: assumed, or as a pilot board shows it."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import NamedTuple

from harness.boards.entry import Entry
from harness.claims.effects import Effect
from harness.claims.primary import primary
from harness.errors import DataError, nearest, quoted
from harness.figures import Figure
from harness.stats.paired import prompt_of
from harness.stats.power import Parts

FEW_SEEDS, FEW_PROMPTS = 5, 40
"""Below so many a pilot tells only roughly what they add."""
SLIGHT = 0.05
"""The share of the assumed spread over prompts below which a pilot's is not believed: its rows hardly differ."""
NAMES = ("training", "prompts", "rest", "judge")
"""What can be said of a spread."""


class Prior(NamedTuple):
    """Assumed standard deviations, in the unit of a figure's differences. `training`: of one method's figure over its
    training seeds. `prompts`, `rest`, `judge`: of a difference, as in `harness.stats.power.Parts`. `sources`: where
    each comes from."""

    training: float
    prompts: float
    rest: float
    judge: float
    sources: Mapping[str, str]


TRAINING = (
    "assumed; oxRL, arXiv 2603.19335, has 2.27 points over five seeds of DPO on GSM8K, so that 0.6 to 2.3 is plausible"
)
A_TENTH = "a tenth of the variance is taken to be the prompts'"
WIN_RATES = (
    "measured, 40 points together between two FuseChat systems that AlpacaEval has at 51 and 70 %, 16 to 26 between "
    f"systems at 3 to 9 %; {A_TENTH}"
)
RATED = (
    "measured, 2.5 together between Claude 3 Opus and mistral-orpo-capybara as GPT-4 rated them, within MT-bench's "
    f"categories; {A_TENTH}"
)
PERCENT = Prior(
    1.2, 12.0, 38.0, 5.0, {"training": TRAINING, "prompts": WIN_RATES, "rest": WIN_RATES, "judge": "a guess"}
)
"""Win rates in percent, of verdicts with weights."""
RATINGS = Prior(
    0.1,
    0.8,
    2.4,
    0.0,
    {"training": "assumed, one percent of the scale as for win rates", "prompts": RATED, "rest": RATED},
)
"""Ratings from 1 to 10."""


class Spread(NamedTuple):
    """Standard deviations of a difference between two methods, in the figure's unit. `training`: of the seeds' true
    differences. `prompts`: of the prompts' true differences. `lasting`: of what a training does to single prompts,
    which more answers don't average away. `sampling`: of single answers beyond that. `judge`: of single verdicts, given
    the answers. `reach`: the largest difference on a prompt. `trained`: how many of the two are trained. `sources`:
    where each comes from, by its name in NAMES."""

    training: float
    prompts: float
    lasting: float
    sampling: float
    judge: float
    reach: float
    trained: int
    sources: Mapping[str, str]

    @property
    def said(self) -> dict[str, float]:
        """The standard deviations as NAMES have them: `training` of one method, `rest` without its parts."""
        rest = math.hypot(self.lasting, self.sampling)
        return dict(zip(NAMES, (self.training / math.sqrt(self.trained), self.prompts, rest, self.judge), strict=True))

    def parts(self, answers: float = 1.0, verdicts: int = 1) -> Parts:
        """The parts for designs with one sample: `answers`, the mean over the prompts of one over their number of
        answers, and the number of verdicts on each answer are in `rest`."""
        rest = self.lasting**2 + answers * (self.sampling**2 + self.judge**2 / verdicts)
        return Parts(self.training, self.prompts, math.sqrt(rest), 0.0, self.reach)


def spread_of(figure: Figure, trained: int, said: str = "", pilot: tuple[str, Sequence[Entry]] | None = None) -> Spread:
    """What a figure's differences vary by: as the user says, else as the pilot shows, else as assumed. `trained`: how
    many of the two rows of a comparison are trained. `said`: `training=0.6,prompts=8,rest=24,judge=5`, each optional.
    `pilot`: a board's name, for errors, and its rows. Raises DataError for a mistake in `said`, for a pilot without
    comparisons by this figure, and where nothing is known about the figure."""
    prior, given = _prior(figure), _given(said)
    known = prior or Prior(math.nan, math.nan, math.nan, 0.0, {})
    assumed = Spread(
        math.sqrt(trained) * known.training,
        known.prompts,
        0.0,
        known.rest,
        known.judge,
        figure.reach or 0.0,
        trained,
        known.sources,
    )
    spread = _with(given, assumed)
    if pilot:
        spread = _with(given, _observed(pilot, spread, figure))
    if math.isnan(sum(spread.parts()[:3])):
        reason = f"nothing is known about how {figure.metric} varies"
        raise DataError(f"{reason}: give a board with --pilot, or --assume training=...,prompts=...,rest=...")
    return spread


def _prior(figure: Figure) -> Prior | None:
    """For percentages and ratings what was measured; for other figures with limits, the same shares of their range."""
    if figure.reach is None:
        return None
    if figure.reach == 100:
        return PERCENT
    if figure.benchmark == "mt_bench":
        return RATINGS
    training, prompts, rest, judge = (figure.reach / 100 * value for value in PERCENT[:4])
    return Prior(training, prompts, rest, judge, dict.fromkeys(NAMES, "a guess, as for win rates in percent"))


def _given(said: str) -> dict[str, float]:
    """The numbers in `training=0.6,prompts=8`. Raises DataError."""
    given: dict[str, float] = {}
    for item in filter(None, said.split(",")):
        name, _, text = (part.strip() for part in item.partition("="))
        if name not in NAMES:
            raise DataError(f"--assume: unknown part {quoted(name)}; {nearest(name, NAMES, 'expected some of')}")
        try:
            given[name] = float(text)
        except ValueError:
            given[name] = math.nan
        if not 0 <= given[name] < math.inf:
            raise DataError(f"--assume: {name}={quoted(text)[1:-1]}: expected a standard deviation, such as {name}=8")
    return given


def _with(given: Mapping[str, float], spread: Spread) -> Spread:
    """With what the user says in place of the rest."""
    return spread._replace(
        training=math.sqrt(spread.trained) * given["training"] if "training" in given else spread.training,
        prompts=given.get("prompts", spread.prompts),
        lasting=0.0 if "rest" in given else spread.lasting,
        sampling=given.get("rest", spread.sampling),
        judge=given.get("judge", spread.judge),
        sources={**spread.sources, **dict.fromkeys(given, "as given")},
    )


def _observed(pilot: tuple[str, Sequence[Entry]], prior: Spread, figure: Figure) -> Spread:
    """As a pilot board shows it, pooled over its primary comparisons. With one seed its trainings tell nothing, and the
    prior's part stands for them. Raises DataError."""
    where, entries = pilot
    found = primary(_asked_about(entries, figure.metric))
    if found is None or found.figure.metric != figure.metric:
        raise DataError(f"{where}: no two of its rows can be compared by {figure.metric}, which this recipe is about")
    several = [effect for effect in found.effects if effect.seeds > 1]
    untrained = {entry.id for entry in entries if entry.provenance.training is None}
    trained = [2 - sum(name in untrained for name in (effect.value, effect.against)) for effect in several]
    spread = _crossed(several, trained, prior) if several else _of_one_seed(found.effects, prior)
    if math.hypot(spread.prompts, spread.sampling) < SLIGHT * math.hypot(prior.prompts, prior.parts().rest):
        source = f"the pilot's rows hardly differ on its prompts, which proves nothing: {prior.sources.get('rest', '')}"
        sources = {**prior.sources, "training": spread.sources["training"], "prompts": source, "rest": source}
        return prior._replace(training=spread.training, sources=sources)
    if (cells := max(effect.pairs // effect.seeds for effect in found.effects)) > 1:
        caution = f"; there, each seed is a mean over {cells} cells of a sweep, and one cell varies more"
        spread = spread._replace(sources={**spread.sources, "rest": spread.sources["rest"] + caution})
    return _split(spread, _single_answers(entries, figure))


def _asked_about(entries: Sequence[Entry], metric: str) -> list[Entry]:
    """The rows, as if their recipe had named this metric as its question's."""

    def asked(entry: Entry) -> Entry:
        recipe = entry.provenance.recipe or {}
        section = recipe.get("primary")
        section = {**(section if isinstance(section, Mapping) else {}), "metric": metric}
        provenance = entry.provenance.model_copy(update={"recipe": {**recipe, "primary": section}})
        return entry.model_copy(update={"provenance": provenance})

    return [asked(entry) for entry in entries]


def _crossed(effects: Sequence[Effect], trained: Sequence[int], prior: Spread) -> Spread:
    """From comparisons with several seeds, weighted by their degrees of freedom."""
    weights = [effect.seeds - 1 for effect in effects]
    parts = [effect.parts for effect in effects]

    def pooled(squares: Sequence[float]) -> float:
        return math.sqrt(sum(w * x for w, x in zip(weights, squares, strict=True)) / sum(weights))

    training = pooled([prior.trained / n * p.training**2 for n, p in zip(trained, parts, strict=True)])
    seeds, prompts = (min(sizes) for sizes in zip(*((e.seeds, e.prompts) for e in effects), strict=True))
    source = f"as the pilot shows, verdicts included, over {_counted(prompts, 'prompts', FEW_PROMPTS)}"
    of_training = f"as the pilot shows, over {_counted(seeds, 'seeds', FEW_SEEDS)}"
    if training == 0:
        assumed = prior.sources.get("training", "")
        of_training = f"the pilot's {seeds} seeds happen to agree, which proves nothing: {assumed}"
    return prior._replace(
        training=training or prior.training,
        prompts=pooled([p.prompts**2 for p in parts]),
        lasting=0.0,
        sampling=pooled([p.rest**2 for p in parts]),
        judge=0.0,
        sources={"training": of_training, "prompts": source, "rest": source},
    )


def _of_one_seed(effects: Sequence[Effect], prior: Spread) -> Spread:
    """From comparisons of single checkpoints: all that is seen is the sum of the prompts' part and the rest."""
    whole = fmean([effect.parts.prompts**2 + effect.parts.rest**2 for effect in effects])
    of_prompts, of_rest = prior.prompts**2, prior.parts().rest ** 2
    share = of_prompts / (of_prompts + of_rest) if of_prompts + of_rest > 0 else 1.0
    prompts = _counted(min(effect.prompts for effect in effects), "prompts", FEW_PROMPTS)
    seen = f"as the pilot shows them together, over {prompts}; {A_TENTH}"
    unknown = f"unknown, for the pilot has one seed: {prior.sources.get('training', '')}"
    return prior._replace(
        prompts=math.sqrt(share * whole),
        lasting=0.0,
        sampling=math.sqrt((1 - share) * whole),
        judge=0.0,
        sources={"training": unknown, "prompts": seen, "rest": seen},
    )


def _counted(count: int, what: str, few: int) -> str:
    return f"{count:,} {what}{', which tell it only roughly' if count < few else ''}"


def _single_answers(entries: Sequence[Entry], figure: Figure) -> tuple[float, float] | None:
    """(variance of a difference between single answers to one prompt, mean over prompts of one over their answers);
    None for a board with one answer to each prompt, and for figures that are not means over prompts."""
    variances, inverses = [], []
    for entry in entries:
        by_prompt: dict[str, dict[str, list[float]]] = {}
        outcomes = entry.outcomes.get(figure.benchmark, {})
        for key, value in (figure.pairing.of_each(outcomes) if figure.pairing else {}).items():
            if value is not None:
                by_prompt.setdefault(prompt_of(key), {}).setdefault(key.split("/")[0], []).append(value)
        answers = [[fmean(turns) for turns in samples.values()] for samples in by_prompt.values()]
        if several := [variance(values) for values in answers if len(values) > 1]:
            variances.append(fmean(several))
            inverses.append(fmean(1 / len(values) for values in answers))
    return (2 * fmean(variances), fmean(inverses)) if variances else None


def _split(spread: Spread, answers: tuple[float, float] | None) -> Spread:
    """A pilot's rest, in what more answers average away and what they don't. Without several answers to a prompt all of
    it is taken to last: nothing shows that more answers would help."""
    if answers is None:
        return spread._replace(lasting=spread.sampling, sampling=0.0)
    single, inverse = answers
    lasting = spread.sampling**2 - inverse * single
    return spread._replace(lasting=math.sqrt(max(0.0, lasting)), sampling=math.sqrt(single))
