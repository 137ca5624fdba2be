"""A board of records: rows that were measured elsewhere.

A row of a record is told apart by its method, `reported`. Records of this harness bring the outcomes of their rows,
from which figures must follow, and the judge's identity: such rows stand in one table with others by that judge, and
are compared with them. Figures from anybody else's record have no outcomes that ours could be paired with, and a table
of their own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.boards.consistency import contradiction
from harness.boards.entry import Entry
from harness.boards.provenance import Provenance
from harness.boards.read import parse_record
from harness.errors import DataError, StoreError, quoted
from harness.printable import printable
from harness.report.every_eval_ever import LIBRARY
from harness.report.every_eval_ever.reported import (
    Contradiction,
    Unusable,
    check_bounds,
    one_identity,
    reported,
    scaled,
)
from harness.report.every_eval_ever.schema import KEPT, ROW, EvaluationRecord, OwnRow, read_evaluation
from harness.report.write import write_board
from harness.types import Metric

METHOD = "reported"
"""The method of such rows."""
_UNKNOWN = "not measured here: reported elsewhere"
"""What is known of the calibration of other people's judges."""


class Imported(NamedTuple):
    """`rows`, and the number of records that they are from. `left_out`: what was not read, with its count."""

    rows: tuple[Entry, ...]
    records: int
    left_out: Counter[str]


def import_records(source: Path, out: Path) -> Imported:
    """Make a board of a record, or of all records in a folder and below it. `out`: a new folder. Raises DataError, with
    the file and the field, for what is no record or can't be right, for figures that contradict their own outcomes, and
    where nothing can be read; StoreError where the folder can't be written or isn't new."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StoreError(f"{out} exists; expected a new folder: name another one, and join boards with harness merge")
    files = _files(source)
    inside = source if source.is_dir() else source.parent
    left_out: Counter[str] = Counter()
    rows = []
    for path in files:
        record = read_evaluation(path, inside)
        if (entry := _row(record, path, left_out)) is not None:
            rows.append((path, record, entry))
    if not rows:
        reasons = "".join(f"; left out: {count} {what}" for what, count in left_out.items())
        raise DataError(f"{source}: no figure that boards have{printable(reasons, 400)}")
    entries = _with_own_ids(rows)
    write_board(out, out.absolute().name, entries)
    return Imported(tuple(entries), len(files), left_out)


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise DataError(f"{source} does not exist; expected a record of Every Eval Ever, or a folder of them")
    if not source.is_dir():
        return [source]
    found = [path for path in sorted(source.rglob("*.json")) if not path.name.startswith(".")]
    if not found:
        raise DataError(f"{source}: no *.json in it; expected records of Every Eval Ever")
    return found


def _row(record: EvaluationRecord, path: Path, left_out: Counter[str]) -> Entry | None:
    """The record's row; None where none of its figures is ours. Counts what is left out."""
    own = record.eval_library.additional_details.get(ROW) if record.eval_library.name == LIBRARY else None
    entry = _own(record, own, path) if own is not None else _other(record, path, left_out)
    if entry is not None and (problem := contradiction(entry)):
        raise DataError(f"{path}: {problem}; export the board again, or leave the record out")
    return entry


def _own(record: EvaluationRecord, text: str, path: Path) -> Entry:
    where = f"{path}: eval_library.additional_details.{ROW}"
    row = parse_record(text, OwnRow, where, "a row as harness export writes it")
    metrics = dict(row.unscored)
    for i, result in enumerate(record.evaluation_results):
        place = f"{path}: evaluation_results.{i}"
        name, invalid = result.metric_config.metric_id, result.score_details.details.get("n_invalid", "")
        about = result.score_details.uncertainty
        if not name or name in metrics:
            raise DataError(f"{place}.metric_config.metric_id: {quoted(name or '')}; expected each figure once")
        if (
            not (invalid.isascii() and invalid.isdigit() and len(invalid) < 16)
            or not about
            or about.num_samples is None
        ):
            raise DataError(
                f"{place}.score_details: expected uncertainty.num_samples, and a number as details.n_invalid"
            )
        try:
            check_bounds(result)
            metrics[name] = scaled(result, 1.0, about.num_samples, int(invalid))
        except Contradiction as error:
            raise DataError(f"{place}.{error}") from None
    kept = {key: value for key, value in row.provenance.plain().items() if key in KEPT}
    about_row = {**kept, **_said_of(record, row.method)}
    return Entry(
        id=row.id,
        method=METHOD,
        metrics=metrics,
        provenance=Provenance.model_validate(about_row),
        outcomes=row.outcomes,
        figures=row.figures,
        strata=row.strata,
    )


def _other(record: EvaluationRecord, path: Path, left_out: Counter[str]) -> Entry | None:
    found = []
    for i, result in enumerate(record.evaluation_results):
        try:
            one = reported(result)
        except Unusable as error:
            left_out[f"results of {printable(result.evaluation_name, 60)} {error}"] += 1
            continue
        except Contradiction as error:
            raise DataError(f"{path}: evaluation_results.{i}.{error}") from None
        if one is None:
            left_out["results of other benchmarks"] += 1
        else:
            found.append((i, one))
    metrics: dict[str, Metric] = {}
    for i, one in found:
        if one.metric in metrics:
            raise DataError(f"{path}: evaluation_results.{i}: a second {one.metric}; expected each figure once")
        metrics[one.metric] = one.figure
    if not metrics:
        return None
    if record.detailed_evaluation_results:
        left_out["files of samples, which boards can't pair with their own answers"] += 1
    try:
        identities = one_identity([one for _, one in found])
    except Contradiction as error:
        raise DataError(f"{path}: evaluation_results: {error}") from None
    about = {
        "judge": _judge(identities),
        "judge_calibration": _UNKNOWN,
        "benchmarks": identities,
        **_said_of(record, None),
    }
    return Entry(id=record.model_info.id, method=METHOD, metrics=metrics, provenance=Provenance.model_validate(about))


def _judge(identities: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Who judged, by name: for one benchmark or for each. No judge of ours has this identity."""
    named = {name: identity.get("judged_by", "a judge that isn't named") for name, identity in identities.items()}
    names = set(named.values())
    model = names.pop() if len(names) == 1 else "; ".join(f"{name}: {judge}" for name, judge in sorted(named.items()))
    return {"name": METHOD, "model": model}


def _said_of(record: EvaluationRecord, method: str | None) -> dict[str, Any]:
    """What the row's provenance says of its record."""
    source = record.source_metadata
    by = source.source_name or source.source_organization_name
    return {
        "public": f"Every Eval Ever: {by}, {record.evaluation_id}",
        "reported": {
            "evaluation_id": record.evaluation_id,
            "retrieved_timestamp": record.retrieved_timestamp,
            "source": by,
            "organization": source.source_organization_name,
            "relationship": source.evaluator_relationship,
            "library": f"{record.eval_library.name} {record.eval_library.version}",
            "model": record.model_info.id,
            **({"method": method} if method else {}),
        },
    }


def _with_own_ids(rows: Sequence[tuple[Path, EvaluationRecord, Entry]]) -> list[Entry]:
    """The rows, untrained policies first; of several with one id, each is also named by its source, or else by its
    evaluation. Raises DataError for one evaluation in two files."""
    evaluations: dict[str, Path] = {}
    for path, record, _ in rows:
        if (first := evaluations.setdefault(record.evaluation_id, path)) is not path:
            raise DataError(f"{path}: evaluation_id: that of {first}; remove one of the two")
    ids = [entry.id for _, _, entry in rows]
    by_source = [f"{entry.id} ({record.source_metadata.source_name})" for _, record, entry in rows]
    by_evaluation = [f"{entry.id} ({record.evaluation_id})" for _, record, entry in rows]
    names = [
        next((name for name, others in ((a, ids), (b, by_source)) if others.count(name) == 1), c)
        for a, b, c in zip(ids, by_source, by_evaluation, strict=True)
    ]
    entries = [entry.model_copy(update={"id": name}) for (_, _, entry), name in zip(rows, names, strict=True)]
    return sorted(entries, key=lambda entry: (entry.provenance.plain()["reported"].get("method") != "base", entry.id))
