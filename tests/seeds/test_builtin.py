"""The seed set that ships with the package."""

import json
from collections import Counter
from importlib import resources

from harness.components import build
from harness.seeds.builtin import Builtin


def builtin(**fields: object) -> Builtin:
    component = build("seed", {"name": "builtin", **fields})
    assert isinstance(component, Builtin)
    return component


def test_every_row_is_there() -> None:
    rows = [json.loads(line) for line in resources.files("harness").joinpath("assets/seeds.jsonl").open()]
    pairs = builtin().pairs()
    assert [p.messages[0].content for p in pairs] == [r["prompt"] for r in rows]
    assert [(p.chosen, p.rejected, p.category) for p in pairs] == [
        (r["chosen"], r["rejected"], r["category"]) for r in rows
    ]
    assert {p.source for p in pairs} == {"builtin"}
    assert set(Counter(p.category for p in pairs).values()) == {len(pairs) // 8}
    builtin().check()


def test_limit_weight_and_identity() -> None:
    assert builtin(limit=5).pairs() == builtin().pairs()[:5]
    assert len(builtin(weight=0.25).pairs()) == round(0.25 * len(builtin().pairs()))
    identities = [json.dumps(builtin(**f).identity()) for f in ({}, {"limit": 5}, {"weight": 0.5}, {})]
    assert identities[0] == identities[3]
    assert len(set(identities)) == 3
