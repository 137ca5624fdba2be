"""What Every Eval Ever asks of files: the two JSON Schemas of its version 0.3.0, unchanged beside their licence (MIT),
and the rules of its validator that a schema can't say (`validator/validation_core.py`)."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from harness.models.builtin.fetch import BUILTIN
from harness.report.every_eval_ever.identity import HubModel

SCHEMAS = Path(__file__).parent / "schemas"
BUILTINS = {name: HubModel(model.hub, model.variant) for name, model in BUILTIN.items()}
AGGREGATE, SAMPLE = (
    Draft7Validator(json.loads((SCHEMAS / name).read_text()))
    for name in ("eval.schema.json", "instance_level_eval.schema.json")
)
_UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_FILE = re.compile(rf"data/[\w.-]+/([\w.-]+/[\w.-]+)/{_UUID4}(\.json|_samples\.jsonl)", re.ASCII)


def checked(folder: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Records and their samples by path, after all checks."""
    found = {}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names
    assert all(_FILE.fullmatch(name) for name in names), names
    for name in names:
        if name.endswith(".json"):
            record = json.loads((folder / name).read_text(), parse_constant=lambda text: 1 / 0)
            AGGREGATE.validate(record)
            found[name] = record, _samples(folder, name, record)
            assert record["model_info"]["id"] == _FILE.fullmatch(name)[1]  # type: ignore[index]
            for result in record["evaluation_results"]:
                _check_bounds(result)
    samples = {name for name in names if name.endswith(".jsonl")}
    assert samples == {r["detailed_evaluation_results"]["file_path"] for r, lines in found.values() if lines}
    assert len({record["evaluation_id"] for record, _ in found.values()}) == len(found)
    return found


def _check_bounds(result: dict[str, Any]) -> None:
    config = result["metric_config"]
    assert float(config["min_score"]) <= result["score_details"]["score"] <= float(config["max_score"])


def _samples(folder: Path, name: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    about = record.get("detailed_evaluation_results")
    if about is None:
        return []
    assert about["file_path"] == f"{name.removesuffix('.json')}_samples.jsonl"
    data = (folder / about["file_path"]).read_bytes()
    assert about["checksum"] == hashlib.sha256(data).hexdigest()
    lines = [json.loads(line) for line in data.decode().splitlines()]
    assert about["total_rows"] == len(lines)
    ids = {result["evaluation_result_id"] for result in record["evaluation_results"]}
    for line in lines:
        SAMPLE.validate(line)
        assert (line["evaluation_id"], line["model_id"]) == (record["evaluation_id"], record["model_info"]["id"])
        assert line["evaluation_result_id"] in ids
        given = line["input"]["raw"] + "".join(line["input"]["reference"])
        assert line["sample_hash"] == hashlib.sha256(given.encode()).hexdigest()
    return lines
