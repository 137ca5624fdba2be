"""A run's gold verdicts: those of its recipe's stronger judge, or of the file that it names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.boards.entry import Entry
from harness.boards.folder import write_owned
from harness.boards.gold.verdicts import GOLD, RECIPE_FILE, GoldVerdict, read_verdicts, verdicts_text
from harness.boards.writing import writing
from harness.engine.execute import ExecutionResult
from harness.judging.gold.board import gold_entries
from harness.pipeline.public_data import judge_name
from harness.pipeline.study import StudyPlan
from harness.types import Verdict


def gold_verdicts(plan: StudyPlan, executed: ExecutionResult) -> list[GoldVerdict]:
    """The gold verdicts on all rows. Raises DataError for a file that can't be read."""
    found: dict[str, GoldVerdict] = {}
    for member in plan.rows:
        evaluation = member.cell.recipe.evaluation
        gold = evaluation.gold if evaluation else None
        if gold is None:
            continue
        if gold.file is not None:
            found |= {verdict.model_dump_json(): verdict for verdict in read_verdicts(gold.file)}
            continue
        assert gold.judge is not None
        by = judge_name(gold.judge)
        for name, stage in member.row.gold.items():
            for verdict in executed.artifacts[stage.key].rows("verdicts.jsonl", Verdict):
                made = GoldVerdict(benchmark=name, prompt=verdict.key, row=member.row.id, value=verdict.value, by=by)
                found[made.model_dump_json()] = made
    return list(found.values())


def with_gold_verdicts(
    folder: Path, name: str, entries: Sequence[Entry], verdicts: Sequence[GoldVerdict]
) -> list[Entry]:
    """The rows with what gold verdicts make of their figures: these, which are written into the board's folder, or
    where there are none people's, which are there. The folder's answers must be the rows'."""
    files: Mapping[str, str] = {f"{GOLD}/{RECIPE_FILE}": verdicts_text(verdicts)} if verdicts else {}
    with writing(folder):
        write_owned(folder, files, among=lambda file: file.startswith(f"{GOLD}/"))
    return gold_entries(folder, name, entries)
