"""The TFRecord shards of ImageNet by their names: which are there, which are missing."""

import dataclasses
import posixpath
import re

import tensorflow as tf

from tf_hugebatch.settings import Refusal


@dataclasses.dataclass(frozen=True)
class RecordLayout:
    """How shards are named and what their records hold. first_label: what they are counted from by convention."""

    name: str
    pattern: str
    image_key: str
    label_key: str
    first_label: int


CLASSIC = RecordLayout("classic TPU TFRecords", r"{split}-(\d{{5}})-of-(\d{{5}})", "image/encoded", "image/class/label", 1)
TFDS = RecordLayout("TFDS imagenet2012", r"imagenet2012-{split}\.tfrecord-(\d{{5}})-of-(\d{{5}})", "image", "label", 0)


def shards_in(folder, layout):
    """(name, {split: (folder, shard paths, layout)}) when `folder` has shards of either split, else None.

    Raises:
        Refusal: shards are missing, or of several sets.
    """
    parts = {}
    for split in ("train", "validation"):
        for inner in _folders(folder, split):
            names = sorted(name for name in _listed(inner) if re.fullmatch(layout.pattern.format(split=split), name))
            if names:
                parts[split] = (inner, names, layout)
                break
    if not parts:
        return None
    problems = []
    for split in ("train", "validation"):
        inner, names, _ = parts.get(split, (folder, [], layout))
        if not names:
            problems.append(f"{folder}: there are {'validation' if split == 'train' else 'training'} shards and no "
                            f"{split} shards; put them beside.")
            continue
        matches = [re.fullmatch(layout.pattern.format(split=split), name) for name in names]
        totals = {int(match[2]) for match in matches}
        if len(totals) > 1:
            problems.append(f"{inner}: {split} shards of several sets, of {' and of '.join(map(str, sorted(totals)))}; keep "
                            f"one set.")
            continue
        missing = sorted(set(range(*totals)) - {int(match[1]) for match in matches})
        if missing:
            shown = ", ".join(f"{number:05d}" for number in missing[:8]) + (", ..." if len(missing) > 8 else "")
            problems.append(f"{inner}: {len(missing)} of {max(totals):,} {split} shards are missing ({shown}); copy them "
                            f"there, a partial set trains something else.")
    if problems:
        raise Refusal(problems)
    return layout.name, {split: (inner, [posixpath.join(inner, name) for name in names], layout)
                         for split, (inner, names, layout) in parts.items()}


def _folders(folder, split):
    versions = sorted(_listed(posixpath.join(folder, "imagenet2012")), reverse=True)
    return [folder, posixpath.join(folder, split),
            *(posixpath.join(folder, "imagenet2012", version.rstrip("/")) for version in versions)]


def _listed(folder):
    return tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
