"""What a plan needs of GPUs, for `harness plan --on`: GPU-hours and memory of each stage, and what to do if it doesn't
fit. Nothing is loaded, and nothing of it was measured on a GPU: the assumptions are printed with it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.engine.stage import Stage
from harness.models.demand.devices import Device, Devices
from harness.models.demand.loads import SEQUENCES, Load
from harness.pipeline.estimates import Estimates
from harness.printable import printable

SHOWN = 12
"""Stages that are named in a line."""


class Need(NamedTuple):
    """What a stage needs. `gpus`: that it uses at a time. `seconds`: of one device, in all; `memory`: peak bytes of one
    process; None: unknown. `remedy`: what makes it fit, if it doesn't."""

    stage: Stage
    gpus: int
    seconds: float | None
    memory: float | None
    remedy: str


def needs(estimates: Estimates, device: Device) -> list[Need]:
    """Of the stages that are still to run and run a model, in order. Of stages in one pool, of the one that does the
    work."""
    missing = {stage.key: stage for stage in estimates.plan.stages if stage.key not in estimates.stored}
    working = estimates.working(missing)
    found = []
    for key, stage in missing.items():
        if key in estimates.unknown:
            found.append(Need(stage, 1, None, None, ""))
        elif key in working and (loads := working[key].loads):
            found.append(_need(stage, loads, device))
    return found


def _asked_of_servers(estimates: Estimates) -> list[str]:
    """The stages still to run that wait for servers and run no model themselves."""
    missing = {stage.key: stage for stage in estimates.plan.stages if stage.key not in estimates.stored}
    working = estimates.working(missing)
    return [
        stage.id
        for key, stage in missing.items()
        if key in working and key not in estimates.unknown and working[key].waiting and not working[key].loads
    ]


def _need(stage: Stage, loads: Sequence[Load], device: Device) -> Need:
    seconds = [load.seconds(device) for load in loads]
    memory = [(load.memory(device) or 0.0, load) for load in loads]
    most, largest = max(memory, key=lambda pair: pair[0])
    remedy = _remedy(largest, device) if most > device.memory else ""
    return Need(stage, max(load.processes for load in loads), sum(s or 0.0 for s in seconds), most, remedy)


def _remedy(load: Load, device: Device) -> str:
    for setting, smaller in load.smaller():
        if (memory := smaller.memory(device)) is not None and memory <= device.memory:
            return f"{setting} ({gigabytes(memory)})"
    return "none of the recipe's settings makes it fit: a device with more memory"


def gpu_view(estimates: Estimates, on: Devices) -> Iterator[RenderableType]:
    """The parts of what `harness plan --on` adds."""
    device, found = on.device, needs(estimates, on.device)
    yield _table(found, estimates, on)
    without = [need.stage for need in found if need.seconds is None]
    for reason in sorted({estimates.unknown[stage.key] for stage in without}):
        stages = [stage.id for stage in without if estimates.unknown[stage.key] == reason]
        yield Text(printable(f"Unknown, and in no sum: {_listed(stages)}: {reason}."), style="yellow")
    if asked := _asked_of_servers(estimates):
        yield Text(printable(f"Asked of servers, whose GPUs are in no sum: {_listed(asked)}."), style="yellow")
    yield from _remedies(found, device)
    if on.number > 1:
        yield from (Text(printable(line)) for line in _hours(found, on))
    launches = [launch for cell in estimates.plan.study.cells if (launch := cell.recipe.runtime.launch)]
    for label in sorted({launch.accelerate.tested for launch in launches}):
        yield Text(f"{label}.", style="yellow")
    yield Text(printable(assumptions(device)), style="dim")


def memory_lines(estimates: Estimates, device: Device) -> Iterator[Text]:
    """The most memory that a stage takes here, and the stages that don't fit."""
    found = [need for need in needs(estimates, device) if need.memory is not None]
    if not found:
        return
    most = max(found, key=lambda need: need.memory or 0.0)
    has = f"{device.name} have {gigabytes(device.memory)}" if not device.is_gpu else gigabytes(device.memory)
    yield Text(f"Memory: at most about {gigabytes(most.memory)} a process, in {printable(most.stage.id)}; {has}.")
    yield from _remedies(found, device)


def _remedies(found: Sequence[Need], device: Device) -> Iterator[Text]:
    remedies: dict[str, list[str]] = {}
    for need in found:
        if need.remedy:
            remedies.setdefault(need.remedy, []).append(need.stage.id)
    for remedy, stages in remedies.items():
        yield Text(printable(f"Too large for {device.name}: {_listed(stages)}. What fits: {remedy}."), style="red")


def _table(found: Sequence[Need], estimates: Estimates, on: Devices) -> Table:
    """By stage; for a sweep, by kind of stage."""
    table = Table(box=None, header_style="bold", title=f"On {on.device.name}", title_justify="left", title_style="bold")
    swept = bool(estimates.plan.study.axes)
    table.add_column("kind" if swept else "stage", overflow="fold")
    for title in (*(["stages"] if swept else []), "GPUs", "GPU-hours", "memory a GPU", "fits"):
        table.add_column(title, no_wrap=True, justify="right")
    groups: dict[str, list[Need]] = {}
    for need in found:
        groups.setdefault(need.stage.name if swept else need.stage.id, []).append(need)
    for name, members in groups.items():
        table.add_row(printable(name), *([f"{len(members):,}"] if swept else []), *_cells(members))
    table.add_section()
    unknown = sum(need.seconds is None for need in found)
    without = f", without {unknown} stage{'s' * (unknown > 1)}" if unknown else ""
    total, memory = _sum(found), max((n.memory for n in found if n.memory is not None), default=None)
    most = str(max((need.gpus for need in found if need.seconds is not None), default=""))
    label = f"about, in all{without}"
    fits = "" if not any(need.remedy for need in found) else "no"
    table.add_row(label, *([""] if swept else []), most, hours(total), gigabytes(memory), fits, style="bold")
    return table


def _cells(members: Sequence[Need]) -> list[str]:
    """The columns of one stage, or of several of a kind."""
    if any(need.seconds is None for need in members):
        return ["", "unknown", "unknown", "unknown"]
    memory = max(need.memory or 0.0 for need in members)
    fits = "no" if any(need.remedy for need in members) else "yes"
    return [str(max(need.gpus for need in members)), hours(_sum(members)), gigabytes(memory), fits]


def _sum(found: Iterable[Need]) -> float | None:
    known = [need.seconds for need in found if need.seconds is not None]
    return sum(known) if known else None


def _hours(found: Sequence[Need], on: Devices) -> Iterator[str]:
    """How long so many devices take at least: what all do, shared without loss, and the longest chain of stages that
    need each other. Shards of a stage are taken to be shared by all GPUs, as on a Ray cluster."""
    total = _sum(found)
    if total is None:
        return
    ends: dict[str, float] = {}
    by_key = {need.stage.key: need for need in found}

    def end(stage: Stage) -> float:
        if stage.key not in ends:
            need = by_key.get(stage.key)
            # The shards of a stage over prompts are shared by all nodes; a training stays on one.
            used = on.number if stage.spreads != "nothing" else min(need.gpus if need else 1, on.number)
            own = (need.seconds or 0.0) / used if need else 0.0
            ends[stage.key] = own + max((end(source) for source in stage.inputs.values()), default=0.0)
        return ends[stage.key]

    last = max((need.stage for need in found), key=end)
    chain, shared = end(last), total / on.number
    bound = f"{hours(chain)} h is the longest chain of stages, up to {last.id}, at the GPUs that each uses"
    least = f"On {on.number} of them: at least {hours(max(shared, chain))} h"
    yield f"{least}. {hours(shared)} h if all work all the time; {bound}."
    large = [need.stage.id for need in found if need.gpus > on.number]
    if large:
        most = max(need.gpus for need in found)
        yield f"{_listed(large)}: up to {most} processes, and --on names {on.number} GPUs."


def assumptions(device: Device) -> str:
    """What the figures rest on."""
    reached = device.reached
    return (
        f"{device.name}: {device.memory / 1e9:.0f} GB, {device.peak / 1e12:,.0f} TFLOP/s dense in bfloat16, "
        f"{(device.bandwidth or 0) / 1e12:.3g} TB/s ({device.source}). Assumed, not measured on a GPU: trainings reach "
        f"{reached.training:.0%} of that peak (MFU), passes without gradients {reached.scoring:.0%}. Decoding reaches "
        f"{reached.decoding:.0%} of the bandwidth: a step reads the weights, and the caches of as many sequences as "
        f"fit, at most {SEQUENCES}; in process it takes {1e3 * reached.layer:.0f} ms a layer or more. Texts of maximum "
        "length: half as long, about half the hours. Memory is of one process, with 1.5 GB for driver and fragments."
    )


def hours(seconds: float | None) -> str:
    """`0.02`, `1.3`, `118`: hours."""
    if seconds is None:
        return "unknown"
    value = seconds / 3600
    if value < 0.01:
        return "<0.01"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def gigabytes(value: float | None) -> str:
    """`0.4 GB`, `53 GB`."""
    if value is None:
        return "unknown"
    return f"{value / 1e9:.1f} GB" if value < 1e10 else f"{value / 1e9:.0f} GB"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
