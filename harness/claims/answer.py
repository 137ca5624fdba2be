"""The answer that a board gives to its run's question, in one or two sentences, before any table."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from harness.boards.entry import Entry
from harness.boards.facts import agreement_words, chance_words, doubt_names, judges_by_verdict
from harness.boards.format import number, signed
from harness.claims.cells import METHOD
from harness.claims.effects import Effect, are_one_method
from harness.claims.learned import learned_words
from harness.claims.primary import Primary, primary
from harness.claims.registration import registration_words
from harness.claims.selection import selection_words
from harness.figures import HELDOUT
from harness.stats.bounds import FEWEST
from harness.stats.paired import ALPHA, holm

MOST_STATED = 4
"""Comparisons that are told one by one; of more, the significant ones first."""


JUDGES = {
    "at_chance": "{chance}: these figures say nothing about quality.",
    "weak": "not shown to beat 'the longer answer wins' within a system.",
    "local": "not shown to be better than chance on systems other than the recorded ones.",
    "not_measured": "whose calibration measured nothing: these figures don't measure quality.",
    "rule": "{rule}.",
    "uncalibrated": "not calibrated: these figures don't measure quality.",
}
"""What an answer says of judges, by the verdict of their calibration."""


class Statement(NamedTuple):
    """One comparison in words. `text`: a sentence. `parts`: where its standard error comes from; empty for one seed.
    `kind`: better, worse, equal, or open (not significant, too few prompts, or a figure that is neither)."""

    effect: Effect
    text: str
    parts: str
    kind: str


class Answer(NamedTuple):
    """`question`: what the run asked. `statements`: its comparisons, told one by one. `rest`: how many more there are
    and how many of them are significant; empty where there are none. `cautions`: what a reader must know with it: what
    was asked and can't be answered, one seed, an uncalibrated judge, flagged rows."""

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


def answer(entries: Sequence[Entry], most: int = MOST_STATED) -> Answer | None:
    """The answer of a board, with so many of its comparisons told one by one, at most; None where no two of its rows
    can be compared."""
    found = primary(entries)
    if found is None:
        return None
    told = list(zip(found.effects, found.matched, strict=True))
    if len(told) > most:
        told = sorted(told, key=lambda pair: pair[0].adjusted_p)[:most]
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
    values = list(dict.fromkeys(effect.value for effect in found.effects))
    who = values[0] if len(values) == 1 else f"{len(values)} {_kind(found)}"
    sizes = sorted({effect.prompts for effect in found.effects})
    prompts = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    if seeds := sorted({effect.seeds for effect in found.effects if effect.is_trained}):
        trained = (
            "one seed each" if seeds == [1] else f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds"
        )
        prompts = f"{trained}, {prompts}"
    by = f"{found.figure.group} {found.figure.title}".strip()
    *others, last = against
    opponents = f"{', '.join(others)} and {last}" if others else last
    return f"{who} against {opponents}, by {by}: {prompts} prompts."


def _kind(found: Primary) -> str:
    if not any(effect.is_trained for effect in found.effects):
        return "systems"
    return "methods" if found.axis in (METHOD, "") else f"values of {found.axis}"


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
    low, high = (_end(x, decimals) for x in effect.ci95)
    size = f"{signed(effect.difference, decimals)} {found.figure.difference_words}"
    verdict, kind = _verdict(effect, found)
    text = _minus(f"{size} (95 % CI {low} to {high}): {verdict}.")
    return Statement(effect, f"{names}: {text}", _parts(effect, decimals), kind)


def _verdict(effect: Effect, found: Primary) -> tuple[str, str]:
    """(what the interval says in words, its kind)."""
    margin = found.margin
    within = "" if margin is None else _amount(margin, found)
    equal = margin is not None and _within(effect, found, margin) < ALPHA
    if effect.is_significant:
        return _significant(effect, f", though by less than {within}{_by_90(effect, found)}" if equal else "")
    power = f"; {_power(effect)}"
    corrected = f"not significant after Holm's correction over {len(found.effects)} comparisons"
    unclear = corrected if effect.p < ALPHA else "not significant"
    if equal:
        also = f"; the difference itself is {corrected}" if effect.p < ALPHA else ""
        return f"as good as each other within {within}{_by_90(effect, found)}{also}", "equal"
    if margin is not None and _not_below(effect, found, margin) < ALPHA:
        return f"{unclear}, and no worse by {within} or more{_by_90(effect, found, worse_only=True)}{power}", "open"
    return f"{unclear}{power}", "open"


def _significant(effect: Effect, limit: str) -> tuple[str, str]:
    """The words for a significant difference, and its kind. `limit`: what more is said of its size."""
    direction, higher = effect.figure.higher_is_better, effect.difference > 0
    if direction is None:
        kind, word = "open", "higher" if higher else "lower"
    else:
        kind = word = "better" if higher == direction else "worse"
    if effect.seeds > 1 or not effect.is_trained:
        said = f"significantly {word}"
    else:
        rows = "two checkpoints" if effect.pairs == 1 else "checkpoints"
        said = f"these {rows} differ, {effect.value} significantly {word}"
    return f"{said}{limit}", "equal" if limit else kind


def _power(effect: Effect) -> str:
    if not math.isfinite(effect.detectable):
        return "this run could not have shown a difference of any size"
    return f"this run could have shown {number(effect.detectable, effect.figure.difference_decimals)}"


def _amount(margin: float, found: Primary) -> str:
    words = found.figure.difference_words
    return f"{margin:g} {words.replace('points', 'point', 1) if margin == 1 else words}"


def _within(effect: Effect, found: Primary, margin: float) -> float:
    """The p value of a difference of the margin or more, adjusted over the family like that of no difference."""
    return _of_family(effect, found, [e.p_not_equal(margin) for e in found.effects])


def _not_below(effect: Effect, found: Primary, margin: float) -> float:
    """The p value of being worse by the margin or more, adjusted over the family."""
    return _of_family(effect, found, [e.p_not_below(margin) for e in found.effects])


def _of_family(effect: Effect, found: Primary, p_values: Sequence[float]) -> float:
    return next(p for e, p in zip(found.effects, holm(p_values), strict=True) if e is effect)


def _by_90(effect: Effect, found: Primary, worse_only: bool = False) -> str:
    """The interval that one-sided tests at 5 % go by, where the 95 % CI is wider than the margin: else the two would
    seem to disagree. `worse_only`: only the side that is worse is tested."""
    low, high = effect.ci95 or (0.0, 0.0)
    margin = found.margin or 0.0
    inside = -margin < low, high < margin
    if all(inside) or (worse_only and inside[found.figure.higher_is_better is False]):
        return ""
    low, high = effect.estimate.interval(1 - 2 * ALPHA)
    ends = " to ".join(_end(x, found.figure.difference_decimals) for x in (low, high))
    return f" (one-sided tests at 5 %: 90 % CI {ends})"


def _end(x: float, decimals: int) -> str:
    """An interval's end, with so many decimals that it is seen on which side of zero it lies."""
    more = next((k for k in range(decimals, decimals + 4) if round(x, k) != 0), decimals)
    return number(x, more)


def _parts(effect: Effect, decimals: int) -> str:
    estimate = effect.estimate
    if estimate.seeds == 1:
        return ""
    trainings, prompts = (number(x, decimals + 1) for x in (estimate.from_trainings, estimate.from_prompts))  # type: ignore[union-attr]
    return (
        f"Standard error {number(estimate.stderr, decimals + 1)}: {prompts} from prompts, {trainings} from trainings."
    )


def _cautions(entries: Sequence[Entry], found: Primary) -> list[str]:
    cautions = list(found.notes)
    trained = [effect for effect in found.effects if effect.is_trained]
    if trained and all(effect.seeds == 1 for effect in trained):
        cautions.append(
            "One training seed: this compares checkpoints. Nothing was tried about the methods; "
            "set training.seeds to train each several times."
        )
    if (pooled := max(effect.pairs // effect.seeds for effect in found.effects)) > 1:
        cautions.append(f"Each difference is a mean over up to {pooled} pairs of rows a seed, such as a sweep's cells.")
    if same := [e for e in found.effects if all(map(are_one_method, e.rows))]:
        which = ", ".join(f"{effect.value} and {effect.against}" for effect in same)
        cautions.append(
            f"{which}: at two responses a prompt these are one loss, so that nothing is compared; give them more "
            "responses (data.responses)."
        )
    if any(effect.seeds == 2 for effect in found.effects):
        cautions.append("Two seeds hardly tell how much trainings differ: intervals are wide. Five would do.")
    compared = {row.id for effect in found.effects for pair in effect.rows for row in pair}
    rows = [entry for entry in entries if entry.id in compared]
    cautions += selection_words(rows, found.figure.benchmark)
    cautions += registration_words(rows)
    if flagged := [row for row in rows if doubt_names(row)]:
        more = f" and {len(flagged) - MOST_STATED} more" if len(flagged) > MOST_STATED else ""
        named = ", ".join(row.id for row in flagged[:MOST_STATED])
        reasons = Counter(reason for row in flagged for reason in doubt_names(row)).most_common()
        counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
        cautions.append(f"Doubtful figures: {named}{more} ({len(flagged)} flagged: {counts}).")
    cautions += _unscored(rows, found)
    if found.figure.benchmark == HELDOUT:
        return [*learned_words(rows), *cautions]
    by_verdict = judges_by_verdict(rows)
    for verdict, words in JUDGES.items():
        judges = by_verdict.get(verdict, {})
        texts = [f"{name} ({measured})" if (measured := agreement_words(j)) else name for name, j in judges.items()]
        if texts:
            chance = " or ".join(dict.fromkeys(chance_words(j.here) for j in judges.values()))
            rule = "; ".join(dict.fromkeys(j.text for j in judges.values()))
            caution = f"Judge: {'; '.join(texts)}, {words.format(chance=chance, rule=rule)}"
            # Without a judge that can tell, nothing else matters.
            cautions.insert(0, caution) if verdict == "at_chance" else cautions.append(caution)
    return cautions


def _unscored(rows: Sequence[Entry], found: Primary) -> list[str]:
    """How many verdicts are missing, and how far the largest difference could move if all of them were losses or
    wins. `rows`: those that are compared."""
    by_row = {row.id: row.outcomes.get(found.figure.benchmark, {}).values() for row in rows}
    missing = {row: sum(value is None for value in values) for row, values in by_row.items()}
    count = sum(missing.values())
    if not count:
        return []
    share = {row: missing[row] / max(1, len(values)) for row, values in by_row.items()}
    moves = [fmean(share[one.id] + share[other.id] for one, other in effect.rows) for effect in found.effects]
    said = "1 verdict is" if count == 1 else f"{count:,} verdicts are"
    text = f"{found.figure.group or found.figure.metric}: {said} not scored"
    reach = found.figure.reach
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
