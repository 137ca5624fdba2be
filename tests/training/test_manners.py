"""What changes how a policy is trained and never what comes out: bounded memory, a stop in the middle, processes."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ModelError
from harness.losses.dpo_best_random import DpoBestRandom
from harness.losses.dpo_best_rest import DpoBestRest
from harness.losses.dpo_best_worst import DpoBestWorst
from harness.losses.lipo_lambda import LipoLambda
from harness.losses.mdpo_linear import MdpoLinear
from harness.protocols import RankedLogps
from harness.recipe import Accelerate, Lora, Training
from harness.training.batch import FORWARD, collate
from harness.training.budget import Budget
from harness.training.head import evaluating, response_logps
from harness.training.job import TrainingJob
from harness.training.policy import load_policy
from harness.training.probe import usable
from harness.types import RankedExample
from tests.tiny import tiny_causal_lm
from tests.training.models import example, examples, random_group
from tests.training.test_trainer import (
    LENGTHS,
    LORA,
    assert_same_weights,
    policy_of,
    reference_of,
    train,
    untimed,
)

UNEVEN = [
    *examples(6),
    example("short", ("aaa", 1.0), ("1", 0.0)),
    example("three", ("e", 2.0), ("ee", 1.0), ("0", 0.0)),
]


def assert_same_steps(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], rel: float) -> None:
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        for name in ("loss", "learning_rate", "margin_mean", "margin_variance", "tokens", "prompts"):
            assert one[name] == pytest.approx(two[name], rel=rel, abs=1e-4), name
        for a, b in zip(one["logp_by_rank"], two["logp_by_rank"], strict=True):
            assert a == (b if b is None else pytest.approx(b, rel=rel, abs=1e-4))
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("lora", [LORA, None])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_bounded_memory_is_exact(tiny_model: Path, tmp_path: Path, lora: Lora | None, checkpointing: bool) -> None:
    options: dict[str, Any] = {"epochs": 2, "lora": lora, "gradient_checkpointing": checkpointing}
    plain, expected = train(tiny_model, UNEVEN, tmp_path / "plain", **options)
    report, steps = train(tiny_model, UNEVEN, tmp_path / "bounded", bounded_memory=True, **options)
    assert plain["rows"] == "one a prompt, shared prefix"
    assert report["rows"] == "one a response: memory is bounded to one response at a time"
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "plain", tmp_path / "bounded", atol=2e-4)


def test_bounded_memory_holds_one_response(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.training import head

    seen: list[tuple[int, bool]] = []
    before = head.response_logps

    def spied(model: Any, batch: Any, **options: Any) -> Any:
        seen.append((batch["input_ids"].numel(), torch.is_grad_enabled()))
        return before(model, batch, **options)

    monkeypatch.setattr(head, "response_logps", spied)
    train(tiny_model, examples(4), tmp_path / "run", bounded_memory=True, micro=4)
    assert [grad for _, grad in seen] == [False] * 16 + [True] * 16
    longest = max(size for size, _ in seen)
    assert longest < 64  # one prompt with one response; four prompts of four responses have some 700 tokens


def test_responses_that_the_loss_does_not_look_at_are_not_computed(tiny_model: Path, tmp_path: Path) -> None:
    data, loss = examples(6), DpoBestWorst(beta=0.5)
    every, expected = train(tiny_model, data, tmp_path / "every", loss, epochs=3, all_responses=True)
    report, steps = train(tiny_model, data, tmp_path / "used", loss, epochs=3)
    assert (every["unused_responses"], report["unused_responses"]) == (0, 12)
    assert report["forward_tokens"] < 0.75 * every["forward_tokens"]
    assert [s["loss"] for s in steps] == pytest.approx([e["loss"] for e in expected], rel=1e-5)
    assert_same_weights(tmp_path / "every", tmp_path / "used", atol=2e-5)
    first = steps[0]["logp_by_rank"]
    assert first[1:3] == [None, None]
    assert first[0] == pytest.approx(expected[0]["logp_by_rank"][0], rel=1e-5)
    full, _ = train(tiny_model, data, tmp_path / "full", MdpoLinear(beta=0.5))
    assert full["unused_responses"] == 0


class Spied:
    """A loss that keeps the draws it is given in training, by what the prompt's scores sum to."""

    def __init__(self) -> None:
        self.draws: list[tuple[float, tuple[float, ...]]] = []

    def __call__(self, batch: RankedLogps) -> tuple[torch.Tensor, torch.Tensor]:
        if len(batch.mask) <= 4 and batch.draws is not None:  # not where it is tried on many random log-ratios
            rows = zip(batch.scores.sum(1).tolist(), batch.draws.tolist(), strict=True)
            self.draws += [(round(total, 3), tuple(draws)) for total, draws in rows]
        return DpoBestRandom()(batch)


def test_draws_are_new_every_epoch_and_the_same_however_the_run_is_cut(tiny_model: Path, tmp_path: Path) -> None:
    data = [example(f"p{k}", ("a", k + 2.0), ("b", k + 1.0), ("c", 0.0)) for k in range(8)]
    seen = {}
    for micro in (1, 4):
        loss = Spied()
        train(tiny_model, data, tmp_path / str(micro), loss, micro=micro, epochs=2)
        seen[micro] = sorted(loss.draws)
    assert len(set(seen[4])) == 16
    assert seen[1] == seen[4]
    _, steps = train(tiny_model, data, tmp_path / "random", DpoBestRandom(), epochs=6)
    _, rest = train(tiny_model, data, tmp_path / "rest", DpoBestRest(), epochs=6)
    assert steps[-1]["loss"] != pytest.approx(rest[-1]["loss"], rel=1e-3)


def test_counts_of_what_went_through_the_policy(tiny_model: Path, tmp_path: Path) -> None:
    report, steps = train(tiny_model, examples(8), tmp_path / "run", epochs=2)
    assert report["prompts_seen"] == sum(s["prompts"] for s in steps) == 16
    assert report["forward_tokens"] == sum(s["forward_tokens"] for s in steps) > report["tokens"]
    assert all(s["tokens_per_second"] > 0 and s["peak_memory_gb"] > 0 for s in steps)
    assert all(-1 <= s["kendall_tau"] <= 1 for s in steps)


CHILD = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.training.models import examples
from tests.training.test_trainer import train
after = int(sys.argv[4])
from harness.training.ranked_trainer import RankedTrainer
own = RankedTrainer._save_checkpoint
def save(self, *args, **kwargs):
    own(self, *args, **kwargs)
    if self.state.global_step == after:
        os.kill(os.getpid(), 9)
RankedTrainer._save_checkpoint = save
train(Path(sys.argv[1]), examples(20), Path(sys.argv[2]), lora=json.loads(sys.argv[5]), epochs=3, save_every=2,
      partial_folder=Path(sys.argv[2]) / "partial")
"""


@pytest.mark.parametrize("lora", [{"r": 4, "dropout": 0.2}, {"r": 4}, False])
def test_a_killed_run_goes_on_in_mid_epoch_as_if_nothing_had_happened(
    tiny_model: Path, tmp_path: Path, lora: Any
) -> None:
    """Killed by SIGKILL after its fourth save (of 15 steps, 5 an epoch: the 8th step is in the second epoch)."""
    data = examples(20)
    options: dict[str, Any] = {"lora": lora, "epochs": 3, "save_every": 2}
    straight, expected = train(tiny_model, data, tmp_path / "straight", **options)
    folder = tmp_path / "killed"
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", CHILD, str(tiny_model), str(folder), root, "8", json.dumps(lora)]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = folder / "partial"
    assert len((partial / "steps.jsonl").read_text().splitlines()) == 8
    with (partial / "steps.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # a torn line
    (partial / "checkpoint-10").mkdir()  # a torn checkpoint
    new = tmp_path / "resumed"
    report, steps = train(tiny_model, data, new, partial_folder=partial, **options)
    assert_same_steps(steps, expected, rel=1e-6)
    assert_same_weights(tmp_path / "straight", new, atol=1e-7)
    timed = {"seconds"}
    assert {k: v for k, v in report.items() if k not in timed} == {k: v for k, v in straight.items() if k not in timed}


def test_a_run_that_was_killed_after_its_last_step_takes_no_further_one(tiny_model: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1.6, "save_every": 4, "lr_scheduler": "constant_with_warmup"}
    partial = tmp_path / "partial"
    straight, expected = train(tiny_model, examples(20), tmp_path / "one", partial_folder=partial, **options)
    assert straight["steps"] == 8
    assert (partial / "checkpoint-8").exists()
    report, steps = train(tiny_model, examples(20), tmp_path / "two", partial_folder=partial, **options)
    assert report["steps"] == 8
    assert untimed(steps) == untimed(expected)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=0)


def test_a_checkpoint_without_its_optimizer_is_not_gone_on_from(tiny_model: Path, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    options: dict[str, Any] = {"epochs": 2, "save_every": 3}
    _, expected = train(tiny_model, examples(20), tmp_path / "one", partial_folder=partial, **options)
    for late in ("checkpoint-9", "checkpoint-10"):
        shutil.rmtree(partial / late, ignore_errors=True)
    (partial / "checkpoint-6" / "optimizer.pt").unlink()
    _, steps = train(tiny_model, examples(20), tmp_path / "two", partial_folder=partial, **options)
    assert_same_steps(steps, expected, rel=1e-6)


def test_a_budget_of_tokens_does_not_depend_on_how_memory_is_bounded(tiny_model: Path, tmp_path: Path) -> None:
    plain, _ = train(tiny_model, examples(8), tmp_path / "plain", MdpoLinear(), epochs=2)
    budget = Budget("tokens", plain["forward_tokens"])
    options: dict[str, Any] = {"budget": budget}
    free, _ = train(tiny_model, examples(8), tmp_path / "free", DpoBestWorst(), **options)
    bound, _ = train(tiny_model, examples(8), tmp_path / "bound", DpoBestWorst(), bounded_memory=True, **options)
    assert free["steps"] == bound["steps"] > plain["steps"]
    assert free["forward_tokens"] == bound["forward_tokens"]


@pytest.mark.parametrize("weights", [(0.0, 1.0, -1.0, 0.0), (1.0, 0.0, 0.0, 0.0), (1.0, -1.0, 0.0, 0.0)])
def test_weights_of_zero_are_trained_with(tiny_model: Path, tmp_path: Path, weights: tuple[float, ...]) -> None:
    data = [*examples(3), example("tied", ("a", 3.0), ("e", 3.0), ("1", 1.0), ("2", 0.0))]
    report, steps = train(tiny_model, data, tmp_path / "run", MdpoLinear(weights=weights), epochs=2)
    assert report["examples"] in (3, 4)
    assert len(steps) == report["steps"] == 2
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_a_response_that_only_a_detached_weight_depends_on_is_computed() -> None:
    group = random_group(1, lengths=(5, 9, 7))._replace(scores=(1.2, 0.6, 0.0))
    (kept,) = usable([group], LipoLambda(tie_margin=1.0), everything=False)
    assert kept.computed == (True, True, True)
    (kept,) = usable([group], DpoBestWorst(), everything=False)
    assert kept.computed == (True, False, True)


def test_save_every_keeps_checkpoints_that_transformers_loads(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train(tiny_model, examples(12), tmp_path / "run", epochs=2, save_every=3)
    kept = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in kept.iterdir()) == ["step-3", "step-6"]
    for folder in kept.iterdir():
        assert not [p for p in folder.iterdir() if p.suffix in {".pt", ".pth", ".bin"}]
        AutoModelForCausalLM.from_pretrained(folder)
        AutoTokenizer.from_pretrained(folder)
    from safetensors.torch import load_file

    last, final = (load_file(f / "adapter_model.safetensors") for f in (kept / "step-6", tmp_path / "run/checkpoint"))
    for name in final:
        torch.testing.assert_close(last[name], final[name])


def job(model: Path, data: list[RankedExample], folder: Path, **changes: Any) -> TrainingJob:
    fields = {"learning_rate": 5e-3, "batch_size": 4, "lora": LORA, "warmup_ratio": 0.0, **LENGTHS} | changes
    folder.mkdir()
    (folder / "examples.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in data))
    (folder / "reference.json").write_text(json.dumps(reference_of(model, data)))
    return TrainingJob(
        policy=policy_of(model),
        loss={"name": "mdpo_linear", "beta": 0.1},
        training=Training.model_validate(fields),
        seed=3,
        micro_batch_size=1,
        bounded_memory=False,
        report_to=(),
        budget=None,
        examples=folder / "examples.jsonl",
        reference=folder / "reference.json",
        folder=folder,
        partial_folder=folder / "partial",
        logs=folder / "logs",
    )


@pytest.fixture
def _launchable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
@pytest.mark.usefixtures("_launchable")
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("lora", [LORA, None])
def test_two_processes_train_as_one(tiny_model: Path, tmp_path: Path, lora: Lora | None, bounded: bool) -> None:
    """Ten examples in steps of four: the last step of an epoch is a short one, shared by two processes."""
    data = [*UNEVEN, example("odd", ("aa", 1.0), ("11", 0.0)), example("tied", ("a", 1.0), ("b", 1.0))]
    _, expected = train(tiny_model, data, tmp_path / "one", epochs=2, lora=lora, micro=1)
    advanced: list[int] = []
    launched = job(tiny_model, data, tmp_path / "two", epochs=2, lora=lora)
    launched = launched.model_copy(update={"bounded_memory": bounded})
    report = launched.launch(Accelerate(num_processes=2), advanced.append)
    steps = [json.loads(line) for line in (tmp_path / "two" / "steps.jsonl").read_text().splitlines()]
    assert report["steps"] == 6
    assert report["prompts_seen"] == 18
    assert sum(advanced) >= 18
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("_launchable")
def test_a_configuration_that_ships(tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """DDP's; accelerate shards nothing on a CPU, so that the others can't be run here."""
    _, expected = train(tiny_model, UNEVEN, tmp_path / "one", epochs=2, micro=1)
    launched = job(tiny_model, UNEVEN, tmp_path / "two", epochs=2, save_every=2)
    file = Path(__file__).parents[2] / "recipes" / "accelerate" / "ddp.yaml"
    with caplog.at_level("INFO", logger="harness.training.job"):
        launched.launch(Accelerate(num_processes=2, config=file), lambda _n: None)
    assert "training in 2 process(es): MULTI_CPU" in caplog.text
    steps = [json.loads(line) for line in (tmp_path / "two" / "steps.jsonl").read_text().splitlines()]
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=3e-4)
    assert sorted(p.name for p in (tmp_path / "two" / "checkpoints").iterdir()) == ["step-2", "step-4"]


@pytest.mark.slow
@pytest.mark.usefixtures("_launchable")
def test_two_processes_go_on_in_mid_epoch(tiny_model: Path, tmp_path: Path) -> None:
    """Stopped after the 5th of 9 steps, in the second epoch."""
    data = examples(12)
    _, expected = train(tiny_model, data, tmp_path / "one", epochs=3, micro=1)
    whole = job(tiny_model, data, tmp_path / "two", epochs=3, save_every=5)
    partial = whole.partial_folder
    whole.launch(Accelerate(num_processes=2), lambda _n: None)
    assert (partial / "checkpoint-5").exists()
    shutil.rmtree(partial / "checkpoint-9")  # as if it had been killed before
    again = whole.model_copy(update={"folder": tmp_path / "again"})
    again.folder.mkdir()
    again.launch(Accelerate(num_processes=2), lambda _n: None)
    steps = [json.loads(line) for line in (again.folder / "steps.jsonl").read_text().splitlines()]
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", again.folder, atol=2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("_launchable")
def test_an_error_of_a_launched_run_is_the_users_own(tiny_model: Path, tmp_path: Path) -> None:
    odd = job(tiny_model, examples(4), tmp_path / "odd", batch_size=3)
    with pytest.raises(ModelError, match="batch_size 3 can't be shared by 2 processes"):
        odd.launch(Accelerate(num_processes=2), lambda _n: None)


def test_curves_for_tensorboard(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = job(tiny_model, examples(8), tmp_path / "run").model_copy(update={"report_to": ("tensorboard",)})
    drawn.run(lambda _n: None)
    events = EventAccumulator(str(tmp_path / "run" / "logs"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {"train/loss", "train/margin_variance", "train/logp_by_rank/1", "train/tokens_per_second"} <= names
    assert len(events.Scalars("train/loss")) == 2


def test_gradients_of_4_bits_are_those_of_the_weights_that_they_stand_for(tmp_path: Path) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    folder = tiny_causal_lm(tmp_path / "model", hidden=128)
    policy = policy_of(folder)
    quantised, plain = load_policy(policy, Lora(r=4, bits=4), 0), load_policy(policy, Lora(r=4), 0)
    layers = dict(quantised.named_modules())
    for name, module in plain.named_modules():
        if name.endswith("base_layer"):
            weight = layers[name].weight
            module.weight.data = functional.dequantize_4bit(weight.data, weight.quant_state)
    batch = collate([random_group(1), random_group(2)], pad_id=258, shared=True)
    inputs = {name: batch[name] for name in FORWARD if name in batch}
    found = []
    for model in (quantised, plain):
        with torch.no_grad(), evaluating(model):
            response_logps(model, inputs)  # must leave no trace
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
        logps, _ = response_logps(model.train(), inputs)
        logps.sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((logps.detach(), gradients))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[1][1].items():
        scale = max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(found[0][1][name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.mark.parametrize("bits", [4, 8])
def test_qlora_starts_at_its_own_reference_and_learns(tmp_path: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    model = tiny_causal_lm(tmp_path / "model", hidden=128)  # a block of 64 weights must fit into a row
    report, steps = train(
        model, examples(8), tmp_path / "run", MdpoLinear(beta=1.0), lora=Lora(r=4, bits=bits), epochs=10
    )
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=0.02 if bits == 8 else 1e-4)
    assert report["last_loss"] < 0.9 * report["first_loss"]
    assert (tmp_path / "run" / "checkpoint" / "adapter_model.safetensors").exists()
