"""The card: what a stranger reads of a dataset, and the block that the hub reads."""

from typing import Any

import yaml

from harness.augmentation.card import card

RANKED = {"train_prompts": 1200, "heldout_prompts": 40, "responses": 4800}
OWN = {"name": "mine", "licence": None, "home": None}
ORCA = {"name": "orca_dpo_pairs", "licence": "Apache-2.0", "home": "hub dataset Intel/orca_dpo_pairs"}
ROW: dict[str, Any] = {
    "texts": 8,
    "compared": 4,
    "self_bleu": 3.14,
    "distinct_1": 0.5,
    "distinct_2": None,
    "distinct_3": 1.0,
}
ROW |= {"duplicates": 0.125, "words": {"median": 7.0, "p5": 3.0, "p95": 20.0}}


def header(sources: list[dict[str, Any]], **ranked: int) -> dict[str, Any]:
    text = card("x", {"ranked": RANKED | ranked}, sources, {}, None)
    return dict(yaml.safe_load(text.split("---")[1]))


def test_the_hub_finds_splits_size_and_licence() -> None:
    fields = header([ORCA])
    assert fields["license"] == "apache-2.0"
    assert fields["size_categories"] == ["1K<n<10K"]
    assert [f["path"] for f in fields["configs"][0]["data_files"]] == ["ranked.jsonl", "heldout.jsonl"]
    assert [f["split"] for f in header([ORCA], heldout_prompts=0)["configs"][0]["data_files"]] == ["train"]
    # With one unknown licence, that of the whole is unknown.
    assert header([ORCA, OWN])["license"] == "other"
    assert header([ORCA, ORCA | {"licence": "MIT"}])["license"] == "other"
    # The hub refuses other than its short names; they could also break the block.
    assert header([OWN | {"licence": "ours: ask {us}"}])["license"] == "other"


def test_it_says_where_things_come_from_and_what_was_dropped() -> None:
    facts: dict[str, dict[str, Any]] = {
        "seeds": {"train": 200, "leaks": {"alpaca_eval": 1}},
        "prompts": {"kept": 90, "dropped": {"near_duplicate": 1234}},
        "ranked": RANKED,
        "reward": {"admission": {"accuracy": {"value": 0.8125, "ci95": [0.7, 0.9], "n": 48}}},
    }
    made_with: dict[str, Any] = {
        "prompts": {"generator": "hf m", "shots": 6, "temperature": 0.7, "top_p": 0.95},
        "reward": "trained m",
    }
    made_with["responses"] = {"generators": ["hf m (4 of 4)"], "temperature": 0.9, "top_p": 1.0}
    text = card("x", facts, [ORCA, OWN], made_with, None)
    for line in (
        "- `orca_dpo_pairs` (hub dataset Intel/orca_dpo_pairs): Apache-2.0",
        "- `mine`: licence not stated",
        "was shown 6 seed prompts for each (temperature 0.7, top-p 0.95)",
        "dropped (near duplicate 1,234)",
        "leaks (alpaca eval 1)",
        "accuracy on 48 held-out seed pairs 0.812 [0.700, 0.900]",
        "Ranked by the reward model `trained m`.",
    ):
        assert line in text
    assert "Variety" not in text


def test_groups_stand_side_by_side() -> None:
    report = {
        "prompts": {"new prompts": ROW, "seed prompts": ROW | {"perplexity": {"corpus": 12.34}}},
        "responses": {"hf:a|b": ROW, "ranked first": ROW | {"texts": 0}},
        "shares": [{"per_seed_prompt": 0.5, **ROW}],
    }
    text = card("x", {"ranked": RANKED}, [OWN], {}, report)
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert all(len(row) in (10, 8) for row in rows)
    cells = {row[0]: row[1:] for row in rows}
    assert cells["seed prompts"] == ["8", "4", "3.1", "0.500", "–", "1.000", "12.5 %", "7 (3-20)", "12.3"]
    assert cells["new prompts"][-1] == "–"
    assert "hf:a/b" in cells
    assert "ranked first" not in cells
    assert list(cells)[2:4] == ["seed prompts", "new prompts"]
    assert "0.5" in cells
