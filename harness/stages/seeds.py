"""The first stage: seed pairs, split by prompt into training and held-out pairs, without leaked evaluation prompts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.benchmark import Benchmark
from harness.components import identity, question_identity
from harness.data.leaks import LeakIndex
from harness.data.read import split
from harness.engine.stage import Context, Stage
from harness.engine.store import write_rows
from harness.recipe.data import Data, Decontamination
from harness.recipe.evaluation import Evaluation
from harness.types import PreferencePair, Record


class LeakedSeed(Record):
    """A seed prompt that is also in an evaluation set."""

    id: str
    text: str
    set: str
    matched: str
    overlap: float


@dataclass(frozen=True)
class LeakSearch:
    """The evaluation sets that training prompts are compared with, and how; shared by seed and new prompts."""

    benchmarks: Sequence[Benchmark]
    options: Decontamination

    def identity(self) -> dict[str, Any]:
        """Its part of a stage key: the full evaluation sets, whatever part of them is asked."""
        sets = [{k: v for k, v in question_identity(b).items() if k != "limit"} for b in self.benchmarks]
        # Without evaluation sets nothing can leak, and the options have no effect.
        return {"against": sets, **self.options.model_dump(mode="json")} if sets else {"against": []}

    def index(self) -> LeakIndex:
        """All prompts of the evaluation sets, ready to be searched."""
        prompts = {identity(b)["name"]: b.all_prompts() for b in self.benchmarks}
        return LeakIndex(prompts, self.options.threshold)

    def counts(self, leaks: Iterable[str]) -> dict[str, int]:
        """Leaks by evaluation set, zeros included. `leaks`: the set of each."""
        counts = Counter(leaks)
        return {name: counts[name] for name in (identity(b)["name"] for b in self.benchmarks)}


def leak_search(data: Data, evaluation: Evaluation | None) -> LeakSearch:
    """The search for leaks that a recipe asks for."""
    return LeakSearch(evaluation.benchmarks if evaluation else (), data.decontaminate)


def seeds_stage(data: Data, search: LeakSearch, seed: int) -> Stage:
    """Seed pairs, split by prompt into `train.jsonl` (at most `train_limit` rows) and `heldout.jsonl`. Pairs whose
    prompt leaked are in `leaks.jsonl`, and dropped unless the recipe keeps them. Several sets are mixed, so that the
    first rows, of which a recipe may take a number, have each set's share."""

    def body(ctx: Context) -> dict[str, Any]:
        pairs: dict[str, PreferencePair] = {}
        set_of: dict[str, int] = {}
        remarks: defaultdict[str, Counter[str]] = defaultdict(Counter, left_out=Counter())
        total = 0
        for number, seed_set in enumerate(data.sets):
            rows = seed_set.pairs()
            total += len(rows)
            for kind, counts in seed_set.remarks().items():
                remarks[kind].update(counts)
            for pair in rows:
                pairs.setdefault(pair.id, pair)  # of several seed sets with a prompt, the first provides it
                set_of.setdefault(pair.id, number)
        repeated = total - len(pairs)
        leaks = _leaked_seeds(list(pairs.values()), search.index())
        if search.options.action == "drop":
            leaked = {leak.id for leak in leaks}
            pairs = {i: pair for i, pair in pairs.items() if i not in leaked}
        train, heldout = split(list(pairs.values()), data.holdout, seed)
        train = _mixed(train, [set_of[pair.id] for pair in train])[: data.train_limit]
        told = sum(any(m.role == "system" for m in pair.messages) for pair in (*train, *heldout))
        write_rows(ctx.folder / "train.jsonl", train)
        write_rows(ctx.folder / "heldout.jsonl", heldout)
        write_rows(ctx.folder / "leaks.jsonl", leaks)
        return {
            "train": len(train),
            "heldout": len(heldout),
            "repeated_prompts": repeated,
            **{kind: dict(counts) for kind, counts in remarks.items()},
            **({"system_messages": told} if told else {}),
            "leaks": search.counts(leak.set for leak in leaks),
            "leaks_dropped": total - repeated - len(pairs),
        }

    params = {
        "seeds": [identity(seed_set) for seed_set in data.sets],
        "holdout": data.holdout,
        "seed": seed,
        "leaks": search.identity(),
    }
    if data.train_limit:
        params["train_limit"] = data.train_limit
    if len(data.sets) > 1:
        params["order"] = "mixed"
    return Stage("seeds", "seeds", 4, params, {}, body)


def _mixed(pairs: Sequence[PreferencePair], sets: Sequence[int]) -> list[PreferencePair]:
    """The pairs in an order in which every beginning has about each set's share of the whole; those of a set keep
    theirs. `sets`: the number of each pair's set."""
    sizes, seen = Counter(sets), Counter[int]()
    places = []
    for number in sets:
        places.append(((seen[number] + 0.5) / sizes[number], number))
        seen[number] += 1
    return [pairs[i] for i in sorted(range(len(pairs)), key=places.__getitem__)]


def _leaked_seeds(pairs: Sequence[PreferencePair], index: LeakIndex) -> list[LeakedSeed]:
    leaks = []
    for pair in pairs:
        # An evaluation prompt may be in any turn of a conversation.
        text = "\n".join(m.content for m in pair.messages if m.role == "user")
        if leak := index.find(text):
            leaks.append(LeakedSeed(id=pair.id, text=text, set=leak.set, matched=leak.text, overlap=leak.overlap))
    return leaks
