"""Verdicts of a judge that may be a panel: every member is asked by itself, its verdicts are averaged with the others',
and how far the members agree is measured.

Agreement is that of verdicts as whole numbers (a half between two is its own): the winner or a tie where answers are
compared, the rating where they are rated.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from harness.components import identity
from harness.errors import JudgeError
from harness.judging import Asker, Ledger
from harness.stats import cohen_kappa, krippendorff_alpha, mean_metric
from harness.types import Ask, Verdict


def members_of(judge: Any) -> Sequence[Any]:
    """The judges that are asked: a panel's members, else the judge itself."""
    found: Sequence[Any] = getattr(judge, "members", ())
    return found or (judge,)


def judged(
    judge: Any, asker: Callable[[Any], Asker], verdicts: Callable[[Ask], list[Verdict]], about: str
) -> tuple[list[Verdict], Ledger, dict[str, Any]]:
    """(verdicts, what the replies came to, what a panel reports). `asker` makes the `Ask` of one judge, `verdicts` the
    verdicts by one. Raises JudgeError where replies `about` something are missing that may be had by asking again, be
    it only one member's: what is finished is never judged again."""
    asked, found = [], {}
    for name, member in _named(members_of(judge)).items():
        asked.append(asker(member))
        found[name] = verdicts(asked[-1])
    ledger = total([one.ledger for one in asked])
    if ledger.transient:
        why = next((v.invalid for given in found.values() for v in given if v.value is None), "no reason given")
        raise JudgeError(
            f"the judge failed to answer {ledger.transient} requests about {about} ({why}); "
            "what it did answer is kept: run again"
        )
    if len(found) == 1:
        return next(iter(found.values())), ledger, {}
    return joined(found), ledger, {"panel": agreement(found)}


def total(ledgers: Sequence[Ledger]) -> Ledger:
    """Ledgers as one; a sum with something unknown in it is unknown."""
    summed: dict[str, Any] = {}
    for name in Ledger.model_fields:
        values = [getattr(ledger, name) for ledger in ledgers]
        if isinstance(values[0], dict):
            summed[name] = dict(sorted(sum((Counter(value) for value in values), Counter[str]()).items()))
        else:
            summed[name] = None if None in values else sum(values)
    return Ledger(**summed)


def joined(members: Mapping[str, Sequence[Verdict]]) -> list[Verdict]:
    """One verdict for each of the members' on the same thing: the mean of those that were given. `detail`: what each
    member's was made from."""
    return [_joined(dict(zip(members, same, strict=True))) for same in zip(*members.values(), strict=True)]


def _joined(members: Mapping[str, Verdict]) -> Verdict:
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


def agreement(members: Mapping[str, Sequence[Verdict]]) -> dict[str, Any]:
    """`members` (name -> verdicts that it did not give), `pairs` of them (the share of equal verdicts, with its
    interval, and Cohen's kappa), and `krippendorff_alpha` of all, on the interval scale. What was decided without
    asking is left out."""
    places = [
        i
        for i, same in enumerate(zip(*members.values(), strict=True))
        if any(v.detail.get("asked", True) for v in same)
    ]
    values = {name: [_whole(given[i].value) for i in places] for name, given in members.items()}
    groups = [next(iter(members.values()))[i].question_id for i in places]
    pairs = []
    for one, other in combinations(values, 2):
        both = [(a, b) for a, b in zip(values[one], values[other], strict=True) if a is not None and b is not None]
        same = [
            None if a is None or b is None else float(a == b) for a, b in zip(values[one], values[other], strict=True)
        ]
        raw = mean_metric(same, groups=groups).model_dump(mode="json")
        pairs.append({"first": one, "second": other, "agreement": raw, "cohen_kappa": cohen_kappa(both)})
    return {
        "members": {name: sum(v is None for v in given) for name, given in values.items()},
        "pairs": pairs,
        "krippendorff_alpha": krippendorff_alpha(list(zip(*values.values(), strict=True))),
    }


def _whole(value: float | None) -> float | None:
    return value if value is None or value % 1 == 0.5 else math.floor(value + 0.5)


def _named(judges: Sequence[Any]) -> dict[str, Any]:
    """Judges by name and model, told apart by a number where that is the same."""
    plain = []
    for judge in judges:
        told = identity(judge)
        parts = [told.get("name"), told.get("model")]
        if isinstance(told.get("reward"), dict):
            parts.append(told["reward"].get("name"))
        plain.append(" ".join(str(p) for p in parts if p))
    many, seen = Counter(plain), Counter[str]()
    found = {}
    for name, judge in zip(plain, judges, strict=True):
        seen[name] += 1
        found[f"{name} {seen[name]}" if many[name] > 1 else name] = judge
    return found
