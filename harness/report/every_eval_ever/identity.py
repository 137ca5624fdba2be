"""Who was evaluated, who evaluated, and when: what all results of a record share, and where its file is."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.errors import DataError, quoted

LOCAL = "local"
"""The owner in a model's id where nobody is named: the schema's ids are `OWNER/NAME`."""
ELSEWHERE = ("public", "reported")
"""Methods of rows that somebody else measured."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_NOT_NAMES = re.compile(r"(?:data|unknown|con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\..*)?", re.IGNORECASE)
"""Names that the datastore or a file system refuses."""
_LONGEST = 80


class HubModel(NamedTuple):
    """What a built-in model is called on the hub, and how its weights differ from those there."""

    id: str
    variant: str = ""


@dataclass(frozen=True)
class Context:
    """What a board's records share. `owner`: who evaluated, and trained; None: not said. `builtin`: built-in models by
    their names here. `moment`: when the board was written."""

    board: Board
    owner: str | None
    builtin: Mapping[str, HubModel]
    moment: datetime

    @property
    def collection(self) -> str:
        """The folder of the board's records."""
        return path_part(self.board.name)

    @property
    def seconds(self) -> str:
        """The moment as the schema has it: Unix time."""
        return str(int(self.moment.timestamp()))


def board_moment(board: Board) -> datetime:
    """When a board was written. Raises DataError where it doesn't say."""
    try:
        found = datetime.fromisoformat(board.generated or "")
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except ValueError:
        said = f"says {quoted(board.generated)}" if board.generated else "has no board.json that says it"
        raise DataError(
            f"{board.name}: a record needs the time at which its figures were made, and the board {said}; expected an "
            "ISO 8601 time under `generated`: write the board with harness merge"
        ) from None


def path_part(name: str) -> str:
    """A name as one part of a path on every system; a changed one ends in a hash."""
    plain = _UNSAFE.sub("-", name).strip("-._")[:_LONGEST].strip("-._")
    if plain == name and not _NOT_NAMES.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"{plain}-{digest}" if plain and not _NOT_NAMES.fullmatch(plain) else f"row-{digest}"


def public_name(model: str, builtin: Mapping[str, HubModel]) -> str:
    """A model's id on the hub, or its name as it is; of a folder, its last part: where it lies says nothing."""
    if model in builtin:
        return builtin[model].id
    for kind in (PurePosixPath, PureWindowsPath):
        if (path := kind(model)).is_absolute():
            return path.name or model
    return model


def base_model(entry: Entry, builtin: Mapping[str, HubModel]) -> str | None:
    """What the row's base model is called; None for a row without a policy."""
    model = (entry.provenance.policy or {}).get("model")
    return public_name(model, builtin) if isinstance(model, str) and model else None


def _published(entry: Entry, about: Context) -> str | None:
    """The hub's id of a row that is somebody's model as it is: the untrained policy, or the one of a record."""
    reported = entry.provenance.plain().get("reported")
    if entry.method == "reported" and isinstance(reported, dict):
        name = str(reported.get("model"))
    else:
        name = (base_model(entry, about.builtin) or "") if entry.method == "base" else ""
    is_plain = _HUB_ID.fullmatch(name) and all(part == path_part(part) for part in name.split("/"))
    return name if is_plain else None


def model_id(entry: Entry, about: Context) -> str:
    """`OWNER/NAME`: a published model's, or one made of the board and the row."""
    owner = LOCAL if entry.method in ELSEWHERE else about.owner or LOCAL
    return _published(entry, about) or f"{path_part(owner)}/{path_part(f'{about.board.name}-{entry.id}')}"


def evaluation_id(entry: Entry, about: Context) -> str:
    """The evaluation of a row: unlike the model, which may be on several rows and boards, it is there once."""
    return f"{about.collection}.{path_part(entry.id)}/{model_id(entry, about)}/{about.seconds}"


def record_file(entry: Entry, about: Context) -> str:
    """The record's path in the datastore, which follows from the evaluation."""
    digest = hashlib.sha256(evaluation_id(entry, about).encode()).digest()
    name = uuid.UUID(bytes=digest[:16], version=4)
    return f"data/{about.collection}/{model_id(entry, about)}/{name}.json"


def samples_file(record: str) -> str:
    """The path of a record's samples."""
    return f"{record.removesuffix('.json')}_samples.jsonl"


def texts(details: Mapping[str, Any]) -> dict[str, str]:
    """Details as the schema has them: texts only. What is None is left out; other values are JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
        for name, value in details.items()
        if value is not None
    }


def model_info(entry: Entry, about: Context) -> dict[str, Any]:
    """The evaluated model. The weights of a trained one are on nobody's hub as far as a board says."""
    found = model_id(entry, about)
    is_published = _published(entry, about) is not None
    facts = entry.provenance
    policy = facts.policy or {}
    builtin = about.builtin.get(str(policy.get("model")))
    method, training = _method(entry)
    lora = training.get("lora")
    trained = entry.method not in ("base", "system", *ELSEWHERE)
    details = {
        "deployment_type": "self_deployed" if policy else "unknown",
        "model_availability": "open_weights" if entry.method == "base" and is_published else "unknown",
        "base_model": base_model(entry, about.builtin),
        "base_weights": builtin.variant if builtin else None,
        "base_revision": policy.get("revision"),
        "base_sha256": policy.get("sha256"),
        "dtype": policy.get("dtype"),
        "chat_template_kwargs": policy.get("chat_template_kwargs"),
        "method": entry.method,
        "adapter": ("LoRA" if lora else "none") if trained and training else None,
        "lora": lora if trained else None,
        "loss": method.get("loss"),
        "training_seed": facts.training_seed if facts.training_seed is not None else facts.seed if trained else None,
        "fine_tuned": facts.sft.row if facts.sft else None,
        "reconstruction": facts.reconstruction,
    }
    developer = found.split("/")[0] if is_published else about.owner if entry.method not in ELSEWHERE else None
    engine = _engine(entry)
    return {
        "name": found.split("/")[1] if is_published else f"{about.board.name} {entry.id}",
        "id": found,
        **({"developer": developer} if developer else {}),
        **({"inference_platform": "self-hosted", "inference_engine": engine} if engine else {}),
        "additional_details": texts(details),
    }


def _method(entry: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the row's method in its recipe, the settings of its training); empty where the board doesn't say."""
    recipe = entry.provenance.recipe or {}
    training, methods = recipe.get("training"), recipe.get("methods")
    ids = (entry.id, entry.provenance.method_id)
    listed = methods if isinstance(methods, list) else []
    method = next((one for one in listed if isinstance(one, dict) and one.get("id") in ids), {})
    own = method.get("training")
    common = training if isinstance(training, dict) else {}
    return method, {**common, **(own if isinstance(own, dict) else {})}


def answer_settings(entry: Entry) -> dict[str, Any]:
    """How the row sampled its answers, as its recipe says; empty where its answers came from elsewhere."""
    evaluation = (entry.provenance.recipe or {}).get("evaluation")
    answers = evaluation.get("answers") if isinstance(evaluation, dict) else None
    return answers if isinstance(answers, dict) and entry.provenance.policy else {}


def _engine(entry: Entry) -> dict[str, str] | None:
    """What decoded the row's answers: an engine that the recipe names, or transformers in process."""
    if not entry.provenance.policy:
        return None
    generator = answer_settings(entry).get("generator")
    if isinstance(generator, dict):
        named = (generator.get("engine"), generator.get("name"))
        return {"name": next((name for name in named if isinstance(name, str)), "not named")}
    packages = (entry.provenance.made_by or {}).get("packages")
    version = packages.get("transformers") if isinstance(packages, dict) else None
    return {"name": "transformers", **({"version": str(version)} if version else {})}


def source_metadata(entry: Entry, about: Context) -> dict[str, Any]:
    """Who measured. Rows without outcomes are what somebody else reported."""
    reported = entry.method in ELSEWHERE
    own = about.owner is not None and model_id(entry, about).startswith(f"{path_part(about.owner)}/")
    trained = entry.provenance.policy is not None and entry.method != "base"
    relation = "other" if reported else "first_party" if trained or own else "third_party"
    details = {
        "board": about.board.name,
        "row": entry.id,
        "reported_by": entry.provenance.public,
    }
    return {
        "source_name": f"preference-harness board: {about.board.name}",
        "source_type": "evaluation_run" if any(entry.outcomes.values()) else "documentation",
        "source_organization_name": about.owner or "not stated",
        "evaluator_relationship": relation,
        "additional_details": texts(details),
    }
