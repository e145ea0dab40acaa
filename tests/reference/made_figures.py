"""Made run folders, sweeps and ladders that feed every figure: written as the package writes them, with made numbers."""

import itertools
import json
import math
import pathlib

from tf_hugebatch import command_line, published
from tf_hugebatch.reports.catalogue import ONE_SEED_FROM_EPOCHS
from tf_hugebatch.reports.commands import SEEDS
from tf_hugebatch.runs import load_runs, load_sweeps

FULL = {name: row.full for name, row in published.BASELINES.items()}
_FRONTIER_SPACES = pathlib.Path(__file__).parents[2] / "flags" / "sweeps"
_MODEL = {"mnist": "lenet5", "mnist5k": "lenet5", "cifar10": "resnet50_v1", "imagenet2012": "resnet50"}


def settings_of(dataset, **values):
    """A run's settings, resolved by the package itself."""
    values = {"model": _MODEL[dataset], **values}
    words = [f"--{name}={value}" for name, value in {"dataset": dataset, **values}.items() if value is not None]
    command = command_line.parse(words, program="", description="", dataset=dataset)
    assert command.problems == [], command.problems
    return command.settings


#: What makes a run one of figures 11 and 12.
DIFFUSION = {"train_steps": 1000, "schedule": "constant", "lr_scaling": "none"}


def write_run(folder, dataset="mnist", *, accuracy=0.98, status="done", rows=20, note=None, distance=None, losses=None,
              schedule_file=True, more_rows=None, **values):
    """A run folder whose loss falls and whose accuracy rises to `accuracy`; `rows` train rows, evaluations at a fifth of
    them. accuracy None: nothing was evaluated. distance: a function of the update. losses: instead of the made ones.
    more_rows: a function of the update that gives ({name: number} for its train row, rows of diagnostics)."""
    settings = settings_of(dataset, **values)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    total = settings.total_updates
    rows = len(losses) if losses else min(rows, total)
    split = "validation" if settings.validation_examples else "test"
    lines = []
    for number in range(1, rows + 1):
        step = round(number * total / rows)
        epoch = float(settings.stages.epoch(step))
        row = {"kind": "train", "step": step, "epoch": epoch,
               "loss": losses[number - 1] if losses else 2.3 * math.exp(-4 * number / rows),
               "accuracy": 1 - 0.9 * math.exp(-5 * number / rows), "learning_rate": settings.peak_rate * (1 - number / rows)}
        measured, others = more_rows(step) if more_rows else ({}, [])
        lines.append({**row, **({"distance_from_start": distance(step)} if distance else {}), **measured})
        lines += [{"step": step, "epoch": epoch, **other} for other in others]
        if accuracy is not None and (number % 5 == 0 or number == rows):
            lines.append({"kind": "eval", "split": split, "step": step, "epoch": epoch, "loss": 0.1, "top5": 0.999,
                          "accuracy": accuracy * (1 - 0.5 * math.exp(-6 * number / rows)) if number < rows else accuracy})
    final = {} if accuracy is None else {"train_loss": 0.02, "test_accuracy": accuracy, "test_loss": 0.1,
                                         "test_top5": min(1.0, accuracy + 0.2)}
    if settings.validation_examples and final:
        final["validation_accuracy"] = accuracy
    status = {"status": status, "step": total, "total_steps": total, "reason": "loss not finite at update 3"
              if status == "diverged" else None, "final": final, "images_per_second": 1000.0,
              **({"data_note": note} if note else {})}
    (folder / "settings.json").write_text(json.dumps({"schema_version": 1, **settings.as_dict()}))
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "versions.json").write_text(json.dumps(
        {"command_line": ["mnist_main", f"--dataset={dataset}", f"--run_dir={folder.name}"], "git_commit": "0" * 40}))
    if schedule_file:
        points = "".join(f"{step},{step / 100},{settings.peak_rate * (1 - step / 50)}\n" for step in range(50))
        (folder / "schedule.csv").write_text("update,epoch,learning_rate\n" + points)
    return folder


def trust_row(ratios):
    """A row of --diagnostics=trust with gradients of norm 2. ratios: {path: ||w|| / ||g||}."""
    return {"kind": "trust", "weight_norms": {path: 2 * ratio for path, ratio in ratios.items()},
            "gradient_norms": dict.fromkeys(ratios, 2.0), **{name: dict.fromkeys(ratios, 1.0) for name in (
                "trust_ratios", "update_norms", "bound_hits")}}


def snr_row(signal=1.0):
    """A row of --diagnostics=snr of independent gradients."""
    sizes = [64 * 2 ** level for level in range(8)]
    return {"kind": "snr", "examples": 60000, "batch_sizes": sizes, "groups": [60000 // size for size in sizes],
            "signal": [signal * size for size in sizes], "noise": [30 * size ** 0.5 for size in sizes],
            "signal_slope": 1.0, "noise_slope": 0.5}


def write_plan(folder, dataset, *, space, method="grid", trials=4, select_on="validation", **values):
    """A sweep folder without runs."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(
        {"schema_version": 1, "program": "mnist_main", "method": method, "trials": trials, "final_seeds": 2,
         "select_on": select_on, "space": space, "settings": settings_of(dataset, **values).as_dict(), "command_line": []}))
    (folder / "result.json").write_text(json.dumps(
        {"status": "done", "trials": {"done": trials, "diverged": 0, "failed": 0}, "chosen": None, "edges": []}))
    return folder


def write_grid(folder, dataset, *, rates, warmups, accuracy, missing=(), diverged=(), select_on="validation", note=None,
               third=None, **values):
    """A grid sweep over rates x warm-ups; accuracy(rate, warmup); missing, diverged: (rate, warm-up) of cells. third: (name,
    values) of one more dimension, whose value accuracy takes too."""
    name, of_third = third or (None, [None])
    space = {"peak_learning_rate": rates, "warmup_epochs": warmups, **({name: of_third} if name else {})}
    write_plan(folder, dataset, space=space, select_on=select_on,
               trials=len(rates) * len(warmups) * len(of_third), **values)
    held_out = {"validation_examples": 5000} if select_on == "validation" else {}
    for number, (rate, warmup, more) in enumerate(itertools.product(rates, warmups, of_third)):
        if (rate, warmup) not in missing:
            lost = (rate, warmup) in diverged
            found = None if lost else accuracy(rate, warmup, more) if name else accuracy(rate, warmup)
            write_run(pathlib.Path(folder) / "trials" / f"{number:04d}", dataset, peak_learning_rate=rate, warmup_epochs=warmup,
                      accuracy=found, status="diverged" if lost else "done", rows=5, note=note, **held_out,
                      **{**values, **({name: more} if name else {})})
    return folder


def write_search(folder, dataset, accuracies, *, select_on="validation", rows=5, note=None, status="done", **values):
    """A random search of the peak rate with a trial for each accuracy, None for one that diverged; each jumps to its
    accuracy at its last evaluation."""
    write_plan(folder, dataset, space={"peak_learning_rate": {"low": 0.01, "high": 10.0, "log": True}}, method="random",
               trials=len(accuracies), select_on=select_on, **values)
    if status != "done":
        (pathlib.Path(folder) / "result.json").write_text(json.dumps({"status": status}))
    held_out = {"validation_examples": 5000} if select_on == "validation" else {}
    for number, accuracy in enumerate(accuracies):
        write_run(pathlib.Path(folder) / "trials" / f"{number:04d}", dataset, accuracy=accuracy, rows=rows, note=note,
                  status="diverged" if accuracy is None else "done", peak_learning_rate=0.01 * 1.3 ** number,
                  schedule_file=False, **held_out, **values)
    return folder


def write_frontier(folder, name, batch, accuracies, *, rule=None, dataset="mnist", note=None, **values):
    """What an optimizer of flags/frontier comes to at a batch: final runs of its search, or of `rule` with that rate scaled."""
    own = {"sgd": {"optimizer": "sgd", "nesterov": "false"}, "nesterov": {"optimizer": "sgd", "nesterov": "true"}}
    common = {"batch_size": batch, "epochs": 30, "schedule": "polynomial", "poly_power": 1, **own.get(name, {"optimizer": name}),
              **values}
    folder = pathlib.Path(folder) / (f"{name}_{batch}" + (f"_{rule}" if rule else ""))
    if not rule:
        space = _FRONTIER_SPACES / f"frontier_{name.replace('nesterov', 'sgd')}.json"
        write_plan(folder, dataset, space=json.loads(space.read_text()), method="random", trials=20, **common)
    rate = {"learning_rate": 0.02, "lr_scaling": rule, "selected_on": "validation"} if rule else {"peak_learning_rate": 0.02}
    for seed, accuracy in enumerate(accuracies, start=1):
        write_run(folder / (f"seed{seed}" if rule else f"final/seed{seed}"), dataset, accuracy=accuracy, seed=seed, rows=20, note=note,
                  status="diverged" if accuracy is None else "done", schedule_file=False, **{**rate, **common})
    return folder


def write_ladder(folder, dataset, batch, accuracies, *, epochs=None):
    """A ladder whose rungs have these accuracies (a list for seeds, 'diverged', None for not run, a string for n/a)."""
    folder = pathlib.Path(folder)
    epochs = epochs or published.BASELINES[dataset].epochs
    adds = [rung.adds for rung in published.LADDER]
    rungs = []
    for number, (name, found) in enumerate(accuracies.items()):
        n_a = found if isinstance(found, str) and found != "diverged" else None
        kind = "baseline_rate" if name == "baseline rate" else "leave_one_out" if "without" in name \
            else "rule" if name in "01" else "tuned"
        rungs.append({"name": name, "adds": adds[int(name)] if name.isdigit() else name.replace("4 without", "all but"),
                      "kind": kind, "n_a": n_a, "folder": f"rung{number}"})
        if n_a:
            continue
        sweep = write_plan(folder / f"rung{number}", dataset, space={}, method="random", trials=0 if kind == "rule" else 20,
                           batch_size=batch, epochs=epochs)
        for seed, accuracy in enumerate([None] if found == "diverged" else found or [], start=1):
            write_run(sweep / "final" / f"seed{seed}", dataset, accuracy=accuracy, seed=seed, batch_size=batch, epochs=epochs,
                      status="diverged" if accuracy is None else "done", rows=5)
    (folder / "ladder.json").write_text(json.dumps(
        {"schema_version": 1, "settings": settings_of(dataset, batch_size=batch, epochs=epochs).as_dict(), "rungs": rungs}))
    return folder


def write_seeds(folder, dataset, *, epochs, accuracy, **values):
    """As many seeds as the command of a figure trains for so many epochs, from a folder that is a run itself."""
    for seed in range(1 if epochs >= ONE_SEED_FROM_EPOCHS else SEEDS):
        write_run(folder / f"seed{seed}" if seed else folder, dataset, epochs=epochs, accuracy=accuracy + 0.0005 * seed,
                  seed=seed, rows=5, schedule_file=False, **values)


#: What flags/figures/fig19.flags trains at full batch with.
FULL_LONGER = {"optimizer": "lamb", "peak_learning_rate": 0.07303, "warmup_epochs": 25}
HUGE_LONGER = {"optimizer": "lamb", "peak_learning_rate": 0.02767, "warmup_epochs": 5}
_LARS = {"optimizer": "lars", "schedule": "polynomial", "warmup_epochs": 5, "peak_learning_rate": 16}
_SCHEDULES = (("cosine_regular", 0, "linear"), ("polynomial", 5, "linear"), ("cosine_fine", 5, "linear"),
              ("cosine_regular", 5, "linear"), ("cosine_coarse", 5, "linear"), ("cosine", 5, "linear"), ("cosine", 5, "cosine"))


#: Of flags/growth.
GROWTH = "9:5,18:5,24:5"
NOISES = (None, "activations", "weights", "gradients", "labels")


def write_noise(folder, batch, kind, seed=1, **values):
    """A run of appendix 6.3 with noise of a kind, or none, and sharpness 10 times its seed, a hundred times that before the end."""
    noise = {"inject_noise": kind, "noise_stddev": 0.1} if kind else {}
    total = settings_of("mnist", batch_size=batch, epochs=30).total_updates
    values = {"optimizer": "sgd", "schedule": "polynomial", "warmup_from": "zero", **noise, **values}
    return write_run(folder, batch_size=batch, epochs=30, seed=seed, rows=5, **values, more_rows=lambda step: ({}, [{
                         "kind": "sharpness", "eigenvalue": (10.0 if step == total else 1000.0) * seed, "residual": 0.01,
                         "products": 9, "examples": 1000}]))


def write_everything(folder):
    """Runs for all of the catalogue. Returns (runs, sweeps)."""
    folder = pathlib.Path(folder)
    huge, large = (published.REGIME_BATCHES["mnist"][name] for name in ("huge", "large"))
    for name, batch, accuracy, more in (
            ("fig03", large, 0.991, _LARS), ("fig04", huge, 0.958, _LARS),
            ("fig05", huge, 0.985, {**_LARS, "optimizer": "lamb"}),
            ("fig32", huge, 0.87, {**_LARS, "schedule": "cyclical", "cycles": 4, "warmup_epochs": 0}),
            ("fig33", huge, 0.96, {**_LARS, "schedule": "cyclical", "cycles": 1, "warmup_epochs": 0})):
        for seed in (1, 2, 3):
            write_run(folder / name / f"seed{seed}", accuracy=accuracy + 0.001 * seed, rows=60, seed=seed, batch_size=batch,
                      epochs=30, validation_examples=5000, **more)
    of_figure = {8: "imagenet2012", 9: "imagenet2012", 18: "mnist", 19: "mnist", 20: "cifar10", 22: "cifar10"}
    more = {published.REGIME_BATCHES["cifar10"]["large"]: (500,), FULL["cifar10"]: (500, 1000)}
    stated = [(dataset, published.TRAINED_LONGER[number]) for number, dataset in of_figure.items()]
    for dataset, durations in [("cifar10", more), *stated]:
        for batch, epochs in durations.items():
            for number in epochs:
                best = published.BASELINES[dataset].top1 / 100 - 0.02 * math.log10(batch / 1000)
                recipe = {"optimizer": "lars"} if dataset != "mnist" else FULL_LONGER if batch == FULL["mnist"] else HUGE_LONGER
                write_seeds(folder / "longer" / f"{dataset}_{batch}_{number}", dataset, batch_size=batch, epochs=number,
                            accuracy=best - 0.4 / number ** 0.5, **recipe)
    for batch in (256, 4096, large, 16384, huge, FULL["mnist"]):
        for epochs in (10, 30, 60, 100, 200):
            write_seeds(folder / "fig21" / f"b{batch}_e{epochs}", "mnist", batch_size=batch, epochs=epochs,
                        optimizer="sgd" if batch == 256 else "lamb", learning_rate=0.005, accuracy=0.9925 - 0.03 * math.log2(batch / 256) / epochs)
    for epochs in (300, 100):
        for batch in (huge, "full"):
            recipe = FULL_LONGER if batch == "full" else {**HUGE_LONGER, "weight_decay": 0.02}
            write_seeds(folder / "between" / f"{batch}_{epochs}", "mnist", batch_size=batch, epochs=epochs,
                        accuracy=0.982 + 0.002 * epochs / 100, **recipe)
    for batch in (256, 512, 1024, 2048, 4096, large, 16384, huge, "full"):
        write_search(folder / "searches" / f"{batch}", "mnist", [0.98, 0.9935, 0.97, None, *(0.9 for _ in range(16))],
                     batch_size=batch, epochs=30, rows=3, eval_every_epochs=0.25)
    for batch in (published.REGIME_BATCHES["imagenet2012"]["large"], "full"):
        write_run(folder / "fig10" / f"{batch}", "imagenet2012", batch_size=batch, train_steps=3519, warmup_steps=100,
                  accuracy=0.76 if batch != "full" else 0.70, rows=300)
    for dataset, batches in (("mnist", (256, 1024, large, huge, "full")), ("cifar10", (128, 2048))):
        for batch, seed in itertools.product(batches, (1, 2, 3)):
            share = math.log2(FULL[dataset] if batch == "full" else batch)
            write_run(folder / "distance" / f"{dataset}_{batch}_{seed}", dataset, batch_size=batch, seed=seed, rows=200,
                      accuracy=0.98, **DIFFUSION,
                      distance=lambda step, share=share, seed=seed: (20 + seed) / share * math.log(step + 1) ** (share / 9))
    for regime, batch in (("baseline", 256), ("large", large), ("full", "full")):
        size = FULL["mnist"] if batch == "full" else batch
        write_run(folder / "measured" / regime, regime=regime, epochs=30, rows=200, more_rows=lambda step, size=size: (
            {"gradient_power": 1 / step, "gradient_variance": 200 + size / step, "noise_scale": 1.0},
            [trust_row({"a/kernel": step ** 0.5, "a/bias": 1.0, "b/kernel": 100 / step ** 0.2}), snr_row(),
             {"kind": "sharpness", "eigenvalue": 40 / step ** 0.3, "residual": 0.01, "products": 9, "examples": 1000}]))
    for batch in (huge, "full"):
        write_run(folder / "noise" / f"b{batch}" / "lars", batch_size=batch, epochs=30, **_LARS, warmup_from="zero")
    for batch in (large, huge, "full"):
        write_run(folder / "adapted" / f"{batch}", batch_size=batch, regime="huge", regime_adaptation="true", rows=300)
    for seed in (1, 2):
        for name, values in (("decay", {"schedule": "steps", "rate_drops": GROWTH}),
                             ("growth", {"schedule": "constant", "batch_growth": GROWTH})):
            write_run(folder / "growth" / name / f"seed{seed}", batch_size=256, epochs=30, optimizer="sgd", seed=seed, **values)
    for batch, kind in itertools.product((huge, "full"), NOISES):
        for seed in (1, 2):
            write_noise(folder / "noise" / f"b{batch}" / (kind or "sgd") / f"seed{seed}", batch, kind, seed)
    for (dataset, network), seed in itertools.product((("mnist", "lenet"), ("mnist", "lenet5"), ("cifar10", "resnet20")), (1, 2, 3)):
        write_run(folder / "noise_scale" / network / f"seed{seed}", dataset, regime="baseline", model=network, seed=seed, rows=60,
                  more_rows=lambda step: ({"gradient_power": 1 / step, "gradient_variance": 200.0, "noise_scale": 1.0}, []))
    for number, (schedule, warmup, shape) in enumerate(_SCHEDULES, start=23):
        write_run(folder / "schedules" / f"fig{number}", epochs=30, batch_size=256, schedule=schedule, warmup_epochs=warmup,
                  warmup_shape=shape, dry_run="true", peak_learning_rate=1, accuracy=None, status="done")
    grid = {"rates": [2, 4, 8, 16, 32, 64], "warmups": [0, 2, 5, 10, 15]}
    for dataset, batch in (("imagenet2012", published.LADDER_BATCH), ("imagenet2012", "full"), ("cifar10", "full"),
                           ("mnist", "full")):
        top = published.BASELINES[dataset].top1 / 100 if dataset != "imagenet2012" else 0.19
        for optimizer, share in (("sgd", 0.7), ("lars", 0.98)):
            write_grid(folder / "grids" / f"{dataset}_{batch}_{optimizer}", dataset, **grid, batch_size=batch,
                       optimizer=optimizer, epochs=published.BASELINES[dataset].epochs, missing={(64, 15)},
                       diverged={(64, 0), (32, 0)},
                       accuracy=lambda rate, warmup, top=top, share=share:
                       top * share * math.exp(-0.2 * math.log2(rate / 16) ** 2 - 0.01 * (warmup - 10) ** 2))
    for name, batch in itertools.product(("sgd", "nesterov", "lars", "lamb", "muon"),
                                         (256, 1024, 2048, 4096, large, 16384, huge, "full")):
        write_frontier(folder / "frontier", name, batch, [0.99, 0.991])
    for name in ("sgd", "nesterov", "lars", "lamb", "muon"):
        write_frontier(folder / "frontier_cifar10", name, "full", [0.70, 0.71, 0.72], dataset="cifar10", model="resnet9",
                       epochs=60, note="JPEG-recompressed")
    for name, own in (("sgd", {"optimizer": "sgd", "nesterov": "false"}), ("nesterov", {"optimizer": "sgd", "nesterov": "true"}),
                      *((one, {"optimizer": one}) for one in ("lars", "lamb", "muon"))):
        write_run(folder / "frontier_noise" / name, batch_size=256, epochs=30, schedule="polynomial", poly_power=1, rows=60,
                  selected_on="validation", peak_learning_rate=0.02, **own, more_rows=lambda step: (
                      {"gradient_power": 1 / step, "gradient_variance": 200.0, "noise_scale": 1.0}, []))
    rungs = {"0": [0.001, 0.0011], "1": [0.027, 0.029, 0.03], "2": [0.046, 0.05], "3": [0.042, 0.048], "4": [0.18, 0.19],
             "0 tuned": [0.02, 0.03], "4 without warm-up": [0.12], "4 without label smoothing": [0.17, 0.18],
             "4 without clipping": "diverged", "4 without ghost batch norm": "the model has none", "baseline rate": [0.7]}
    write_ladder(folder / "ladder1", "imagenet2012", published.LADDER_BATCH, rungs)
    write_ladder(folder / "ladder6", "imagenet2012", "full", rungs)
    write_ladder(folder / "ladder13", "cifar10", published.REGIME_BATCHES["cifar10"]["large"], rungs)
    write_ladder(folder / "ladder14", "cifar10", "full", rungs)
    return load_runs(folder), load_sweeps(folder)
