"""Going back to the last checkpoint when a run diverges, with a lower learning rate.

At full batch, and with stateless randomness at any batch, the same rate would make the same updates again: so every
rewind multiplies all later rates by `--rewind_factor`, and after `--rewinds` of them a divergence is the result.
Checkpoints stand at fixed updates then (`--checkpoint_every_steps` is a number, and part of the experiment), so that a
run that was killed or signalled goes back to where one that was not would have gone.
"""


class Rewinds:
    """How often a run went back, and what its rates are multiplied by.

    Args:
        settings: on_divergence, rewind_factor and rewinds count.
        scale: variable of `schedules.Scaled`; None where a divergence ends the run.

    Attributes:
        made: [{"update": the bad one, "to": updates done at the checkpoint, "scale", "reason"}], oldest first.
    """

    def __init__(self, settings, scale):
        self._factor, self._most, self._scale = settings.rewind_factor, settings.rewinds, scale
        self.made = []

    @property
    def left(self):
        """How many more there may be."""
        return 0 if self._scale is None else self._most - len(self.made)

    @property
    def scale(self):
        """What every rate is multiplied by now."""
        return self.made[-1]["scale"] if self.made else 1.0

    def add(self, update, to, reason):
        """Notes one and lowers the rate."""
        self.made.append({"update": update, "to": to, "scale": self.scale * self._factor, "reason": reason})
        self._scale.assign(self.scale)

    def restore(self, made):
        """Those that a checkpoint knows of, when a run goes on."""
        self.made = list(made)
        if self._scale is not None:
            self._scale.assign(self.scale)

    def notes(self):
        """What a checkpoint and status.json keep; nothing where there were none."""
        return {"rewinds": self.made} if self.made else {}
