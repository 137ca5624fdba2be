"""What half precision leaves of what was learnt: `python -m tests.perf.precision`.

SmolLM2-135M in bfloat16 is trained with `mdpo_linear` on half of the pairs that ship with the harness: 8 prompts a
step, 1 to 6 epochs. Each row of the table is a training, as an adapter, merged into a whole model, or of all weights.
`float32`: the mean margin of the other half's pairs, in nats, of what was trained. `deployed`: that of the checkpoint
in bfloat16, against the base in bfloat16. `kept`: the second over the first. However it is rounded, a log-probability
in bfloat16 is off by some tenths of a nat, and the next rounding draws anew; `error` is what that makes of `kept` (one
standard error over the pairs). `PEFT` and `nearest`: the same with PEFT's own forward pass of adapters, and with
weights rounded to the nearest value.

Then a reward model is trained on the first half in either dtype, and the share of all pairs that it orders correctly is
compared.

The last line is one JSON object: `margin_kept_min`, over all rows but the one for information (full training at 1e-6);
`margin_kept` by row; `reward_accuracy_difference`. `--small`: a tiny random model, a fifth of the pairs, and one rate,
a larger one, of adapters and of whole models.
"""

import gc
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple
from unittest import mock

from transformers.utils import logging

from harness.logprobs.score import score_rows
from harness.losses.mdpo_linear import MdpoLinear
from harness.models import load as models
from harness.protocols import Ready
from harness.recipe.policy import Policy
from harness.recipe.training import Training
from harness.rewards.trained import Trained
from harness.training.deploy import save_result
from harness.training.policy import autocast_dtype
from harness.training.ranked.trainer import train_policy
from harness.types import Message, PreferencePair, RankedExample, Response
from tests.perf._shared import ROOT, options, report, tiny_model

MODEL = "smollm2-135m-instruct"
SEED = 0
LENGTHS = {"max_prompt_length": 512, "max_length": 1024}
LORA = {2e-5: 6, 2e-4: 2, 1e-3: 1}
FULL = {1e-5: 3, 1e-6: 6}
"""Learning rates and epochs. Low rates need more steps for a margin that stands out from the rounding."""
FOR_INFORMATION = "full 1e-06"


class Row(NamedTuple):
    """A trained policy: its name, and its folders as deployed and as trained."""

    name: str
    deployed: Path
    trained: Path


class Margins(NamedTuple):
    """Per held-out pair, in nats: of the deployed policy, of what was trained, and of the deployed one as it would be
    with PEFT's forward pass (adapters) or rounded to the nearest value (whole models)."""

    deployed: list[float]
    exact: list[float]
    naive: list[float]

    @property
    def kept(self) -> float:
        return fmean(self.deployed) / fmean(self.exact)

    @property
    def error(self) -> float:
        """One standard error of `kept`."""
        kept = self.kept
        spread = stdev([a - kept * b for a, b in zip(self.deployed, self.exact, strict=True)])
        return spread / len(self.exact) ** 0.5 / abs(fmean(self.exact))


def main() -> None:
    chosen = options(__doc__).parse_args()
    logging.disable_progress_bar()
    pairs = _pairs()[:: 5 if chosen.small else 1]
    with tempfile.TemporaryDirectory() as folder:
        model = str(tiny_model(Path(folder) / "model")) if chosen.small else MODEL
        bench = Bench(Policy(model=model, dtype="bfloat16"), pairs[::2], pairs[1::2], Path(folder), small=chosen.small)
        margins = {}
        print(f"{'training':14}  float32  deployed   kept  error  PEFT / nearest", flush=True)
        for row in bench.rows():
            margins[row.name] = m = bench.margins(row)
            means = f"{fmean(m.exact):7.2f}  {fmean(m.deployed):8.2f}"
            naive = fmean(m.naive) / fmean(m.exact)
            print(f"{row.name:14}  {means}  {m.kept:5.2f}  {m.error:5.2f}  {naive:14.2f}", flush=True)
        accuracies = {dtype: bench.accuracy(dtype) for dtype in ("float32", "bfloat16")}
        print(f"reward model's accuracy: {accuracies}", flush=True)
    report(
        {
            "margin_kept_min": min(m.kept for name, m in margins.items() if name != FOR_INFORMATION),
            "margin_kept": {name: m.kept for name, m in margins.items()},
            "reward_accuracy_difference": abs(accuracies["float32"] - accuracies["bfloat16"]),
        }
    )


def _pairs() -> list[PreferencePair]:
    lines = (ROOT / "harness" / "assets" / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        PreferencePair(
            id=f"p{i}",
            messages=(Message(role="user", content=row["prompt"]),),
            chosen=row["chosen"],
            rejected=row["rejected"],
            source="builtin",
        )
        for i, row in enumerate(map(json.loads, lines))
    ]


def _example(pair: PreferencePair) -> RankedExample:
    responses = (Response(text=pair.chosen, source="a", score=1.0), Response(text=pair.rejected, source="b", score=0.0))
    return RankedExample(id=pair.id, messages=pair.messages, responses=responses, source="builtin", split="train")


class Bench:
    """The trainings and measurements in a temporary folder."""

    def __init__(
        self,
        policy: Policy,
        train: Sequence[PreferencePair],
        heldout: Sequence[PreferencePair],
        folder: Path,
        *,
        small: bool,
    ) -> None:
        self.policy, self.train, self.heldout, self.folder = policy, train, heldout, folder
        self.faster, self._most = (50.0, 1) if small else (1.0, len(LORA))
        self._tokenizer = models.load_tokenizer(policy.model)
        self._references: dict[tuple[str, str, Any], list[float]] = {}

    def rows(self) -> Iterator[Row]:
        """Trains one after the other."""
        for rate in list(LORA)[: self._most]:
            folder = self._trained(f"lora-{rate}", rate, lora=True)
            yield Row(f"LoRA {rate}", folder / "checkpoint", folder / "checkpoint")
            merged = self._merged(folder / "checkpoint", rate)
            yield Row(f"merged {rate}", merged / "checkpoint", merged / "trained")
        for rate in list(FULL)[: self._most]:
            folder = self._trained(f"full-{rate}", rate, lora=False)
            yield Row(f"full {rate}", folder / "checkpoint", folder / "trained")

    def _trained(self, name: str, rate: float, *, lora: bool) -> Path:
        training = self._training(rate, lora=lora)
        dtype = self.policy.dtype if lora else "float32"
        logps = self._reference(dtype, self.train, autocast_dtype(self.policy, training.lora))
        folder = self.folder / name
        folder.mkdir()
        train_policy(
            self.policy,
            [_example(pair) for pair in self.train],
            {pair.id: logps[2 * i : 2 * i + 2] for i, pair in enumerate(self.train)},
            MdpoLinear(beta=0.1),
            training,
            folder=folder,
            seed=SEED,
            micro_batch_size=4,
            advance=lambda _: None,
        )
        gc.collect()
        return folder

    def _training(self, rate: float, *, lora: bool, merge: bool = False) -> Training:
        epochs = (LORA if lora else FULL)[rate]
        rate *= self.faster
        return Training(epochs=epochs, batch_size=8, learning_rate=rate, lora=lora, merge=merge, **LENGTHS)  # type: ignore[arg-type]

    def _merged(self, adapter: Path, rate: float) -> Path:
        """The same training with `merge: true`."""
        folder = self.folder / f"merged-{rate}"
        model = self._load(adapter, "bfloat16")
        training = self._training(rate, lora=True, merge=True)
        save_result(model, self._tokenizer, folder, self.policy, training, dtype="bfloat16", seed=SEED)
        return folder

    def margins(self, row: Row) -> Margins:
        """Of a trained policy on the held-out pairs."""
        exact = self._margins(row.trained, "float32")
        deployed = self._margins(row.deployed, "bfloat16")
        with _peft_forward():
            adapter = (row.deployed / "adapter_config.json").exists()
            naive = self._margins(row.deployed, "bfloat16") if adapter else self._nearest(row.trained)
        return Margins(deployed, exact, naive)

    def _nearest(self, trained: Path) -> list[float]:
        if not (trained / "adapter_config.json").exists():
            return self._margins(trained, "bfloat16")
        whole = self._load(trained, "float32").merge_and_unload().bfloat16()
        return self._against(whole, "bfloat16")

    def _margins(self, folder: Path, dtype: models.Dtype) -> list[float]:
        return self._against(self._load(folder, dtype), dtype)

    def _against(self, model: Any, dtype: models.Dtype) -> list[float]:
        """Margins over the base in a dtype."""
        logps = self._logps(model, self.heldout)
        ratios = [ours - base for ours, base in zip(logps, self._reference(dtype, self.heldout), strict=True)]
        return [better - worse for better, worse in zip(ratios[::2], ratios[1::2], strict=True)]

    def _load(self, folder: Path, dtype: models.Dtype) -> Any:
        gc.collect()
        if (folder / "adapter_config.json").exists():
            return models.with_adapter(models.load_causal_lm(self.policy.model, None, dtype), folder)
        return models.load_causal_lm(str(folder), None, dtype)

    def _reference(self, dtype: models.Dtype, pairs: Sequence[PreferencePair], autocast: Any = None) -> list[float]:
        key = (dtype, pairs[0].id, autocast)
        if key not in self._references:
            model = models.load_causal_lm(self.policy.model, None, dtype)
            self._references[key] = self._logps(model, pairs, autocast)
        return self._references[key]

    def _logps(self, model: Any, pairs: Sequence[PreferencePair], autocast: Any = None) -> list[float]:
        """Of the chosen and the rejected response of each pair in turn."""
        rows = [(pair.messages, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
        scored = score_rows(
            model, self._tokenizer, rows, **LENGTHS, batch_size=16, advance=lambda _: None, autocast=autocast
        )
        return [row.logp for row in scored]

    def accuracy(self, dtype: models.Dtype) -> float:
        """Share of all pairs that a reward model orders correctly which is trained on the first half."""
        folder = self.folder / f"reward-{dtype}"
        folder.mkdir()
        rate = min(2e-4 * self.faster, 1e-2)
        rewards = Trained(name="trained", base=self.policy.model, dtype=dtype, epochs=1, learning_rate=rate)
        rewards.fit(self.train, folder, seed=SEED, advance=lambda _: None)
        gc.collect()
        pairs = [*self.train, *self.heldout]
        rows = [(pair.messages, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
        ready = Ready(folder=folder, advance=lambda _: None, ask=lambda judge: None)  # type: ignore[arg-type,return-value]
        scores = [score for score in rewards.score(rows, ready) if score is not None]
        return fmean(better > worse for better, worse in zip(scores[::2], scores[1::2], strict=True))


@contextmanager
def _peft_forward() -> Iterator[None]:
    with mock.patch.object(models, "round_once", lambda model: model):
        yield


if __name__ == "__main__":
    main()
