"""Training curves (figures 3-5, 30-33): training loss and error rates of one run against epochs."""

import numpy as np

from .. import published
from .drawing import GREY, LINES, PAPER, headline, panels, style
from .figures import LIGHT, column, thinned
from .markup import number
from .sheets import mark_of
from .sources import ended, final_percent, groups_of, in_words, noted, numbers, one_network, other_networks

_SPLITS = {"train": LINES[2], "validation": LINES[1], "test": LINES[0]}


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs).

    Of several settings that fit the one that a sweep tuned is drawn, of its seeds the lowest; the caption counts them.
    """
    [source] = figure.sources
    found = ended(runs, source.wanted)
    groups = groups_of(one_network(found))
    # Section 3.1 keeps 5,000 images back: of settings that nothing tuned, one that shows a validation error comes first.
    groups.sort(key=lambda group: (group.sweep is None, not group.values["validation_examples"]))
    drawable = [(group, outcome) for group in groups for outcome in group.outcomes if outcome.run.train_rows]
    if not drawable:
        return None, [], [], [source]
    group, outcome = drawable[0]
    run = outcome.run
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 2, 1, (7.0, 5.6), sharex=True)
        loss, error = axes[:, 0]
        rows = _draw_loss(loss, run) + _draw_errors(error, run, figure)
        _draw_paper(error, figure)
        picture.legend(*error.get_legend_handles_labels(), loc="outside lower left", ncols=2)  # no corner is always free
        error.set_xlabel("epochs")
        error.set_xlim(left=0)
        picture.align_ylabels()
        headline(picture, f"{figure.name}: {figure.shows}")
        loss.set_title(_details(outcome), loc="left", color="#555555", parse_math=False)
    counted = f"{group.n} seed{'s' * (group.n > 1)} of this setting"
    remarks = [f"{run.path}, seed {outcome.seed}, is drawn, of {counted}: test accuracy {in_words(numbers(group))}."]
    if (others := len(groups) - 1):
        remarks.append(f"{others} other setting{'s fit and are' if others > 1 else ' fits and is'} not drawn.")
    if outcome.diverged:
        remarks.append(f"It diverged: {run.status.get('reason')}.")
    return picture, rows, [*remarks, *other_networks(found, [outcome]), *noted([run])], []


def _details(outcome):
    values, updates = outcome.values, number(outcome.run.status.get("total_steps"))
    warmup = values["warmup_epochs"]
    parts = [f"{values['dataset']} {values['model']}", values["optimizer"], f"batch {values['batch_size']:,}",
             values["schedule"], warmup and f"warm-up {warmup:g} epochs", updates and f"{updates:,} updates", outcome.note]
    return " · ".join(str(part) for part in parts if part)


def _draw_loss(panel, run):
    rows = run.train_rows
    epochs, mean, low, high = thinned(column(rows, "epoch"), column(rows, "loss"))
    if mean is not low:
        panel.fill_between(epochs, low, high, color=LIGHT, alpha=0.5, linewidth=0)
    panel.plot(epochs, mean, color=LINES[0]["color"])
    panel.set_ylabel("training loss (nats)")
    known = mean[np.isfinite(mean)]
    if known.size and known.min() > 0 and known.max() > 20 * known.min():
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
    else:
        panel.set_ylim(bottom=0)
    if not np.isfinite(column(rows, "loss")).all():
        first = column(rows, "epoch")[np.isnan(column(rows, "loss")).argmax()]
        panel.axvline(first, color="#111111", linestyle=(0, (2, 2)))
        panel.annotate("loss not finite", (first, 0.9), xycoords=("data", "axes fraction"), xytext=(4, 0),
                       textcoords="offset points")
    return [{"curve": "training loss", "epoch": epoch, "value": value} for epoch, value in _finite(epochs, mean)]


def _draw_errors(panel, run, figure):
    rows, mark = [], mark_of(run.selected_on)
    for split, line in _SPLITS.items():
        found = run.train_rows if split == "train" else run.eval_rows(split)
        epochs, error, _, _ = thinned(column(found, "epoch"), 100 - 100 * column(found, "accuracy"))
        if not np.isfinite(error).any():
            continue
        last = error[np.isfinite(error)][-1]
        marker = line["marker"] if len(error) <= 45 and split != "train" else None
        label = f"{split}, last {last:.2f}%{mark if split == 'test' else ''}"
        panel.plot(epochs, error, label=label, **{**line, "marker": marker})
        rows += [{"curve": f"{split} error (%)", "epoch": epoch, "value": value} for epoch, value in _finite(epochs, error)]
    at_end = final_percent(run)
    if at_end is not None and not run.eval_rows("test"):  # with a validation split the test split is read once
        epoch = column(run.train_rows, "epoch")[-1]
        panel.plot(epoch, 100 - at_end, label=f"test, read once: {100 - at_end:.2f}%{mark}",
                   **{**_SPLITS["test"], "linestyle": "none"})
        rows.append({"curve": "test error (%)", "epoch": epoch, "value": 100 - at_end})
    panel.set_ylabel("error rate (%)")
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    stated = [100 - result.top1 for result in (published.BASELINES[figure.dataset], *figure.paper)]
    known = [row["value"] for row in rows if row["value"] > 0]
    panel.set_ylim(max(0.02, 0.6 * min([*known, *stated])), 100)
    return rows


def _draw_paper(panel, figure):
    baseline = published.BASELINES[figure.dataset]
    panel.axhline(100 - baseline.top1, color=GREY, linewidth=1, linestyle=(0, (1, 2)),
                  label=f"paper, batch {baseline.batch}: {100 - baseline.top1:.1f}%")
    for result in figure.paper:
        about = "about " if result.approximate else ""
        panel.plot(result.epochs, 100 - result.top1, label=f"paper, {result.recipe}: {about}{100 - result.top1:.1f}%",
                   **{**PAPER, "marker": "d" if result.approximate else "D"}, clip_on=False, zorder=5)


def _finite(epochs, values):
    return [(float(epoch), float(value)) for epoch, value in zip(epochs, values) if np.isfinite(value)]
