"""The card of a ranked dataset for the Hugging Face hub: what it is, how it was made, what it contains."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.boards.format import with_interval
from harness.data.hub import HELDOUT_SPLIT, HELDOUT_WORDS
from harness.types import Metric

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
    "Self-BLEU (0 to 100; lower is more varied) is the mean sentence BLEU of each text against the others. Distinct-n "
    "(higher is more varied) is the share of distinct n-grams of words. Within a table, both are computed for the same "
    "number of texts, and distinct-n for the same number of words. Spread, if measured, is the mean cosine distance "
    "between the embeddings of two texts. Perplexity is under the recipe's untrained policy, over all tokens. None of "
    "them tells whether a text is good or true."
)


def card(
    name: str,
    facts: Mapping[str, Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
    made_with: Mapping[str, Any],
    report: Mapping[str, Any] | None,
) -> str:
    """The card's text. `facts`: the report of each data stage. `sources`: the seed sets with their licences and homes.
    `made_with`: generators and reward model. `report`: that of `harness.augmentation.diversity`."""
    ranked = facts["ranked"]
    parts = [
        _header(name, ranked, sources),
        f"# {name}: ranked preference data",
        f"Prompts with their responses, best first: {ranked['train_prompts']:,} for training (`ranked.jsonl`, with "
        f"{ranked['responses']:,} responses) and {ranked['heldout_prompts']:,} {HELDOUT_WORDS}. A row has "
        "`id`, `messages` (the prompt), `responses` (`text`, `source`, `score`, `rank` with 1 the best, "
        "`finish_reason`), `source` (`generated`, or the seed set), `shots` (ids of the seed rows shown to the "
        "generator of the prompt) and `provenance`. Scores are comparable only within a prompt.",
        *(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections(facts, sources, made_with).items()),
    ]
    if report is not None:
        parts.append("## Variety, side by side\n\n" + variety_tables(report))
    parts.append(
        "Texts marked as generated were written by models and not checked by people: expect mistakes, and check the "
        "models' licences before you train on them."
    )
    return "\n\n".join(parts) + "\n"


def sections(
    facts: Mapping[str, Mapping[str, Any]], sources: Sequence[Mapping[str, Any]], made_with: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Where a ranked dataset is from, how it was made, and what it counts: lists in Markdown, by heading. The arguments
    are those of `card`."""
    return {
        "Sources and licences": [_source(s) for s in sources],
        "How it was made": _recipe_lines(made_with),
        "Counts": _count_lines(facts),
    }


def variety_tables(report: Mapping[str, Any]) -> str:
    """The variety report as Markdown tables, with how to read them."""
    parts = [READ_AS]
    by = report.get("perplexities_by")
    perplexity = f"perplexity ({by})" if by else "perplexity"
    for kind, rows in (("prompts", report["prompts"]), ("responses", report["responses"])):
        spread = ["spread"] if any(SPREAD in row for row in rows.values()) else []
        heads = [kind, *MEASURES.values(), *spread, "words, median (5-95 %)", perplexity]
        # Seed groups first, then generated ones, then those by rank; empty groups have no row.
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
        parts.append(_table(heads, body))
    if topics := report.get("topics"):
        parts.append(_topics_text(topics))
    if report.get("shares"):
        heads = ["new prompts per seed prompt", *MEASURES.values()]
        parts.append(_table(heads, [[f"{row['per_seed_prompt']:g}", *_cells(row)] for row in report["shares"]]))
    return "\n\n".join(parts)


def _topics_text(topics: Mapping[str, Any]) -> str:
    """How new prompts lie among the seed's topics, in a paragraph."""
    covered, within = (Metric.model_validate(topics[name]) for name in ("covered", "within"))
    return (
        f"Topics, by embeddings of {topics['seed_prompts']:,} seed prompts and as many new ones: the new prompts reach "
        f"{with_interval(covered, 2)} of the seed's topics ({topics['expected']:.2f} if they were further seed "
        f"prompts), and {with_interval(within, 2)} of them are in one. A topic is what is nearer to a seed prompt than "
        "its fifth nearest other seed prompt."
    )


def _header(name: str, ranked: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> str:
    """The YAML block for the hub."""
    licences = {str(s["licence"]).lower() for s in sources if s.get("licence")}
    common = licences.pop() if len(licences) == 1 and all(s.get("licence") for s in sources) else ""
    licence = common if re.fullmatch(r"[a-z0-9.+-]+", common) else "other"  # the hub accepts only its short names
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
        *([HELDOUT_SPLIT.rstrip("\n")] if ranked["heldout_prompts"] else []),
        "---",
    ]
    return "\n".join(lines)


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _source(source: Mapping[str, Any]) -> str:
    home = f" ({source['home']})" if source.get("home") else ""
    return f"- `{source['name']}`{home}: {source.get('licence') or 'licence not stated'}"


def _recipe_lines(made_with: Mapping[str, Any]) -> list[str]:
    lines = []
    if prompts := made_with.get("prompts"):
        lines.append(
            f"- New prompts: written by `{prompts['generator']}`, which was shown {prompts['shots']} seed prompts for "
            f"each (temperature {prompts['temperature']:g}, top-p {prompts['top_p']:g})."
        )
    if responses := made_with.get("responses"):
        generators = ", ".join(f"`{g}`" for g in responses["generators"])
        sampling = f"temperature {responses['temperature']:g}, top-p {responses['top_p']:g}"
        lines.append(f"- Responses: {generators}; {sampling}; seed prompts may also have the seed's own two responses.")
    if "reward" in made_with:
        lines.append(f"- Ranked by the reward model `{made_with['reward']}`.")
    if "imported" in made_with:
        lines.append("- Ranked elsewhere: all responses with the scores that their set gives them.")
    return lines or ["- The seed's own pairs: the chosen answer above the rejected one, with scores 1 and 0."]


def _count_lines(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    titles = {"seeds": "Seed pairs", "prompts": "New prompts", "responses": "Responses", "ranked": "Ranked"}
    lines = []
    for stage, title in titles.items():
        if counts := _counts_text(facts.get(stage, {})):
            lines.append(f"- {title}: {counts}")
    admission = facts.get("reward", {}).get("admission")
    if isinstance(admission, Mapping):
        accuracy = admission["accuracy"]
        value, interval = accuracy.get("value"), accuracy.get("ci95")
        text = "not measured" if value is None else f"{value:.3f}"
        text += f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        lines.append(f"- Reward model: accuracy on {accuracy['n']} held-out seed pairs {text}")
    return lines


def _counts_text(report: Mapping[str, Any]) -> str:
    """A report's counts, and nested counts, as text."""
    parts = []
    for key, value in report.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            inner = [f"{k.replace('_', ' ')} {v:,}" for k, v in value.items() if isinstance(v, int)]
            parts += [f"{name} ({', '.join(inner)})"] if inner else []
        elif isinstance(value, int) and not isinstance(value, bool):
            parts.append(f"{name} {value:,}")
    return "; ".join(parts)


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_figure(name, row.get(name)) for name in MEASURES]


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.1f} %" if name == "duplicates" else f"{value:.1f}" if name == "self_bleu" else f"{value:.3f}"


def _words(lengths: Mapping[str, float] | None) -> str:
    return "–" if lengths is None else f"{lengths['median']:g} ({lengths['p5']:g}-{lengths['p95']:g})"


def _perplexity(row: Mapping[str, Any]) -> str:
    perplexity = row.get("perplexity")
    return "–" if perplexity is None else f"{perplexity['corpus']:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # Source names contain model names, which must not break the table.
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
