"""The answer that a board gives to its run's question, in one or two sentences, before any table."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from harness.boards.entry import Entry
from harness.boards.facts import doubts, is_calibrated, judge_name
from harness.boards.format import bounds, number, signed
from harness.claims.cells import METHOD
from harness.claims.effects import Effect
from harness.claims.primary import Primary, primary
from harness.stats.bounds import FEWEST
from harness.stats.paired import ALPHA

MOST_STATED = 4
"""Comparisons that are told one by one; of more, the significant ones first."""


class Statement(NamedTuple):
    """One comparison in words. `text`: a sentence. `parts`: where its standard error comes from; empty for one seed.
    `kind`: better, worse, equal, or open (not significant, or too few prompts)."""

    effect: Effect
    text: str
    parts: str
    kind: str


class Answer(NamedTuple):
    """`question`: what the run asked. `statements`: its comparisons, told one by one. `rest`: how many more there are
    and how many of them are significant; empty where there are none. `cautions`: what a reader must know with it: one
    seed, an uncalibrated judge, flagged rows, a metric that nobody named before."""

    question: str
    statements: tuple[Statement, ...]
    rest: str
    cautions: tuple[str, ...]
    primary: Primary

    @property
    def lines(self) -> list[str]:
        """Question, statements and cautions as lines of plain text."""
        told = [statement.text for statement in self.statements]
        return [self.question, *told, *([self.rest] if self.rest else []), *self.cautions]


def answer(entries: Sequence[Entry]) -> Answer | None:
    """The answer of a board; None where no two of its rows can be compared."""
    found = primary(entries)
    if found is None:
        return None
    told = list(zip(found.effects, found.matched, strict=True))
    if len(told) > MOST_STATED:
        told = sorted(told, key=lambda pair: pair[0].adjusted_p)[:MOST_STATED]
    statements = tuple(_statement(effect, matched, found) for effect, matched in told)
    others = [effect for effect in found.effects if all(effect is not s.effect for s in statements)]
    rest = ""
    if others:
        count = sum(effect.is_significant for effect in others)
        more = "1 more comparison" if len(others) == 1 else f"{len(others)} more comparisons"
        rest = f"{more}, {count or 'none'} of them significant."
    return Answer(_question(found), statements, rest, tuple(_cautions(entries, found)), found)


def _question(found: Primary) -> str:
    """`multi-dpo against dpo, by AlpacaEval win rate: 3 seeds, 805 prompts.`"""
    against = list(dict.fromkeys(effect.against for effect in found.effects))
    values = [effect.value for effect in found.effects]
    who = values[0] if len(values) == 1 else f"{len(values)} {_kind(found)}"
    sizes = sorted({effect.prompts for effect in found.effects})
    prompts = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    if found.axis:
        seeds = sorted({effect.seeds for effect in found.effects})
        trained = (
            "one seed each" if seeds == [1] else f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds"
        )
        prompts = f"{trained}, {prompts}"
    by = f"{found.figure.group} {found.figure.title}".strip()
    return f"{who} against {' and '.join(against)}, by {by}: {prompts} prompts."


def _kind(found: Primary) -> str:
    return "methods" if found.axis == METHOD else f"values of {found.axis}" if found.axis else "systems"


def _statement(effect: Effect, matched: str | None, found: Primary) -> Statement:
    decimals = found.figure.difference_decimals
    names = f"{effect.value} against {effect.against}"
    if matched not in (None, "neither"):
        names += f", matched {matched}"
    elif matched == "neither" and found.axis == METHOD:
        names += ", training budgets not matched"
    if effect.ci95 is None:
        text = f"{names}: {effect.prompts} prompts are too few to tell anything; at least {FEWEST} are needed."
        return Statement(effect, text, "", "open")
    low, high = bounds(effect.ci95, decimals)
    size = f"{signed(effect.difference, decimals)} {found.figure.difference_words}"
    verdict, kind = _verdict(effect, found)
    text = f"{names}: {size} (95 % CI {_minus(low)} to {_minus(high)}): {verdict}."
    return Statement(effect, _minus(text), _parts(effect, decimals), kind)


def _verdict(effect: Effect, found: Primary) -> tuple[str, str]:
    """(what the interval says in words, its kind)."""
    decimals, margin = found.figure.difference_decimals, found.margin
    subject = "these two checkpoints" if effect.seeds == 1 and found.axis else "the two"
    shown = number(effect.detectable, decimals) if math.isfinite(effect.detectable) else None
    power = f"this run could have shown {shown}" if shown else "this run could have shown no difference of any size"
    equal = margin is not None and effect.p_not_equal(margin) < ALPHA
    words = found.figure.difference_words
    within = "" if margin is None else f"{margin:g} {words.replace('points', 'point', 1) if margin == 1 else words}"
    if effect.is_significant:
        lower_is_better = found.figure.higher_is_better is False
        better = (effect.difference > 0) != lower_is_better
        word = f"significantly {'better' if better else 'worse'}"
        if equal:
            return f"{word}, though by less than {within}", "equal"
        return (word if effect.seeds > 1 or not found.axis else f"{subject} differ, {effect.value} {word}"), (
            "better" if better else "worse"
        )
    if equal:
        return f"as good as each other within {within}", "equal"
    if margin is not None and effect.p_not_below(margin) < ALPHA:
        return f"not significant, and no worse by {within} or more; {power}", "open"
    if effect.p < ALPHA:
        return f"not significant after Holm's correction over {len(found.effects)} comparisons; {power}", "open"
    return f"not significant; {power}", "open"


def _parts(effect: Effect, decimals: int) -> str:
    estimate = effect.estimate
    if estimate.seeds == 1:
        return ""
    trainings, prompts = (number(x, decimals + 1) for x in (estimate.from_trainings, estimate.from_prompts))  # type: ignore[union-attr]
    return (
        f"Standard error {number(estimate.stderr, decimals + 1)}: {prompts} from prompts, {trainings} from trainings."
    )


def _cautions(entries: Sequence[Entry], found: Primary) -> list[str]:
    cautions = []
    if found.axis and all(effect.seeds == 1 for effect in found.effects):
        cautions.append(
            "One training seed: this compares checkpoints. Nothing was tried about the methods; "
            "set training.seeds to train each several times."
        )
    if any(effect.seeds == 2 for effect in found.effects):
        cautions.append("Two seeds hardly tell how much trainings differ: intervals are wide. Five would do.")
    names = {name for effect in found.effects for name in (effect.value, effect.against)}
    flagged = [e.id for e in entries if doubts(e) and (e.id in names or e.provenance.method_id in names)]
    if flagged:
        cautions.append(f"Doubtful figures: {', '.join(flagged[:MOST_STATED])} ({len(flagged)} flagged, see below).")
    cautions += _unscored(entries, found)
    judges = dict.fromkeys(judge_name(e) or "unnamed" for e in entries if not is_calibrated(e))
    if judges and found.figure.benchmark != "heldout":
        cautions.append(f"Judge: {'; '.join(judges)}, not calibrated: these figures don't measure quality.")
    return cautions


def _unscored(entries: Sequence[Entry], found: Primary) -> list[str]:
    """How many verdicts are missing, and how far the largest difference could move if all of them were losses or
    wins."""
    missing = 0
    shares: dict[str, list[float]] = {}
    for entry in entries:
        outcomes = entry.outcomes.get(found.figure.benchmark, {})
        unscored = sum(value is None for value in outcomes.values())
        missing += unscored
        if outcomes:
            shares.setdefault(entry.provenance.method_id or entry.id, []).append(unscored / len(outcomes))
    if not missing:
        return []
    reach = found.figure.reach
    moves = [fmean(shares.get(e.value, [0.0])) + fmean(shares.get(e.against, [0.0])) for e in found.effects]
    count = "1 verdict is" if missing == 1 else f"{missing:,} verdicts are"
    text = f"{found.figure.group or found.figure.metric}: {count} not scored"
    if reach is None or not max(moves):
        return [f"{text}."]
    size = number(reach * max(moves), found.figure.difference_decimals + 1)
    return [f"{text}; had they all gone one way, a difference would move by up to {size}."]


def _minus(text: str) -> str:
    """The text with minus signs instead of hyphens before numbers."""
    return "".join(
        "−" if c == "-" and text[i + 1 : i + 2].isdigit() and (i == 0 or text[i - 1] in " (+") else c
        for i, c in enumerate(text)
    )
