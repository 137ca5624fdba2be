"""IFBench: its own sample outputs give the official results, row by row."""

import pytest

pytest.importorskip("if_verifiable", reason="needs preference-harness[ifbench]")

from harness.benchmarks.ifbench.benchmark import LOOSE, STRICT, IfBench
from harness.benchmarks.ifbench.verifiers import RESOURCES, Constrained, kept
from harness.errors import DataError
from harness.stages.verdicts import NOBODY
from tests.benchmarks.tax.data import folder, lines


def test_official_results_row_by_row() -> None:
    nltk = pytest.importorskip("nltk")
    try:
        nltk.data.find(RESOURCES["punkt_tab"])
    except LookupError:
        pytest.skip("needs NLTK's data: python -m nltk.downloader punkt_tab stopwords averaged_perceptron_tagger_eng")
    data = folder("tax/ifbench")
    own = IfBench(data_dir=data)
    answers, counts = own.recorded_answers(data / "sample_output.jsonl.gz")
    assert counts == {"missing": 7, "unknown": 1}  # of 294 rows, one runs several prompts together
    official = {
        turn: {
            row["prompt"].strip(): row["follow_instruction_list"]
            for row in lines(data / f"eval_results_{way}.jsonl.gz")
        }
        for turn, way in ((STRICT, "strict"), (LOOSE, "loose"))
    }
    prompts = {one.id: one.prompt.strip() for one in own._prompts()}
    verdicts = own.verdicts(answers, [], NOBODY)
    assert len(verdicts) == 600
    lacking = [v for v in verdicts if v.invalid not in (None, "no answer")]
    assert len(lacking) in (0, 12), lacking  # six prompts need the tagger, which may be absent
    scored = [v for v in verdicts if v.value is not None]
    assert len(scored) == 2 * 293 - len(lacking)
    for verdict in scored:
        assert verdict.turn is not None
        expected = official[verdict.turn][prompts[verdict.question_id]]
        assert verdict.detail["kept"] == expected, verdict
        assert verdict.value == all(expected)


def test_an_empty_answer_keeps_nothing_and_an_unknown_constraint_is_refused() -> None:
    asked = Constrained("1", "Say hi.", ("count:word_count_range",), ({"min_words": 1, "max_words": 3},))
    assert kept(asked, " \n").strict == (False,)
    assert kept(asked, "hi there").strict == (True,)
    assert kept(asked, "one two three four").loose == (False,)
    with pytest.raises(DataError, match="no verifier of 'count:stars'"):
        kept(asked._replace(instructions=("count:stars",)), "hi")
