"""A plan as plan.json holds it, and as the terminal shows it."""

from __future__ import annotations

import os

from tf_hugebatch import published, registry
from tf_hugebatch.planning.compile import versions
from tf_hugebatch.planning.planner import Planner, traced_by
from tf_hugebatch.planning.roofline import Roofline
from tf_hugebatch.planning.slices import RECORDS, Slice
from tf_hugebatch.records import not_writable, write_json
from tf_hugebatch.runs import read_object
from tf_hugebatch.settings import Refusal, Settings

FILE = "plan.json"
_GIB = 2**30
_KINDS = ("arguments", "outputs", "aliased", "temporaries", "code")
_SAID = 1500  # characters of the compiler's reason that the terminal gets; plan.json has all


#: Stands for a slice where the run is planned for the machine at hand.
THIS_MACHINE = "this-machine"


def folder_of(settings: Settings, name: str, given: str | None) -> str:
    """Where the plan for the slice of that name goes.

    Raises:
        Refusal: the folder holds the plan of another run or slice, or takes no file.
    """
    folder = given or os.path.join("runs", f"plan-{settings.dataset}-{name}-{settings.experiment_hash()[:8]}")
    earlier = read_object(os.path.join(folder, FILE)) or {}
    ours = {"slice": name, "experiment": settings.experiment_hash()}
    if any(earlier.get(name, value) != value for name, value in ours.items()):
        raise Refusal(f"--plan_dir={folder}: it holds the plan of another run, for {earlier.get('slice')}; name another folder")
    if problems := not_writable("plan_dir", folder):
        raise Refusal(problems)
    return folder


def answer(settings: Settings, planner: Planner, target: Slice, command_line) -> dict:
    """The whole plan as one object; figures of a device are bytes and FLOPs, times seconds."""
    attempts = planner.attempts
    fitting = next((one for one in attempts if one.fits), None)
    generation = target.generation
    return {
        "command_line": list(command_line), "slice": target.name, "experiment": settings.experiment_hash(),
        "fits": fitting is not None,
        "target": {
            "chips": target.chips, "replicas": target.replicas, "topology": target.topology, "device": target.device,
            "usable_hbm_per_device": target.usable, "peak_flops_per_device": target.flops,
            "hbm_bandwidth_per_device": target.bandwidth, "source": generation.source},
        "attempts": [_attempt(one) for one in attempts],
        "cost": _cost(settings, fitting, target) if fitting else None,
        "published": [{"source": record.source, "images_per_second": record.images_per_second, "slice": record.slice}
                      for record in _records(settings)],
        "settings": settings.as_dict(), "versions": {**versions(), **traced_by()},
    }


def _attempt(attempt):
    layout = attempt.layout
    return {
        "micro_batches": layout.rounds, "micro_batch_size": layout.micro_batch_size, "padding": layout.padding,
        "batch_norm_groups_across_replicas": bool(layout.span) and layout.across_replicas,
        "fits": attempt.fits, "reason": attempt.reason or None,
        "accumulate": attempt.accumulate and _part(attempt.accumulate), "apply": attempt.apply and _part(attempt.apply)}


def _part(part):
    figures = part.figures
    facts = {"key": part.program.key, "all_reduce_bytes": part.program.all_reduce_bytes,
             "all_reduces": part.program.all_reduces}
    if figures.refused:
        return facts
    return {**facts, "hbm": {**{kind: getattr(figures, kind) for kind in _KINDS}, "other_variables": part.program.untouched,
                             "all": part.memory}, "flops": figures.flops, "bytes": figures.bytes}


def _cost(settings, attempt, target):
    layout, updates = attempt.layout, settings.total_updates
    bound = Roofline(target, layout, attempt.accumulate.figures, attempt.apply.figures)
    reduced = layout.rounds * attempt.accumulate.program.all_reduce_bytes + attempt.apply.program.all_reduce_bytes
    return {
        "updates": updates, "updates_per_epoch": settings.updates_per_epoch,
        "flops_per_update_and_device": bound.flops, "bytes_per_update_and_device": bound.bytes,
        "all_reduce_bytes_per_update": reduced, "bound_by": bound.bound_by,
        "flops_per_image": attempt.accumulate.figures.flops / layout.micro_batch_size,
        "no_faster_than": {
            "seconds_per_update": bound.seconds, "seconds_per_epoch": bound.seconds * settings.updates_per_epoch,
            "seconds": bound.seconds * updates, "images_per_second": bound.images_per_second,
            "chip_hours": bound.chip_hours(updates)}}


def answer_here(settings: Settings, measured, command_line) -> dict:
    """The plan for this machine, from a `measure.Measured`."""
    layout, updates = measured.layout, settings.total_updates
    return {
        "command_line": list(command_line), "slice": THIS_MACHINE, "experiment": settings.experiment_hash(),
        "micro_batches": layout.rounds, "micro_batch_size": layout.micro_batch_size, "replicas": layout.replicas,
        "padding": layout.padding, "seconds_per_micro_batch": measured.micro_batch, "seconds_per_end": measured.end,
        "seconds_per_update": measured.seconds, "seconds_per_epoch": measured.seconds * settings.updates_per_epoch,
        "updates": updates, "seconds": measured.seconds * updates,
        "images_per_second": layout.batch_size / measured.seconds, "peak_memory": measured.peak,
        "settings": settings.as_dict(), "versions": traced_by()}


def text_here(plan: dict):
    """The plan for this machine, line by line."""
    yield ""
    yield (f"this machine: {plan['micro_batches']} micro-batch(es) of {plan['micro_batch_size']} on {plan['replicas']} "
           f"replica(s), peak memory {plan['peak_memory'] / 2**20:,.0f} MiB so far")
    yield (f"An update takes about {plan['seconds_per_update']:.4g} s: {plan['micro_batches']} x "
           f"{plan['seconds_per_micro_batch']:.4g} s and {plan['seconds_per_end']:.4g} s at its end; "
           f"{plan['images_per_second']:,.0f} images/s")
    yield (f"An epoch about {plan['seconds_per_epoch']:.4g} s, {plan['updates']:,} updates about {plan['seconds']:.4g} s; "
           f"input and evaluation come on top")


def _records(settings):
    usual = registry.DATASETS["imagenet2012"].settings["image_size"]
    if (settings.dataset, settings.model, settings.image_size) == ("imagenet2012", "resnet50", usual):
        return RECORDS
    return ()


def save(folder: str, plan: dict) -> str:
    """Writes plan.json, atomically; returns its path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, FILE)
    write_json(path, plan)
    return path


def text(plan: dict):
    """The plan, line by line."""
    target = plan["target"]
    device = target["device"]
    yield ""
    yield (f"{plan['slice']}: {target['chips']:,} chips, {target['replicas']:,} replicas, one a {device}, with "
           f"{target['usable_hbm_per_device'] / _GIB:.2f} GiB each for a program")
    for attempt in plan["attempts"]:
        slots = attempt["micro_batches"] * attempt["micro_batch_size"] * target["replicas"]
        yield (f"  {attempt['micro_batches']} x {attempt['micro_batch_size']} a {device}, {attempt['padding'] / slots:.1%} "
               f"padding: {'fits' if attempt['fits'] else 'does not fit'}")
        if not attempt["fits"]:
            yield f"    {' '.join(attempt['reason'].split())[:_SAID]}"
    if not plan["fits"]:
        yield "Does not fit." if plan["attempts"] else "Nothing was tried."
        return
    found = next(one for one in plan["attempts"] if one["fits"])
    yield (f"Fits, with {found['micro_batches']} micro-batch(es) of {found['micro_batch_size']} a {device}. Memory, MiB a "
           f"{device}:")
    yield f"  {'':<20} {'micro-batch':>12} {'end of update':>14}"
    for kind in found["accumulate"]["hbm"]:
        values = [found[part]["hbm"][kind] / 2**20 for part in ("accumulate", "apply")]
        yield f"  {kind.replace('_', ' '):<20} {values[0]:>12,.1f} {values[1]:>14,.1f}"
    yield from _cost_in_words(plan, device)


def _cost_in_words(plan, device):
    cost, target = plan["cost"], plan["target"]
    least = cost["no_faster_than"]
    yield (f"An update: {_amount(cost['flops_per_update_and_device'])}FLOP and "
           f"{_amount(cost['bytes_per_update_and_device'])}B of memory traffic a {device}, "
           f"{_amount(cost['all_reduce_bytes_per_update'])}B into all-reduces; "
           f"{_amount(cost['flops_per_image'])}FLOP an image")
    yield (f"No faster than {least['seconds_per_update']:.4g} s an update, {least['seconds_per_epoch']:.4g} s an epoch, "
           f"{least['seconds']:.4g} s for {cost['updates']:,} updates; at most {least['images_per_second']:,.0f} images/s; "
           f"at least {least['chip_hours']:,.3g} chip-hours")
    yield (f"  a bound, set by {cost['bound_by']}: peaks {target['peak_flops_per_device'] / 1e12:g} TFLOP/s and "
           f"{target['hbm_bandwidth_per_device'] / 1e9:g} GB/s a {device} ({target['source']}); all-reduces, input and "
           f"evaluation come on top")
    for record in plan["published"]:
        yield f"  published: {record['images_per_second']:,.0f} images/s on {record['slice']} ({record['source']})"
    if plan["published"]:
        fastest = min(published.TABLE_1, key=lambda row: row.seconds)
        yield (f"  published: {fastest.seconds:g} s to {fastest.top1:g}% ({fastest.who}; the paper's {fastest.source})")


def _amount(value):
    """A number to four digits with the prefix of its unit."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}"
    return f"{value:.4g} "
