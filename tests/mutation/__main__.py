"""The mutation check, `python -m tests.mutation`: a sample of mutants of the core, each in a copy of the tree, against
the tests that concern it. The last line is JSON: how many mutants were killed, how many survived, and the share.

Results are kept in a file, so that a run that was stopped goes on where it was. `--list` prints the sample only.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.scope import AREAS, EQUIVALENT, PERFORMANCE, Area

ROOT = Path(__file__).parents[2]
COPIED = ("harness", "tests", "recipes", "leaderboards", "pyproject.toml", "README.md", "CHANGELOG.md")
LEAST_SECONDS, TIMES = 60.0, 4.0
"""Time limit of a mutant: so many times that of its tests, and a minute. One that takes longer is killed."""


def sample(root: Path, count: int, seed: int) -> list[tuple[Area, Mutant]]:
    """The mutants of a tree to try: as many of each area, drawn by their keys, which other changes leave alone."""
    drawn: list[list[tuple[Area, Mutant]]] = []
    taken: set[Path] = set()
    for area in sorted(AREAS, key=lambda area: area.name != "sampling"):  # its module is in the folder of decoding
        paths = [path for path in area.modules(root) if path not in taken]
        taken.update(paths)
        if not paths:
            raise SystemExit(f"{area.name}: no modules match {', '.join(area.sources)}")
        every = [m for path in paths for m in mutants(root, path) if m.key not in EQUIVALENT and not _is_performance(m)]
        every.sort(key=lambda m: hashlib.sha256(f"{seed}-{m.key}".encode()).hexdigest())
        drawn.append([(area, m) for m in every[:count]])
    turns = [one for turn in zip(*drawn, strict=False) for one in turn]
    return turns[:count]


def _is_performance(mutant: Mutant) -> bool:
    """Whether a mutant changes a module's constant of time or memory."""
    names = mutant.before.partition(" = ")[0].replace(",", " ").split()
    return not mutant.place and any(name in PERFORMANCE for name in names)


def run_tests(tree: Path, tests: list[str], seconds: float | None) -> str:
    """`passed`, `failed` or `timeout`."""
    variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        ["nice", "-n", "10", *command],
        cwd=tree,
        env={**os.environ, **variables, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output = None
    waited = 0
    while output is None and (seconds is None or waited < seconds):
        try:
            output, _ = process.communicate(timeout=1)
        except subprocess.TimeoutExpired:
            waited += 1  # counted, as the clock goes on while a run is suspended
    if output is None:
        os.killpg(process.pid, 9)
        process.communicate()
        return "timeout"
    if process.returncode not in (0, 1, 2):  # no tests, or pytest itself
        raise SystemExit(f"pytest ended with {process.returncode}:\n{output[-2000:]}")
    return "passed" if process.returncode == 0 else "failed"


def copy_tree(folder: Path) -> Path:
    tree = folder / "tree"
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(source, tree / name)
    return tree


class Check:
    """A run of the check. `results`: the file that it keeps them in."""

    def __init__(self, tree: Path, results: Path) -> None:
        self._tree = tree
        self._results = results
        self._limits: dict[str, float] = {}

    def recorded(self) -> dict[str, dict[str, Any]]:
        """Results by mutant; what the tests were is part of the key."""
        if not self._results.exists():
            return {}
        lines = (json.loads(line) for line in self._results.read_text(encoding="utf-8").splitlines())
        return {line["key"]: line for line in lines}

    def try_one(self, area: Area, mutant: Mutant) -> dict[str, Any]:
        """Run a mutant's tests on it."""
        tests = area.tests(self._tree, mutant.path)
        limit = self._limit(area, tests)
        file = self._tree / mutant.path
        original = file.read_text(encoding="utf-8")
        started = time.monotonic()
        file.write_text(mutant.source, encoding="utf-8")
        try:
            outcome = run_tests(self._tree, tests, limit)
        finally:
            file.write_text(original, encoding="utf-8")
        return {
            "key": mutant.key,
            "area": area.name,
            "outcome": {"passed": "survived", "failed": "killed", "timeout": "killed"}[outcome],
            "kind": mutant.kind,
            "where": f"{mutant.path}:{mutant.line} {mutant.place}",
            "before": mutant.before,
            "after": mutant.after,
            "seconds": round(time.monotonic() - started),
        }

    def _limit(self, area: Area, tests: list[str]) -> float:
        """The time limit of an area's mutants; the tests must pass without one. The same tests in another order take as
        long."""
        if area.name not in self._limits:
            started = time.monotonic()
            if run_tests(self._tree, tests, None) != "passed":
                raise SystemExit(f"{area.name}: its tests fail without a mutant: {' '.join(tests)}")
            self._limits[area.name] = LEAST_SECONDS + TIMES * (time.monotonic() - started)
        return self._limits[area.name]

    def record(self, result: dict[str, Any]) -> None:
        with self._results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "harness-mutation.jsonl")
    parser.add_argument("--again", action="store_true", help="try those again that survived before")
    parser.add_argument("--areas", help="only these, separated by commas")
    parser.add_argument("--list", action="store_true", help="print the sample and stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        chosen = sample(tree, options.count, options.seed)
        if options.areas:
            chosen = [(area, mutant) for area, mutant in chosen if area.name in options.areas.split(",")]
        if options.list:
            for area, m in chosen:
                print(f"{m.key} {area.name} {m.path}:{m.line} {m.place}\n  - {m.before}\n  + {m.after}")
            return
        check = Check(tree, options.results)
        done = check.recorded()
        results = []
        for i, (area, mutant) in enumerate(chosen, start=1):
            result = done.get(mutant.key)
            if result is None or (options.again and result["outcome"] == "survived"):
                result = check.try_one(area, mutant)
                check.record(result)
            results.append(result)
            print(f"{i}/{len(chosen)} {result['outcome']} {result['where']} ({result['seconds']} s)", flush=True)
            if result["outcome"] == "survived":
                print(f"  - {result['before']}\n  + {result['after']}", flush=True)
    survived = sum(result["outcome"] == "survived" for result in results)
    killed = len(results) - survived
    areas = {area.name: dict.fromkeys(("killed", "survived"), 0) for area in AREAS}
    for result in results:
        areas[result["area"]][result["outcome"]] += 1
    print(
        json.dumps(
            {
                "mutants": len(results),
                "killed": killed,
                "survived": survived,
                "share": killed / len(results),
                "areas": areas,
            }
        )
    )


if __name__ == "__main__":
    main()
