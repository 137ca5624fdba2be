"""Verdicts of a judge that may be a panel: each member is asked by itself, the verdicts are averaged, and the members'
agreement is measured.

Agreement compares verdicts rounded to whole numbers (an exact half is a value of its own): the winner or a tie if
answers are compared, the rating if they are rated.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from harness.components import identity
from harness.judging.asker import Asker
from harness.judging.ledger import Ledger
from harness.protocols import Judge
from harness.stats.agreement import cohen_kappa, krippendorff_alpha
from harness.stats.intervals import mean_metric
from harness.types import Ask, Verdict


def members_of(judge: Judge) -> Sequence[Judge]:
    """The judges that are asked: a panel's members, or the judge itself."""
    return judge.members or (judge,)


def collect_verdicts(
    judge: Judge, asker: Callable[[Judge], Asker], verdicts: Callable[[Ask], list[Verdict]], about: str
) -> tuple[list[Verdict], Ledger, dict[str, Any]]:
    """(verdicts, the ledger of all replies, a panel's report). `asker` makes the `Ask` of one judge, `verdicts`
    collects the verdicts of one. `about`: the subject, for messages. Raises JudgeError if replies are missing that
    asking again may bring, even if only one member's: a finished stage is never judged again."""
    askers, by_member = [], {}
    for name, member in _by_name(members_of(judge)).items():
        askers.append(asker(member))
        by_member[name] = verdicts(askers[-1])
    ledger = total_ledger([one.ledger for one in askers])
    for one in askers:
        one.require_replies("the judge", f" about {about}")
    if len(by_member) == 1:
        return next(iter(by_member.values())), ledger, {}
    return mean_verdicts(by_member), ledger, {"panel": panel_agreement(by_member)}


def total_ledger(ledgers: Sequence[Ledger]) -> Ledger:
    """The sum of ledgers; a sum with an unknown part is unknown."""
    sums: dict[str, Any] = {}
    for name in Ledger.model_fields:
        values = [dict(ledger)[name] for ledger in ledgers]
        if isinstance(values[0], dict):
            sums[name] = dict(sorted(sum((Counter(value) for value in values), Counter[str]()).items()))
        else:
            sums[name] = None if None in values else sum(values)
    return Ledger(**sums)


def mean_verdicts(members: Mapping[str, Sequence[Verdict]]) -> list[Verdict]:
    """The members' verdicts averaged: for each thing judged, the mean of the verdicts given. `detail` has the verdicts
    of all members."""
    return [_mean_verdict(dict(zip(members, same, strict=True))) for same in zip(*members.values(), strict=True)]


def _mean_verdict(members: Mapping[str, Verdict]) -> Verdict:
    first = next(iter(members.values()))
    if not any(v.detail.get("asked", True) for v in members.values()):
        return first
    values = [v.value for v in members.values() if v.value is not None]
    prices = [v.detail.get("price") for v in members.values()]
    reasons = "; ".join(f"{name}: {v.invalid}" for name, v in members.items())
    return Verdict(
        question_id=first.question_id,
        turn=first.turn,
        category=first.category,
        value=sum(values) / len(values) if values else None,
        invalid=None if values else f"no member of the panel gave a verdict ({reasons})",
        prompt=first.prompt,
        reply="\n\n".join(f"[{name}]\n{v.reply}" for name, v in members.items() if v.reply),
        detail={
            "members": {
                name: {"value": v.value, "invalid": v.invalid, "reply": v.reply, **v.detail}
                for name, v in members.items()
            },
            "price": None if None in prices else sum(p for p in prices if p is not None),
        },
    )


def panel_agreement(members: Mapping[str, Sequence[Verdict]]) -> dict[str, Any]:
    """`members` (name -> number of missing verdicts), `pairs` of members (the share of equal verdicts, with its
    interval, and Cohen's kappa), and `krippendorff_alpha` of all, on the interval scale. Verdicts that needed no judge
    are left out."""
    asked = [
        i
        for i, same in enumerate(zip(*members.values(), strict=True))
        if any(v.detail.get("asked", True) for v in same)
    ]
    values = {name: [_rounded(verdicts[i].value) for i in asked] for name, verdicts in members.items()}
    groups = [next(iter(members.values()))[i].question_id for i in asked]
    pairs = []
    for first, second in combinations(values, 2):
        verdicts = list(zip(values[first], values[second], strict=True))
        both = [(a, b) for a, b in verdicts if a is not None and b is not None]
        same = [None if a is None or b is None else float(a == b) for a, b in verdicts]
        share = mean_metric(same, groups=groups, limits=(0.0, 1.0)).model_dump(mode="json")
        pairs.append({"first": first, "second": second, "agreement": share, "cohen_kappa": cohen_kappa(both)})
    return {
        "members": {name: sum(v is None for v in column) for name, column in values.items()},
        "pairs": pairs,
        "krippendorff_alpha": krippendorff_alpha(list(zip(*values.values(), strict=True))),
    }


def _rounded(value: float | None) -> float | None:
    return value if value is None or value % 1 == 0.5 else math.floor(value + 0.5)


def _by_name(judges: Sequence[Any]) -> dict[str, Any]:
    """Judges by name and model, numbered if several have the same."""
    names = []
    for judge in judges:
        fields = identity(judge)
        parts = [fields.get("name"), fields.get("model")]
        if isinstance(fields.get("reward"), dict):
            parts.append(fields["reward"].get("name"))
        names.append(" ".join(str(p) for p in parts if p))
    counts, seen = Counter(names), Counter[str]()
    by_name = {}
    for name, judge in zip(names, judges, strict=True):
        seen[name] += 1
        by_name[f"{name} {seen[name]}" if counts[name] > 1 else name] = judge
    return by_name
