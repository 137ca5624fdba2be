"""The recipes that `harness init` writes: plain YAML with a comment on every line that may be changed."""

import json
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

Kind = Literal["pairs", "quickstart", "sweep", "gate", "served"]
SCHEMA = "recipe.schema.json"
"""The file beside a recipe that editors read."""
_MODEL = "smollm2-135m-instruct"
_WHAT: Mapping[Kind, str] = {
    "pairs": "Trains on the pairs as they are, without augmentation and judge: how well are held-out pairs ordered?",
    "quickstart": "The whole road at the size of a laptop: new prompts, ranked responses, training, and a judge.\n"
    "# Its judge is the model that it trains: its figures show that the machinery works, and nothing more.",
    "sweep": "Trains on the pairs as they are, once with each learning rate: which orders held-out pairs best?",
    "gate": "Trains on the pairs as they are; the exit code says whether held-out pairs are ordered well enough.",
    "served": "New prompts, responses and verdicts by served models; training is here.",
}


class Source(NamedTuple):
    """The data of a recipe. `fields`: of its seed component, or the path under `ranked`. `said`: what is in it."""

    name: str
    fields: Mapping[str, object] | str
    said: str
    pairs: int


def recipe_text(kind: Kind, source: Source, cost: str) -> str:
    """The recipe. `cost`: the lines of `harness plan`, for the comment at its top."""
    holdout = held_out(source.pairs)
    parts = [
        f"# yaml-language-server: $schema={SCHEMA}\n# {_WHAT[kind]}\n{cost}",
        f"name: {_name(source.name)}\nseed: 0\n",
        f"policy: {{model: {_MODEL}}}    # a built-in name, a hub id, or a local folder\n",
        _PRIMARY if kind == "quickstart" else "",
        f"data:\n{_data(source)}  holdout: {holdout}    # prompts that no stage trains on: a number or a share\n",
        _augmentation(kind, source.pairs - holdout),
        _methods(kind, ranked=isinstance(source.fields, str)),
        _TRAINING,
        _REST[kind],
    ]
    return "".join(parts)


_PRIMARY = (
    "primary:    # what the board says first: of your own held-out pairs, since this judge knows little\n"
    "  metric: heldout.pair_accuracy\n  comparisons: [[multi-dpo, dpo]]\n"
)


def held_out(pairs: int) -> int:
    """How many of so many pairs no stage trains on."""
    return max(1, round(pairs / 5))


def _data(source: Source) -> str:
    if isinstance(source.fields, str):
        return f"  ranked: {_written(source.fields)}    # {source.said}\n"
    fields = ", ".join(f"{name}: {_written(value)}" for name, value in source.fields.items())
    return f"  seeds:    # {source.said}\n    - {{{fields}}}\n"


def _written(value: object) -> str:
    """A value in YAML. JSON is YAML; words that need no quotes have none."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_written(inner)}' for name, inner in value.items())}}}"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_./][\w./-]*", value) and value.lower() not in _NOT_TEXT
    return value if plain and isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace("${", "$${")


_NOT_TEXT = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", ".inf", ".nan")


def _augmentation(kind: Kind, training: int) -> str:
    if kind not in ("quickstart", "served"):
        return ""
    served = kind == "served"
    writer = "{name: openai, model: my-model, base_url: *server}" if served else f"{{name: hf, model: {_MODEL}}}"
    count, tokens, seeds = (50, 256, "true") if served else (6, 64, str(min(24, training)))
    trained = f"{{name: trained, base: {_MODEL}, epochs: 1}}"
    reward = trained if served else f"{{name: features}}    # counts of a text; {trained} reads it"
    return (
        "  prompts:    # new prompts, like the seed prompts that the generator is shown\n"
        f"    generator: {writer.replace('*server', _SERVER)}\n"
        f"    count: {count}\n    shots: {min(6, training)}\n"
        "  responses:    # n a prompt; of a seed prompt, two are its own chosen and rejected answer\n"
        f"    generator: {writer.replace('*server', _SERVER)}\n"
        f"    n: 4\n    max_new_tokens: {tokens}\n"
        f"    seed_prompts: {seeds}    # how many of the seed's {training} training prompts get responses; true: all\n"
        f"  # What ranks the responses; harness components reward lists others.\n  reward: {reward}\n"
    )


_SERVER = '"http://127.0.0.1:8000/v1"'


def _methods(kind: Kind, *, ranked: bool) -> str:
    lines = ["methods:    # each trains on the same data; harness components loss lists all losses\n"]
    lines.append("  - {id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}\n")
    if ranked or kind in ("quickstart", "served"):
        lines.append("  - {id: multi-dpo, loss: {name: mdpo_linear, beta: 0.1}}\n")
    else:
        lines.append("  - {id: ipo, loss: {name: ipo_pairs, beta: 0.1}}\n")
        lines.append("  # Over two responses a prompt Multi-DPO is DPO: init --from quickstart samples more of them\n")
    return "".join(lines)


_TRAINING = (
    "training:\n  epochs: 1\n  batch_size: 4    # prompts per optimizer step\n"
    "  learning_rate: 2.0e-4    # of LoRA adapters; a tenth of it for whole models\n  lora: {r: 16}\n"
    "  seeds: [0]    # [0, 1, 2, 3, 4] also says how much training varies\n"
)
_EVALUATION = """evaluation:
  judge: {judge}
  answers: {{max_new_tokens: {tokens}}}
  benchmarks:
    - {{name: alpaca_eval, prompts: builtin, reference: base, limit: 10}}    # without prompts and limit: the real set
    - {{name: mt_bench, questions: builtin, limit: 8}}
"""
_REST: Mapping[Kind, str] = {
    "pairs": "",
    "quickstart": _EVALUATION.format(judge=f"{{name: local, model: {_MODEL}}}", tokens=64),
    "sweep": "sweep:    # every value is a cell; cells share what they have in common\n"
    "  training.learning_rate: [5.0e-5, 1.0e-4, 2.0e-4]\n",
    "gate": "gates:    # exit code 1 if a row is below the floor, or worse than a baseline\n"
    "  - {row: dpo.seed-0, metric: heldout.pair_accuracy, min: 50}\n"
    "# - {row: dpo.seed-0, metric: heldout.pair_accuracy, baseline: baseline.json}    # by harness baseline promote\n",
    "served": _EVALUATION.format(judge=f"{{name: openai, model: my-judge, base_url: {_SERVER}}}", tokens=512),
}


def _name(text: str) -> str:
    """A recipe's name from a file's."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    return name if name and name[0].isalpha() and name not in _NOT_TEXT else f"own-{name}".strip("-")
