"""The card of a ranked dataset, as the Hugging Face hub reads it: what it is, how it was made, what it holds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

MEASURES = {
    "texts": "texts",
    "compared": "compared at",
    "self_bleu": "self-BLEU",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "duplicates": "repeated",
}
SPREAD = "embedding_spread"
READ_AS = (
    "Self-BLEU (0 to 100; lower is more varied) is each text's sentence BLEU against the others; distinct-n (higher is "
    "more varied) the share of different n-grams of words; both are taken at the same number of texts, and distinct-n "
    "of words, in each group of a table. Spread, where it was measured, is the mean cosine distance between the "
    "embeddings of two texts. Perplexity is under the recipe's untrained policy, over all tokens. None of them says "
    "whether a text is good or true."
)


def card(
    name: str,
    facts: Mapping[str, Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
    made_with: Mapping[str, Any],
    report: Mapping[str, Any] | None,
) -> str:
    """The card's text. `facts`: what each data stage reports. `sources`: the seed sets with their licences and homes.
    `made_with`: generators and reward model. `report`: of `harness.diversity`."""
    ranked = facts["ranked"]
    parts = [
        _header(name, ranked, sources),
        f"# {name}: ranked preference data",
        f"Prompts with their responses, best first: {ranked['train_prompts']:,} to train on (`ranked.jsonl`) and "
        f"{ranked['heldout_prompts']:,} held out (`heldout.jsonl`), {ranked['responses']:,} responses in the former. A "
        "row has `id`, `messages` (the prompt), `responses` (`text`, `source`, `score`, `rank` with 1 the best, "
        "`finish_reason`), `source` (`generated`, or the seed set), `shots` (ids of the seed rows that the generator "
        "of the prompt was shown) and `provenance`. Scores mean something within a prompt only.",
        "## Sources and licences\n\n" + "\n".join(_source(s) for s in sources),
        "## How it was made\n\n" + "\n".join(_made(made_with)),
        "## Counts\n\n" + "\n".join(_counts(facts)),
    ]
    if report is not None:
        parts.append("## Variety, side by side\n\n" + tables(report))
    parts.append(
        "Texts marked as generated were written by models and were not read by people: expect mistakes, and check the "
        "models' licences before you train on them."
    )
    return "\n\n".join(parts) + "\n"


def tables(report: Mapping[str, Any]) -> str:
    """The variety report as Markdown tables with how to read them."""
    found = [READ_AS]
    for kind, rows in (("prompts", report["prompts"]), ("responses", report["responses"])):
        spread = ["spread"] if any(SPREAD in row for row in rows.values()) else []
        heads = [kind, *MEASURES.values(), *spread, "words, median (5-95 %)", "perplexity"]
        # The seed's first, then what was made of it, then by rank; what there is none of has no row.
        order = sorted(rows, key=lambda name: (not name.startswith("seed"), name.startswith("ranked"), name))
        body = [
            [
                name,
                *_cells(rows[name]),
                *(_figure(SPREAD, rows[name].get(SPREAD)) for _ in spread),
                _words(rows[name].get("words")),
                _perplexity(rows[name]),
            ]
            for name in order
            if rows[name]["texts"]
        ]
        found.append(_table(heads, body))
    if report.get("shares"):
        heads = ["new prompts for each of the seed's", *MEASURES.values()]
        found.append(_table(heads, [[f"{row['per_seed_prompt']:g}", *_cells(row)] for row in report["shares"]]))
    return "\n\n".join(found)


def _header(name: str, ranked: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> str:
    """The YAML block that the hub reads."""
    known = {str(s["licence"]).lower() for s in sources if s.get("licence")}
    one = known.pop() if len(known) == 1 and all(s.get("licence") for s in sources) else ""
    licence = one if re.fullmatch(r"[a-z0-9.+-]+", one) else "other"  # the hub takes its own short names only
    total = ranked["train_prompts"] + ranked["heldout_prompts"]
    size = next((text for most, text in _SIZES if total < most), "n>1M")
    lines = [
        "---",
        f"license: {licence}",
        "task_categories: [text-generation]",
        "tags: [preference, ranking, dpo, synthetic]",
        f"size_categories: [{size}]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - {split: train, path: ranked.jsonl}",
        *(["  - {split: test, path: heldout.jsonl}"] if ranked["heldout_prompts"] else []),
        "---",
    ]
    return "\n".join(lines)


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _source(source: Mapping[str, Any]) -> str:
    home = f" ({source['home']})" if source.get("home") else ""
    return f"- `{source['name']}`{home}: {source.get('licence') or 'licence not stated'}"


def _made(made_with: Mapping[str, Any]) -> list[str]:
    lines = []
    if prompts := made_with.get("prompts"):
        lines.append(
            f"- New prompts: written by `{prompts['generator']}`, which was shown {prompts['shots']} seed prompts for "
            f"each (temperature {prompts['temperature']:g}, top-p {prompts['top_p']:g})."
        )
    if responses := made_with.get("responses"):
        told = ", ".join(f"`{g}`" for g in responses["generators"])
        sampling = f"temperature {responses['temperature']:g}, top-p {responses['top_p']:g}"
        lines.append(f"- Responses: {told}; {sampling}; of seed prompts, the seed's own two may be among them.")
    if "reward" in made_with:
        lines.append(f"- Ranked by the reward model `{made_with['reward']}`.")
    return lines or ["- The seed's own pairs: the chosen answer above the rejected one, with the scores 1 and 0."]


def _counts(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    titles = {"seeds": "Seed pairs", "prompts": "New prompts", "responses": "Responses", "ranked": "Ranked"}
    lines = []
    for stage, title in titles.items():
        if told := _flat(facts.get(stage, {})):
            lines.append(f"- {title}: {told}")
    admission = facts.get("reward", {}).get("admission")
    if isinstance(admission, Mapping):
        accuracy = admission["accuracy"]
        value, interval = accuracy.get("value"), accuracy.get("ci95")
        told = "not measured" if value is None else f"{value:.3f}"
        told += f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        lines.append(f"- Reward model: accuracy on {accuracy['n']} held-out seed pairs {told}")
    return lines


def _flat(report: Mapping[str, Any]) -> str:
    """Counts, and counts within counts, as words."""
    told = []
    for key, value in report.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            inner = [f"{k.replace('_', ' ')} {v:,}" for k, v in value.items() if isinstance(v, int)]
            told += [f"{name} ({', '.join(inner)})"] if inner else []
        elif isinstance(value, int) and not isinstance(value, bool):
            told.append(f"{name} {value:,}")
    return "; ".join(told)


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_figure(name, row.get(name)) for name in MEASURES]


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.1f} %" if name == "duplicates" else f"{value:.1f}" if name == "self_bleu" else f"{value:.3f}"


def _words(found: Mapping[str, float] | None) -> str:
    return "–" if found is None else f"{found['median']:g} ({found['p5']:g}-{found['p95']:g})"


def _perplexity(row: Mapping[str, Any]) -> str:
    found = row.get("perplexity")
    return "–" if found is None else f"{found['corpus']:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # Names of sources are models' names: nothing in them may break a table.
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
