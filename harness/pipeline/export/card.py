"""The card of an exported model: what it is, how it was made, what was measured and what is doubtful about that."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.augmentation.card import sections
from harness.boards.entry import measured_by
from harness.boards.facts import doubts, loss_facts, training_problems
from harness.boards.format import UNPAIRED, number
from harness.figures import Figure
from harness.models.checkpoints.folder import is_adapter
from harness.outside_yaml import yaml_text
from harness.pipeline.export.base import Base, Licence, card_of_folder, is_pinned
from harness.pipeline.export.metadata import headline_figures, metadata
from harness.pipeline.export.row import TrainedRow
from harness.pipeline.export.usage import python_lines, serving_line
from harness.pipeline.export.weights import Written
from harness.printable import masked
from harness.report.judges import judge_warnings
from harness.report.markdown import figures_table, measured_with
from harness.report.markup import bullets, escape_markdown, table
from harness.report.notes import benchmark_notes, budget_notes, figure_notes, reconstruction_notes, stage_notes

_HALF = (
    "In half precision, the harness adds an adapter's output to its base's before it rounds. PEFT rounds both, so that "
    "small changes are lost: answers may differ from those that were judged. Load the base in float32, or export the "
    "model with `--merge`."
)


def model_card(row: TrainedRow, written: Written, base: Base | None, name: str) -> str:
    """The card's text, with its header. `base`: None where it isn't on the hub. `name`: the exported folder, or the id
    on the hub, for the lines to copy."""
    from huggingface_hub import ModelCard

    data = row.dataset()
    sources = [dict(source) for source in data.params.get("sources", [])] if data else []
    licence, languages = (base.licence, base.languages) if base and base.licence else _local_card(row)
    header = metadata(row, written, base, licence, languages, [str(s.get("home") or "") for s in sources])
    parts = [
        f"# {escape_markdown(row.board.name)}: {escape_markdown(row.entry.id)}",
        _what(row, written, base),
        "## How to use it",
        _fenced(python_lines(row, written, base, name), "python"),
        "With [vLLM](https://docs.vllm.ai):",
        _fenced(serving_line(row, written, base, name), "sh"),
        *_figures(row),
        *_cautions(row, written, base),
        "## Training",
        table(["setting", "value"], [[k, escape_markdown(v)] for k, v in _training(row, base)], left=2),
        *([bullets(map(escape_markdown, budget))] if (budget := budget_notes([row.entry])) else []),
        *_data(row, data.params if data else {}, sources),
        "## Recipe",
        "<details>\n<summary>As YAML, without secrets and local paths</summary>\n",
        _fenced(yaml_text(row.entry.provenance.recipe or {}).strip(), "yaml"),
        "</details>",
        "## Licence",
        _licence_text(licence, base, sources),
        "## Made with",
        _versions(row.entry.provenance.made_by or {}),
    ]
    text = masked("\n\n".join(parts))
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n{text}\n"))


def _local_card(row: TrainedRow) -> tuple[Licence | None, tuple[str, ...]]:
    """What the card of a base that is a folder of this machine declares, where the training says which it is."""
    folder = Path(row.start().model) if is_adapter(row.exact) and not row.fine_tuned else Path()
    return card_of_folder(folder) if folder.is_absolute() else (None, ())


def _what(row: TrainedRow, written: Written, base: Base | None) -> str:
    kind = "A LoRA adapter for" if written.adapter else "A language model, trained from"
    loss = "by supervised fine-tuning" if not row.loss else f"with the loss {_loss_words(row)}"
    text = f"{kind} {_base_words(row, base)}. It was trained {loss} on ranked answers, and judged, by "
    text += f"preference-harness: it is the row {_code(row.entry.id)} of the board {_code(row.board.name)}."
    if row.fine_tuned:
        text += f" Its training started from that model after supervised fine-tuning (row {_code(row.fine_tuned)})."
    if not written.adapter and is_adapter(row.exact):
        text += " A LoRA adapter was trained, and merged into the base in float32."
    if not written.adapter and written.dtype != "float32":
        text += f" Its weights, trained in float32, were rounded stochastically to {written.dtype}."
    return text


def _base_words(row: TrainedRow, base: Base | None) -> str:
    if base is None:
        return f"{_code(str(row.policy['model']))}, a model that is not named on the hub"
    at = f" at revision {_code(base.revision)}" if base.revision else ""
    return f"[{escape_markdown(base.model)}](https://huggingface.co/{base.model}){at}"


def _figures(row: TrainedRow) -> Iterator[str]:
    """What was measured: the row beside the untrained policy, and by whom."""
    measured = measured_by(row.entry)
    shown = [*(e for e in row.board.entries if e.method == "base" and measured_by(e) == measured), row.entry]
    figures: list[Figure] = headline_figures([row.entry])
    yield "## Figures"
    if not figures:
        yield "Nothing was measured."
        return
    yield figures_table(figures, shown)
    yield "Brackets are 95 % CIs, over prompts. " + UNPAIRED
    notes = [*figure_notes([row.entry]), *benchmark_notes([row.entry])]
    yield "\n".join([measured_with(row.entry), *([bullets(notes)] if notes else [])])


def _cautions(row: TrainedRow, written: Written, base: Base | None) -> Iterator[str]:
    lines = [f"**{warning.title}** {escape_markdown(warning.text)}" for warning in judge_warnings([row.entry])]
    lines += [escape_markdown(text) for text in (*doubts(row.entry), *training_problems(row.entry))]
    lines += [escape_markdown(note) for note in reconstruction_notes([row.entry])]
    if not written.judged:
        was = "the adapter on its base" if row.is_adapter else "the same weights"
        lines.append(
            f"The figures above are of {was} in {_judged_dtype(row)}. These weights, in {written.dtype}, were not "
            "judged."
        )
    if base and base.variant:
        what = "It was trained on" if written.adapter else "The base was"
        lines.append(f"{what} {base.model} {base.variant}: answers differ from those with the weights on the hub.")
    elif base and written.adapter and not is_pinned(base):
        lines.append("The base's revision was not known when this card was written: its weights on the hub may change.")
    if written.adapter and written.dtype != "float32":
        lines.append(_HALF)
    yield "## Cautions"
    yield bullets([*lines, "Nobody has checked its answers for truth or harm: the figures above are all there is."])


def _judged_dtype(row: TrainedRow) -> str:
    return "float32" if row.is_adapter and row.fine_tuned else row.dtype


def _training(row: TrainedRow, base: Base | None) -> Iterator[tuple[str, str]]:
    """The settings that decide a training, and what it did, as names and values."""
    settings, report, about = row.training, row.artifact.report, row.entry.provenance
    lora = settings.get("lora")
    yield "starts from", row.fine_tuned or (base.model if base else str(row.policy["model"]))
    if about.round and about.round.number > 1:
        yield "round", f"{about.round.number}, goes on from round {about.round.number - 1}, on responses of its policy"
    yield "loss", row.entry.method if row.loss else "cross-entropy on the best response"
    yield from ((name, _value(value)) for name, value in row.loss.items() if name != "name")
    yield "learning rate", f"{settings['learning_rate']:g}, {settings['lr_scheduler']}"
    if "epochs" in settings:
        yield "epochs", f"{settings['epochs']:g}"
    yield "prompts per step", _value(settings["batch_size"])
    if lora:
        bits = f", base in {lora['bits']} bits" if lora.get("bits") else ""
        alpha, targets = lora.get("alpha") or 2 * lora["r"], _value(lora["target_modules"])
        yield "LoRA", f"r {lora['r']}, alpha {alpha}, on {targets}{bits}"
    else:
        yield "LoRA", "none: all weights were trained"
    yield "tokens, at most", f"{settings['max_prompt_length']:,} a prompt, {settings['max_length']:,} with its response"
    yield "policy's dtype", row.dtype
    seed = about.seed if about.training_seed is None else about.training_seed
    yield "seed", f"{_value(seed)}{_other_seeds(row)}"
    yield from _amounts(row, report)


def _amounts(row: TrainedRow, report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the training had used and come to; of a checkpoint on the way, until then."""
    point = row.entry.provenance.checkpoint
    until = report if point is None else report.get("checkpoints", {}).get(point.point, {"steps": point.steps})
    if point is not None:
        yield "checkpoint", f"on the way of a training of {report.get('steps', 0):,} optimizer steps"
    for name, title in (
        ("steps", "optimizer steps"),
        ("prompts_seen", "prompts seen"),
        ("tokens", "response tokens"),
        ("forward_tokens", "tokens through the policy"),
        ("trained_parameters", "trained parameters"),
    ):
        amounts = report if name == "trained_parameters" else until
        if isinstance(amount := amounts.get(name), int):
            yield title, f"{amount:,}"
    if point is not None:
        return  # these losses are of the training's end
    for name, title in (("first_loss", "loss, first steps"), ("last_loss", "loss, last steps")):
        if isinstance(loss := report.get(name), int | float):
            yield title, f"{number(loss, 4)} nats"


def _other_seeds(row: TrainedRow) -> str:
    about = row.entry.provenance
    seeds = [e.provenance.training_seed for e in row.board.entries if e.provenance.method_id == about.method_id]
    others = sorted(s for s in seeds if s is not None and s != about.training_seed) if about.method_id else []
    return f"; the board has rows with {', '.join(map(str, others))} too" if others else ""


def _data(row: TrainedRow, params: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The ranked dataset's own card, in short."""
    facts = row.entry.provenance.data
    yield "## Data"
    named = f"The ranked dataset {_code(str(params['name']))}" if params.get("name") else "A ranked dataset"
    prompts = facts.get("ranked", {}).get("train_prompts")
    counts = f", of {prompts:,} prompts with their responses, best first" if isinstance(prompts, int) else ""
    yield f"{named}{counts}."
    lists = sections(facts, sources, params.get("made_with", {}))
    for title, lines in lists.items():
        if lines and (params or title == "Counts"):
            yield f"### {title}"
            yield "\n".join(lines)
    notes = dict.fromkeys(escape_markdown(note) for report in facts.values() for note in stage_notes(report))
    if notes:
        yield bullets(notes)


def _licence_text(licence: Licence | None, base: Base | None, sources: Sequence[Mapping[str, Any]]) -> str:
    whose = f"the base model {escape_markdown(base.model)}" if base else "the base model"
    if licence is None:
        text = f"The licence of {whose} was not known when this card was written: find it out before you use this one."
    else:
        named = licence.name or licence.short
        link = f" ({licence.link})" if licence.link else ""
        text = f"As {whose}: {escape_markdown(named)}{escape_markdown(link)}."
    if sources:
        text += " The data has its own licences, which are listed above."
    return text


def _versions(made_by: Mapping[str, Any]) -> str:
    harness = made_by.get("harness", {})
    commit = f" ({str(harness['commit'])[:12]})" if harness.get("commit") else ""
    versions = {"preference-harness": f"{harness.get('version', 'of unknown version')}{commit}"}
    versions |= {"Python": str(made_by["python"])} if "python" in made_by else {}
    versions |= {str(name): str(version) for name, version in made_by.get("packages", {}).items()}
    return bullets([f"{escape_markdown(name)} {escape_markdown(version)}" for name, version in versions.items()])


def _loss_words(row: TrainedRow) -> str:
    return f"{_code(row.entry.method)}{' (Multi-DPO)' if loss_facts(row.entry).is_multi_dpo else ''}"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _code(text: str) -> str:
    """A name in a text, as code."""
    return f"<code>{escape_markdown(text)}</code>"


def _fenced(text: str, language: str) -> str:
    """A block of code, whatever back-ticks are in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
