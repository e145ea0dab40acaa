"""Every figure of the paper as a row: what it shows, which runs feed it, what the paper states, and what fills it.

The captions are the paper's in short; its curves are in no text, so only stated numbers stand beside ours. What a caption
leaves open (rates, data set of figures 11 and 12) is ours and the row's note says so.
"""

from .. import published
from . import (commands, curves, distance, frontier, full_batch, growth, heat_maps, ladder_bars, longer, measured,
               noise_by_optimizer, noises, predicted, schedules_drawn, steps_to_target)
from .commands import SEEDS, TRIALS
from .drawing import Drawing, batch_in_words
from .sheets import ON_TEST
from .sources import FULL, Figure, Source

NUMBERS = range(1, 34)
#: Figures that the paper doesn't have, by name.
STEPS_TO_TARGET, ADAPTED, PREDICTED, NOISES, *_ = NAMES = (
    "steps_to_target", "regime_adaptation", "predicted_large_batch", "noise_and_ratios", *measured.FIGURES, growth.NAME,
    frontier.NAME, full_batch.NAME, noise_by_optimizer.NAME)

MNIST, CIFAR, IMAGENET = (published.BASELINES[name] for name in ("mnist", "cifar10", "imagenet2012"))
# The network that a command trains: the small one on MNIST, since it is the one that a figure can be afforded with.
_MODEL = {"mnist": "lenet5", "cifar10": "resnet50_v1", "imagenet2012": "resnet50"}
_HUGE, _LARGE = ({name: batches[regime] for name, batches in published.REGIME_BATCHES.items()} for regime in ("huge", "large"))
# The baseline's rate, rungs 2-4, rung 0 tuned and five that leave a part out are searched; every rung has five seeds.
LADDER_RUNS = 10 * TRIALS + 12 * SEEDS
# What tells runs of flagfiles that train longer from others, where it isn't LARS.
_LONGER_WITH = {f"--flagfile=flags/figures/{name}.flags": {"optimizer": optimizer, **values} for name, optimizer, values in (
    ("fig18", "lamb", {"peak_learning_rate": 0.02767, "warmup_epochs": 5}),
    ("fig19", "lamb", {"peak_learning_rate": 0.07303, "warmup_epochs": 25}),
    ("fig19_b256", "sgd", {"schedule": "polynomial"}), ("fig21", "lamb", {}))}
#: How many updates figures 11 and 12 watch, and how many images' worth of them are cheap enough for several seeds.
DIFFUSION_UPDATES, _CHEAP_IMAGES = 1000, 10_000_000
#: Runs of so many epochs are trained with one seed, since each takes 20 minutes to an hour of the small network on MNIST and
#: days of the others; their points stand without a spread, and say so.
ONE_SEED_FROM_EPOCHS = 300

KINDS = {"ladder": ladder_bars.draw, "heat map": heat_maps.draw, "curves": curves.draw, "longer": longer.draw,
         "equal updates": longer.draw_equal_updates, "distance": distance.draw, "schedule": schedules_drawn.draw,
         STEPS_TO_TARGET: steps_to_target.draw, PREDICTED: predicted.draw, NOISES: noises.draw, frontier.NAME: frontier.draw,
         full_batch.NAME: full_batch.draw, growth.NAME: growth.draw, noise_by_optimizer.NAME: noise_by_optimizer.draw,
         **dict.fromkeys(measured.FIGURES, measured.draw)}


def _source(label, row, batch, epochs, words, *, runs=1, images=None, metric="test_accuracy", program=None, **wanted):
    """A source on the data set of `row` (of Table 2). words: the command's flags but the folder of the data; runs: how many
    it trains, of `epochs` each, unless `images` says what it reads in all."""
    command = f"python -m tf_hugebatch.{program or commands.program_of(row.dataset)} {words} --data_dir=DIR"
    return Source(label, {"dataset": row.dataset, "batch_size": batch, "epochs": epochs, **wanted}, command,
                  _MODEL[row.dataset], images or runs * epochs * row.full, metric)


def _stated(number):
    """What the paper states for a figure, by the source that published.py quotes."""
    return tuple(result for result in published.RESULTS
                 if any(word.split(" (")[0].strip() == f"figure {number}" for word in result.source.split(",")))


_LARS_8K = next(row for row in published.TABLE_3 if row.solver == "lars").original
_LARS_8K = published.Result("mnist", published.TABLE_3_BATCH, published.TABLE_3_EPOCHS, _LARS_8K.top1, "LARS", "Table 3")
_RUNGS_STATED = tuple(published.Result("imagenet2012", published.LADDER_BATCH, published.LADDER_EPOCHS, rung.top1, rung.adds,
                                       "figure 1") for rung in published.LADDER)


def _ladder(number, shows, *panels, paper=()):
    """panels: (row of Table 2, batch, base flagfile, metric)."""
    sources = tuple(
        _source(f"{row.dataset}, {_named(row, batch)}", row, batch, row.epochs,
                f"--ladder --flagfile={base} --batch_size={batch} --sweep_dir=runs/figures/ladder_{row.dataset}_{batch}",
                runs=LADDER_RUNS, metric=metric, program="sweep_main")
        for row, batch, base, metric in panels)
    return Figure(number, shows, "ladder", panels[0][0].dataset, tuple(batch for _, batch, _, _ in panels),
                  tuple(row.epochs for row, _, _, _ in panels), sources, paper)


def _heat_map(number, row, batch, cells, flagfiles, note=""):
    """flagfiles: of momentum SGD and of LARS, each with a space flags/sweeps/<space>.json of `cells` cells."""
    sources = tuple(
        _source(name, row, batch, row.epochs,
                f"--space=flags/sweeps/{space}.json --method=grid --final_seeds=0 --flagfile={flagfile} "
                f"--sweep_dir=runs/figures/{space}", runs=cells, program="sweep_main", optimizer=optimizer)
        for (optimizer, name), (space, flagfile) in zip((("sgd", "momentum SGD"), ("lars", "LARS")), flagfiles))
    # Of a full batch the search holds examples back, so its size is that of the trials and stands on their map.
    return Figure(number, f"accuracy over learning rate and warm-up, {row.dataset}, {batch_in_words(batch)}", "heat map",
                  row.dataset, (batch,), (row.epochs,), sources, (), note)


def _own_maps(number):
    """Spaces and flagfiles of a heat map that has its own."""
    return tuple((f"fig{number}_{name}", f"flags/figures/fig{number}_{name}.flags") for name in ("sgd", "lars"))


def _curves(number, shows, batch, *, paper, flagfile=None, note="", **wanted):
    flagfile = flagfile or number
    source = _source(f"{wanted['optimizer']} at batch {batch:,}", MNIST, batch, MNIST.epochs,
                     f"--flagfile=flags/figures/fig{flagfile:02}.flags --run_dir=runs/figures/fig{flagfile:02}", **wanted)
    return Figure(number, shows, "curves", "mnist", (batch,), (MNIST.epochs,), (source,), paper, note)


def _longer(number, row, flagfile, *, more=(), other=(), note=""):
    """flagfile: of every run but for batch and epochs. more: {batch: epochs} of ours beside those that the paper names;
    other: {batch: flagfile} where a batch has one of its own. A duration is trained with several seeds where it can be."""
    durations = {FULL if batch == row.full else batch: epochs for batch, epochs in published.TRAINED_LONGER[number].items()}
    durations = {batch: sorted({*durations.get(batch, ()), *dict(more).get(batch, ())}) for batch in (*dict(more), *durations)}
    sources = []
    for batch, epochs in ((batch, epochs) for batch, of_batch in durations.items() for epochs in of_batch):
        seeds = SEEDS if epochs < ONE_SEED_FROM_EPOCHS else 1
        words = [f"--flagfile={dict(other).get(batch, flagfile)}", f"--batch_size={batch}", f"--epochs={epochs}"]
        folder = f"{commands.FOLDER}/figures/fig{number:02}/b{batch}_e{epochs}"
        sources.append(Source(
            f"{_named(row, batch)}, {epochs:,} epochs", {"dataset": row.dataset, "batch_size": batch, "epochs": epochs},
            commands.train(words, row.dataset, folder, range(1, seeds + 1)), _MODEL[row.dataset], seeds * epochs * row.full,
            seeds=seeds, own={**_LONGER_WITH.get(words[0], {"optimizer": "lars"}), "validation_examples": 0}))
    batches = f", {' and '.join(_named(row, batch) for batch in durations)}" if len(durations) <= 2 else ""
    shows = f"training longer, {row.dataset}{batches}"
    epochs = tuple(sorted({source.wanted["epochs"] for source in sources}))
    return Figure(number, shows, "longer", row.dataset, tuple(durations), epochs, tuple(sources), _stated(number), note)


def _schedule(number, shows, **wanted):
    name = f"fig{number:02}"
    command = f"python -m tf_hugebatch.mnist_main --flagfile=flags/figures/{name}.flags --run_dir=runs/figures/{name}"
    return Figure(number, shows, "schedule", None, (), (), (Source(shows, wanted, command, "lenet5", 0),), (),
                  "The paper names neither data set nor values: the shape is what is compared.")


def _distance(number, row, batches):
    """Equal updates at one constant rate, so that only the batch differs. Several seeds where they are cheap, for alpha."""
    sources = []
    for batch in batches:
        images = DIFFUSION_UPDATES * (row.full if batch == FULL else batch)
        seeds = SEEDS if images <= _CHEAP_IMAGES else 1
        words = [f"--flagfile=flags/figures/fig{number}.flags", f"--batch_size={batch}"]
        command = commands.train(words, row.dataset, f"{commands.FOLDER}/figures/fig{number}/b{batch}", range(1, seeds + 1))
        sources.append(Source(
            _named(row, batch), {"dataset": row.dataset, "batch_size": batch, "train_steps": DIFFUSION_UPDATES,
                                 "schedule": "constant", "lr_scaling": "none"},
            command, _MODEL[row.dataset], seeds * images, seeds=seeds))
    note = f"The caption names neither data set nor batches: {row.dataset}, these batches and one constant rate are ours."
    return Figure(number, f"distance of the weights from their start, {row.dataset}", "distance", row.dataset, batches, (),
                  tuple(sources), (), note)


def _equal_updates(number, row, flagfiles):
    """flagfiles: {batch: flagfile}, each with as many updates as the others."""
    updates = -(-row.epochs * row.full // _LARGE[row.dataset])
    sources = tuple(
        _source(_named(row, batch), row, batch, None,
                f"--flagfile={flagfile} --train_steps={updates} --run_dir=runs/figures/fig{number}/b{batch}",
                images=updates * (row.full if batch == FULL else batch)) for batch, flagfile in flagfiles.items())
    return Figure(number, f"loss and accuracy at equal updates, {row.dataset}", "equal updates", row.dataset, tuple(flagfiles),
                  (), sources, (), "The paper gives no number of updates: ours is the baseline's epochs at the smaller batch.")


def _steps_to_target(row, batches):
    """Each batch is tuned for itself, as Shallue et al. 2018 do. No final runs: updates are counted in the trials."""
    sources = tuple(
        _source(f"momentum SGD, {batch_in_words(batch)}", row, batch, row.epochs,
                f"--space=flags/sweeps/steps_to_target.json --method=random --trials={TRIALS} --final_seeds=0 "
                f"--flagfile=flags/figures/steps_to_target.flags --batch_size={batch} "
                f"--sweep_dir=runs/figures/steps_to_target/b{batch}", runs=TRIALS, program="sweep_main", optimizer="sgd",
                eval_every_epochs=0.25)  # so that an epoch of a small batch is no single step of the count
        for batch in batches)
    return Figure(STEPS_TO_TARGET, f"updates until the target against batch size, {row.dataset}", STEPS_TO_TARGET,
                  row.dataset, tuple(batches), (row.epochs,), sources, (),
                  "Not in the paper: the picture of Shallue et al. 2018, arXiv 1811.03600.")


def _named(row, batch):
    return batch_in_words(batch, {row.full})


_TOP1, _TOP5 = "test_accuracy", "test_top5"
_WARM = {"optimizer": "lars", "schedule": "polynomial", "warmup": True}
_CYCLICAL = {"optimizer": "lars", "schedule": "cyclical"}
_AS = "The paper shows such a run twice; ours is drawn from the runs of figure {}."
_RUNGS = "flags/ladder/imagenet_{}_rung{}.flags"
_LADDER, _FULL_LADDER = (f"flags/ladder/imagenet_{batch}.flags" for batch in (published.LADDER_BATCH, IMAGENET.full))
_IMAGENET_FULL_MAPS = (("fig07_sgd", _RUNGS.format(IMAGENET.full, 3)), ("fig07_lars", _RUNGS.format(IMAGENET.full, 4)))
_FRONTIER = frontier.row(MNIST, _MODEL["mnist"], (MNIST.batch, 1024, 2048, 4096, _LARGE["mnist"], 16384, _HUGE["mnist"], FULL))

_ROWS = (
    _ladder(1, "the recipe ladder, ImageNet, top-1", (IMAGENET, published.LADDER_BATCH, _LADDER, _TOP1), paper=_RUNGS_STATED),
    _heat_map(2, IMAGENET, published.LADDER_BATCH, 30,
              (("fig02_sgd", _RUNGS.format(published.LADDER_BATCH, 3)),
               ("fig02_lars", _RUNGS.format(published.LADDER_BATCH, 4)))),
    _curves(3, "LARS at 8K, warm-up and polynomial decay, MNIST", _LARGE["mnist"], paper=(_LARS_8K,), **_WARM),
    _curves(4, "LARS at 32K, warm-up and polynomial decay, MNIST", _HUGE["mnist"], paper=_stated(4), **_WARM,
            note="In the paper the training loss rises mid-run while both error rates fall."),
    _curves(5, "LAMB at 32K, very long warm-up and polynomial decay, MNIST", _HUGE["mnist"], paper=_stated(5),
            **{**_WARM, "optimizer": "lamb"}),
    _ladder(6, "the recipe ladder at full batch, ImageNet, top-1", (IMAGENET, FULL, _FULL_LADDER, _TOP1)),
    _heat_map(7, IMAGENET, FULL, 30, _IMAGENET_FULL_MAPS),
    _longer(8, IMAGENET, _RUNGS.format(published.LADDER_BATCH, 4),
            other={_LARGE["imagenet2012"]: "flags/mlperf/b32768.flags", FULL: _RUNGS.format(IMAGENET.full, 4)}),
    _longer(9, IMAGENET, _RUNGS.format(published.LARGEST_USEFUL_BATCH, 4)),
    _equal_updates(10, IMAGENET, {_LARGE["imagenet2012"]: "flags/mlperf/b32768.flags", FULL: _RUNGS.format(IMAGENET.full, 4)}),
    _distance(11, MNIST, (256, 1024, _LARGE["mnist"], _HUGE["mnist"], FULL)),
    _distance(12, CIFAR, (128, 2048)),
    _ladder(13, "the recipe ladder, top-5 on ImageNet, top-1 on CIFAR-10",
            (IMAGENET, published.LADDER_BATCH, _LADDER, _TOP5),
            (CIFAR, _LARGE["cifar10"], "flags/figures/ladder_cifar10.flags", _TOP1)),
    _ladder(14, "the recipe ladder at full batch, top-5 on ImageNet, top-1 on CIFAR-10",
            (IMAGENET, FULL, _FULL_LADDER, _TOP5), (CIFAR, FULL, "flags/figures/ladder_cifar10.flags", _TOP1)),
    _heat_map(15, CIFAR, FULL, 30, _own_maps(15)),
    _heat_map(16, MNIST, FULL, 30, _own_maps(16),
              "The paper's text says huge batch for these full-batch maps: a slip."),
    _heat_map(17, IMAGENET, FULL, 30, _IMAGENET_FULL_MAPS,
              "The paper's sub-captions say CIFAR-10, its caption ImageNet: a slip. Drawn from the trials of figure 7."),
    _longer(18, MNIST, "flags/figures/fig18.flags", more={_HUGE["mnist"]: (100, 300)}),
    _longer(19, MNIST, "flags/figures/fig19.flags", other={MNIST.batch: "flags/figures/fig19_b256.flags"},
            more={FULL: (100, 300), MNIST.batch: (published.MNIST_BASELINE_EPOCHS_TO_FULL_BATCH_BEST,)},
            note="In the paper batch 256 reaches the full batch's best accuracy in 10 epochs."),
    _longer(20, CIFAR, "flags/figures/fig20.flags", more={FULL: (1000,)}),
    _longer(21, MNIST, "flags/figures/fig21.flags",
            more={_LARGE["mnist"]: (30, 60, 100, 200), 16384: (60, 100), _HUGE["mnist"]: (30, 60, 100, 200)},
            note="In the paper batches of 16K and more miss the target even at 200 epochs."),
    _longer(22, CIFAR, "flags/figures/fig22.flags", more={_LARGE["cifar10"]: (500,), FULL: (200, 500, 1000)},
            note="In the paper 25K and more miss the target even at 1,000 epochs, yet its Table 2 calls 25K large."),
    _schedule(23, "regular cosine schedule", schedule="cosine_regular", warmup=False),
    _schedule(24, "warm-up and polynomial decay", schedule="polynomial", warmup=True, warmup_shape="linear"),
    _schedule(25, "warm-up and fine-grained cosine schedule", schedule="cosine_fine", warmup=True, warmup_shape="linear"),
    _schedule(26, "warm-up and regular cosine schedule", schedule="cosine_regular", warmup=True, warmup_shape="linear"),
    _schedule(27, "warm-up and coarse-grained cosine schedule", schedule="cosine_coarse", warmup=True, warmup_shape="linear"),
    _schedule(28, "warm-up and cosine decay", schedule="cosine", warmup=True, warmup_shape="linear"),
    _schedule(29, "cosine warm-up and cosine decay", schedule="cosine", warmup=True, warmup_shape="cosine"),
    _curves(30, "LARS at 8K, warm-up and polynomial decay, MNIST", _LARGE["mnist"], paper=(_LARS_8K,), flagfile=3, **_WARM,
            note=_AS.format(3)),
    _curves(31, "LARS at 32K, warm-up and polynomial decay, MNIST", _HUGE["mnist"], paper=_stated(4), flagfile=4, **_WARM,
            note=_AS.format(4)),
    _curves(32, "LARS at 32K, cyclical rate, MNIST", _HUGE["mnist"], paper=_stated(32), **_CYCLICAL,
            cycles=tuple(range(2, 100)),
            note="The paper gives no length of cycle: here it is the shorter. In the paper the loss peaks and stays high."),
    _curves(33, "LARS at 32K, longer cyclical rate, MNIST", _HUGE["mnist"], paper=_stated(33), **_CYCLICAL, cycles=1,
            note="The paper says only that the cycle is longer than figure 32's: here the run is one cycle."),
    *measured.rows(MNIST, _MODEL["mnist"], _LARGE["mnist"]),
    longer.regime_adaptation(ADAPTED, MNIST, (_LARGE["mnist"], _HUGE["mnist"], FULL)),
    noises.figure(NOISES, MNIST, (_HUGE["mnist"], FULL)),
    predicted.figure(PREDICTED, (MNIST, "lenet5"), (MNIST, "lenet"), (CIFAR, "resnet20")),
    _steps_to_target(MNIST, (256, 512, 1024, 2048, 4096, _LARGE["mnist"], 16384, _HUGE["mnist"], FULL)),
    growth.row(MNIST, _MODEL["mnist"]),
    _FRONTIER,
    full_batch.row(_FRONTIER),
    noise_by_optimizer.row(MNIST, _MODEL["mnist"]),
)
FIGURES = {row.number: row for row in _ROWS}


def draw(number, runs, sweeps):
    """A figure from run folders.

    Args:
        number: of NUMBERS, or of NAMES.
        runs: list of `runs.Run`, those of the sweeps too.
        sweeps: list of `runs.Sweep`.

    Returns:
        Drawing. What no run feeds is a Blank each; the figure is None where nothing does.

    Raises:
        KeyError: no such figure.
    """
    row = FIGURES[number]
    figure, rows, remarks, missing = KINDS[row.kind](row, runs, sweeps)
    blanks = [source.blank(row.name) for source in missing]
    return Drawing(figure, rows, _caption(row, remarks, missing, rows), blanks)


def _caption(row, remarks, missing, rows):
    parts = [f"{row.name}: {row.shows}.", *remarks]
    notes = sorted({part["data_note"] for part in rows if part.get("data_note")})
    parts += [f"Note on the data: {note}." for note in notes]
    if any(part.get("selected_on") == "test" for part in rows) or ON_TEST in " ".join(remarks):
        parts.append(f"{ON_TEST} chosen on the test split.")
    if row.paper:
        parts.append(f"The paper: {'; '.join(_in_words(result) for result in row.paper)}.")
    parts += [row.note] if row.note else []
    if missing:
        parts.append(f"Missing: {'; '.join(source.label for source in missing)}.")
    return " ".join(parts)


def _in_words(result):
    epochs = "" if result.epochs is None else f", {result.epochs:,} epochs"
    about = "about " if result.approximate else ""
    return f"{about}{result.top1:g}% at {result.batch:,}{epochs} ({result.recipe}; {result.source})"
