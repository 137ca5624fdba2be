"""What a board says in words: judges, data, training, seeds, budgets."""

import csv
import io
from pathlib import Path

from hypothesis import strategies as st

from harness.boards.entry import Entry
from harness.report.write import write_board
from harness.stats.intervals import accuracy_metric
from harness.types import Metric
from tests.sample_boards import drawn, entry, four_rows, markdown_tables, metric, seed_row, with_provenance

any_text = st.text(max_size=40) | st.sampled_from(
    ["a|b", "`x`\n| y |", "<script>alert(1)</script>", "=1+1", "-cmd", "@SUM(A1)", "\t=1", "\r\n", "'=2", "''-x", "-5",
     "**b** _i_ [l](javascript:x)", "&lt;", "\\|", "#", " edge ", "\u202eevil", "</textarea>", "a\u2028b", "+1e5"]
)  # fmt: skip
no_controls = any_text.map(lambda s: "".join(c for c in s if c in "\t\r\n" or not (ord(c) < 32 or 127 <= ord(c) < 160)))


def test_an_uncalibrated_judge_is_named_in_words(tmp_path: Path) -> None:
    write_board(tmp_path / "a", "quickstart", four_rows())
    markdown, shown = (tmp_path / "a" / "board.md").read_text(), " ".join(drawn(tmp_path / "a", 300).split())
    for text in (markdown, shown):
        assert "The judge (local smollm2-135m-instruct) is not calibrated" in text
        assert "they do not measure quality" in text
    calibrated = entry("dpo", "sdpo", judge_calibration="kappa 0.71 against 500 official verdicts")
    unjudged = entry("x", "sdpo", judge=None, judge_calibration=None)
    for row in (calibrated, unjudged):
        write_board(tmp_path / row.id, "quickstart", [row])
        assert "not calibrated" not in (tmp_path / row.id / "board.md").read_text()
        assert "uncalibrated" not in drawn(tmp_path / row.id, 100)
    assert "kappa 0.71" in (tmp_path / "dpo" / "board.md").read_text()


def test_a_judge_without_a_calibration_on_record_is_uncalibrated(tmp_path: Path) -> None:
    row = with_provenance(entry("dpo", "sdpo"), "judge_calibration")
    write_board(tmp_path, "quickstart", [row])
    assert "is not calibrated" in (tmp_path / "board.md").read_text()


def test_multi_dpo_is_called_a_reconstruction(tmp_path: Path) -> None:
    write_board(tmp_path / "with", "quickstart", four_rows())
    write_board(tmp_path / "without", "quickstart", four_rows()[:3])
    said = "Multi-DPO here is a reconstruction of arXiv 2412.07812"
    assert said in (tmp_path / "with" / "board.md").read_text()
    assert said in " ".join(drawn(tmp_path / "with", 100).split())
    assert said not in (tmp_path / "without" / "board.md").read_text()
    assert said not in " ".join(drawn(tmp_path / "without", 100).split())


def test_data_and_training_are_shown_where_known(tmp_path: Path) -> None:
    known = {
        "data": {
            "ranked": {"train_prompts": 1080, "mean_score_spread": 2.718281828, "ranked_first_by_source": {"a": 3}},
            "reward": {"training": {}, "heldout_accuracy": metric(0.75, 0.125, n=12).model_dump(mode="json")},
        },
        "seed": 7,
        "training": {"steps": 16, "tokens": 48213, "first_loss": 0.6931, "last_loss": 0.61},
    }
    write_board(tmp_path / "a", "quickstart", [entry("base", "base"), entry("dpo", "sdpo", **known)])
    text = (tmp_path / "a" / "board.md").read_text()
    assert "- Ranked data: 2.718 mean score spread, 1,080 train prompts\n" in text
    assert "- Reward model: accuracy on held-out seed pairs 0.750 [0.625, 0.875] (n=12)\n" in text
    training = markdown_tables(text)[-1]
    assert training[1:] == [["dpo", "sdpo", "7", "16", "48,213", "0.6931", "0.6100"]]
    write_board(tmp_path / "b", "quickstart", [entry("base", "base")])
    assert "Data, training and cost" not in (tmp_path / "b" / "board.md").read_text()


def test_what_went_wrong_in_training_is_said(tmp_path: Path) -> None:
    training = {"steps": 6, "warnings": ["loss spikes: 2 of 6"], "stopped": "training step 7: the loss is not finite"}
    write_board(tmp_path, "quickstart", [entry("base", "base"), entry("dpo", "sdpo", training=training)])
    text = (tmp_path / "board.md").read_text()
    assert "- **dpo**: training step 7: the loss is not finite\n- **dpo**: loss spikes: 2 of 6" in text
    shown = " ".join(drawn(tmp_path, 100).split())
    assert "dpo: training step 7: the loss is not finite dpo: loss spikes: 2 of 6" in shown


def test_figures_over_training_seeds_stand_apart_from_intervals(tmp_path: Path) -> None:
    def figures(score: float, accuracy: float | None) -> dict[str, Metric]:
        known = Metric(value=None, n_invalid=10) if accuracy is None else accuracy_metric(ordered(accuracy))
        return {"mt_bench.score": metric(score, 0.2), "heldout.pair_accuracy": known}

    def ordered(accuracy: float) -> list[float]:
        return [float(i < 10 * accuracy) for i in range(10)]

    def with_pairs(row: Entry) -> Entry:
        accuracy = row.value("heldout.pair_accuracy")
        pairs = [None] * 10 if accuracy is None else [x - 0.5 for x in ordered(accuracy)]
        heldout = {f"p{i}": margin for i, margin in enumerate(pairs)}
        return row.model_copy(update={"outcomes": {**row.outcomes, "heldout": heldout}})

    rows = [
        entry("base", "base", figures(4.0, 0.5)),
        seed_row("s", 0, figures(5.0, 0.7), seed=9, training={"steps": 3}),
        seed_row("s", 1, figures(6.0, None), seed=9, training={"steps": 3}),
        seed_row("s", 7, figures(8.5, 0.9), seed=9, training={"steps": 3}),
        seed_row("t", 0, figures(5.0, None)),
    ]
    write_board(tmp_path, "quickstart", [with_pairs(row) for row in rows])
    text = (tmp_path / "board.md").read_text()
    figures_table, over_seeds, *_, training = markdown_tables(text)
    assert [line[0] for line in figures_table[1:]] == ["base", "s.seed-0", "s.seed-1", "s.seed-7", "t.seed-0"]
    assert over_seeds == [
        ["method", "loss", "training seeds", "MT-bench score", "Held-out pair accuracy"],
        ["s", "sdpo", "0, 1, 7 (n=3)", "6.50 [2.02, 10.00]", "0.800 [0.000, 1.000] (in 2 of 3)"],
        ["t", "sdpo", "0 (n=1)", "5.00", "in none of 1"],
    ]
    assert [line[2] for line in training[1:]] == ["0", "1", "7"]
    assert "### Over training seeds\n\nMean over training seeds with its 95 % CI" in text
    for width in (40, 100):
        shown = drawn(tmp_path, width)
        assert "Over training seeds" in shown
        assert "6.50 [2.02, 10.00]" in shown
        assert "0.800 [0.000, 1.000] (in 2 of 3)" in shown
        assert max(map(len, shown.splitlines())) <= width


def test_without_training_seeds_nothing_is_said_of_them(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", four_rows())
    assert "training seeds" not in (tmp_path / "board.md").read_text()
    assert "training seeds" not in drawn(tmp_path, 100)


def test_a_budget_is_told_beside_what_was_used(tmp_path: Path) -> None:
    known = {"steps": 4, "tokens": 90, "prompts_seen": 16, "forward_tokens": 1234}
    given = {"match": "tokens", "budget": 1300, "used": 1234}
    rows = [entry("a", "sdpo", training=known), entry("b", "sdpo", training=known | given, match_to="a")]
    write_board(tmp_path, "quickstart", rows)
    text, note = (
        (tmp_path / "board.md").read_text(),
        "trained for as many tokens through the policy as a: 1,300 there, 1,234 here.",
    )
    assert f"- b: {note}\n" in text
    assert f"b: {note}" in " ".join(drawn(tmp_path, 100).split())
    training = markdown_tables(text)[-1]
    assert training[0][3:7] == ["steps", "prompts seen", "tokens through the policy", "response tokens"]
    assert training[1][3:7] == ["4", "16", "1,234", "90"]


def test_metrics_without_a_place_are_still_shown(tmp_path: Path) -> None:
    figures = {"alpaca_eval.wins": Metric(value=12.0, n=30), "heldout.a|b": metric(0.5, 0.25)}
    write_board(tmp_path, "quickstart", [entry("dpo", "sdpo", figures)])
    assert markdown_tables((tmp_path / "board.md").read_text())[-1] == [
        ["row", "AlpacaEval wins (n=30)", "heldout.a|b (n=30)"],
        ["dpo", "12", "0.5000 [0.2500, 0.7500]"],
    ]


# --- in the terminal


def test_an_empty_board_is_drawn(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", [])
    assert "quickstart" in drawn(tmp_path, 80)
    assert list(csv.reader(io.StringIO((tmp_path / "board.csv").read_text()))) == [["id", "method"]]


def test_leaks_and_the_admission_of_the_reward_model_are_told(tmp_path: Path) -> None:
    admission = {
        "accuracy": {"value": 0.2, "ci95": [0.1, 0.4], "n": 30},
        "ties": 2,
        "not_scored": 0,
        "length_correlation": {"value": 0.123, "ci95": [-0.1, 0.3]},
        "longer_preferred": {"value": None},
        "batch": {"applies": True, "largest_difference": 2e-6, "rounding": 0.02},
    }
    seeds = {"train": 9, "leaks": {"alpaca_eval": 1, "mt_bench": 0}, "leaks_dropped": 1}
    kept = {"train": 10, "leaks": {"alpaca_eval": 1}, "leaks_dropped": 0}
    data = {"seeds": seeds, "reward": {"training": {}, "admission": admission}, "prompts": {"kept": 3, "leaks": {}}}
    write_board(tmp_path / "a", "x", [entry("dpo", "sdpo", data=data)])
    text = (tmp_path / "a" / "board.md").read_text()
    assert "prompts of the evaluation sets found: 1 of alpaca_eval, 0 of mt_bench\n" in text
    assert (
        "- Reward model: 2 ties and 0 not scored; rank correlation of score and length 0.12 &#91;−0.10, 0.30&#93;; "
        "it orders held-out pairs worse than chance; "
        "scores alone and in a batch of 16 agree to 2e-06 (rounding in half precision: 0.02)\n"
    ) in text
    write_board(tmp_path / "b", "x", [entry("dpo", "sdpo", data={"seeds": kept})])
    assert "1 of alpaca_eval, kept as the recipe says" in (tmp_path / "b" / "board.md").read_text()


def test_parts_comparisons_and_what_more_responses_bring_are_told(tmp_path: Path) -> None:
    admission = {"ties": 0, "not_scored": 1}
    reward = {"training": {}, "admission": admission}
    rows = [{"n": n, "best_sd": 0.5 * n - 0.5, "spread_sd": n - 1.0, "prompts": 12} for n in (1, 2, 3)]
    tau = {"value": 0.25, "ci95": [0.1, 0.4], "n": 12}
    data = {
        "reward": {"name": "noisy", **reward},
        "reward/part/0": {"name": "trained", **reward},
        "other/0": {"name": "ensemble", **reward},
        "other/0/part/1": {"name": "length", **reward},
        "ranked": {"train_prompts": 12, "score_and_length": tau, "growth_with_n": rows},
        "agreement": {"pairs": [{"first": "noisy", "second": "trained", "tau": tau}]},
    }
    write_board(tmp_path, "x", [entry("dpo", "sdpo", data=data)])
    text = (tmp_path / "board.md").read_text()
    for line in (
        "- Reward model (noisy): 0 ties and 1 not scored\n",
        "- Part 1 of the reward model (trained): 0 ties and 1 not scored\n",
        "- Reward model 1 for comparison (ensemble): 0 ties and 1 not scored\n",
        "- Part 2 of reward model 1 for comparison (length): 0 ties and 1 not scored\n",
        "- Ranked data: 12 train prompts; Kendall's tau of score and length within prompts 0.25 &#91;0.10, 0.40&#93;; "
        "of 2, 3 responses the best is expected 0.50, 1.00 standard deviations within prompts above the mean, "
        "and 1.00, 2.00 above the worst (12 prompts)\n",
        "- Reward models compared: Kendall's tau of noisy and trained within prompts 0.25 &#91;0.10, 0.40&#93;\n",
    ):
        assert line in text
