"""What the benchmarks share: their options, real data beside the project, a tiny model, the last line."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tiny import tiny_causal_lm

ROOT = Path(__file__).parents[2]


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with `--small`, which every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the same code on tiny sizes: shows that it runs")
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    """`--data`, for benchmarks that read real data."""
    folder = ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=folder, metavar="FOLDER", help="real data, by default %(default)s")


def is_there(folder: Path, instead: str) -> bool:
    """Whether a folder of real data exists. If not, prints what is used instead."""
    if not folder.is_dir():
        print(f"{folder} is absent: {instead} instead", flush=True)
    return folder.is_dir()


def tiny_model(folder: Path) -> Path:
    """A new folder with a random two-layer model; its tokenizer knows words, and judge prompts fit into its window."""
    rows = (ROOT / "harness" / "assets" / "seeds.jsonl").read_text().splitlines()
    folder.mkdir(parents=True)
    return tiny_causal_lm(folder, window=8192, words=[text for line in rows for text in json.loads(line).values()])


def report(figures: Mapping[str, Any]) -> None:
    """Prints the last line. Raises ValueError for a figure that is not finite."""
    print(json.dumps(figures, allow_nan=False), flush=True)
