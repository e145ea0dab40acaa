"""ImageNet as people have it: TFRecord shards in two layouts, or a folder of class folders. Found, checked, said.

| layout | files | image | label |
|---|---|---|---|
| classic TPU | train-00000-of-01024 ..., perhaps in train/ and validation/ | image/encoded | image/class/label, from 1 |
| TFDS | imagenet2012-train.tfrecord-00000-of-01024, here or in imagenet2012/<version>/ | image | label, from 0 |
| class folders | train/<synset>/*.JPEG, val/ or validation/ likewise | the file | number of the synset, sorted |
"""

import json
import os
import posixpath
import re
import sys

import numpy as np
import tensorflow as tf

from tf_hugebatch import logical_devices, registry
from tf_hugebatch.data.class_folders import Files, class_names, files_of
from tf_hugebatch.data.images import ImageSplit
from tf_hugebatch.data.indexing import indexed
from tf_hugebatch.data.shard_stream import ShardStream
from tf_hugebatch.data.shards import CLASSIC, TFDS, shards_in
from tf_hugebatch.data.splits import Splits, hold_out
from tf_hugebatch.data.tfrecord import Records, index_path, index_shard, read_index
from tf_hugebatch.dataset_sizes import FULL_TRAIN_SHARDS, TEST_FOLDERS, is_torn
from tf_hugebatch.settings import Refusal


CLASS_FOLDERS = "class folders"
_BOX_KEY = "image/object/bbox/ymin"
_LOOKED_FOR = ("train-00000-of-01024 (classic TPU TFRecords), imagenet2012-train.tfrecord-00000-of-01024 (TFDS) or "
               "train/<synset>/*.JPEG (class folders), with their validation")


def load(settings):
    """The splits of imagenet2012 for a run (`splits.Splits`); says on standard error what was found.

    Raises:
        Refusal: no images, shards that are missing, short, torn or of another data set, labels that fit nowhere, more
            or fewer examples than the settings count on.
    """
    folder, name, parts = _found(settings)
    classes = registry.find("dataset", settings.dataset).facts["classes"]
    if settings.shuffle == "shards":
        return _streamed(settings, folder, name, parts, classes)
    sources, offset = _class_sources(parts, classes) if name == CLASS_FOLDERS else _record_sources(parts, classes)
    sizes = {split: len(labels) for split, (_, labels) in sources.items()}
    print(f"ImageNet: {name} in {folder}; {sizes['train']:,} training and {sizes['validation']:,} test images; labels "
          f"counted from {offset}", file=sys.stderr)
    _check_sizes(settings, folder, sizes, sources)
    train, test = (
        ImageSplit(source, np.arange(len(labels)), labels, settings.image_size, settings.seed)
        for source, labels in (sources["train"], sources["validation"])
    )
    return hold_out(train, test, settings.validation_examples)


def look(settings):
    """`load` where shards have their index already; else None, after a look at names and first records.

    Raises:
        Refusal: as `load`, for what can be seen so.
    """
    folder, name, parts = _found(settings)
    if name == CLASS_FOLDERS:
        return load(settings)
    needed = ["validation"] if settings.shuffle == "shards" else list(parts)
    if all(tf.io.gfile.exists(index_path(parts[split][0], split)) for split in needed):
        return load(settings)
    _check_shards(settings, parts)
    for inner, paths, layout in parts.values():
        _records(inner, [], paths, layout)
    print(f"ImageNet: {name} in {folder}; their index is not there yet, and is made before the first update",
          file=sys.stderr)
    return None


def _found(settings):
    """(folder, name of the layout, {split: where it is}) of the one layout that is there."""
    try:
        logical_devices.reserve(settings)
    except ValueError as error:
        raise Refusal([str(error)]) from error
    folder = settings.data_dir or _tfds_folder()
    found = [found for found in (_class_folders(folder), shards_in(folder, CLASSIC), shards_in(folder, TFDS)) if found]
    if not found:
        raise Refusal([f"{_stated(settings, folder)}: no ImageNet there ({_contents(folder)}); looked for {_LOOKED_FOR}. "
                       f"Name the folder that holds them, make one with scripts/prepare_imagenet.py, or try the command "
                       f"with --dataset=synthetic."])
    if len(found) > 1:
        raise Refusal([f"{_stated(settings, folder)}: it holds several layouts, {' and '.join(name for name, _ in found)}; "
                       f"move all but one elsewhere."])
    [(name, parts)] = found
    return folder, name, parts


def _streamed(settings, folder, name, parts, classes):
    """Splits whose training shards are streams: only the test shards need an index.

    Where the training shards have one too, or are few enough to be counted, they are checked against it. Of a full set
    without an index only the sizes of its shards are looked at: reading all of it is what streams are there to spare.
    """
    if name == CLASS_FOLDERS:
        raise Refusal([f"--shuffle=shards: {folder} holds class folders, and streams are of shards; drop the flag, or make "
                       f"shards with scripts/prepare_imagenet.py."])
    inner, paths, layout = parts["train"]
    shards = read_index(inner, "train", paths)
    if shards is None:
        _check_shards(settings, parts)
    elif (count := sum(len(shard.labels) for shard in shards)) != settings.sizes[0]:
        raise Refusal([f"{inner}: {count:,} training images by its index, {settings.sizes[0]:,} expected; copy the data again, "
                       f"or drop --dataset_size."])
    # A few test images need not tell what labels are counted from; a shard of training images may.
    sources, offset = _record_sources({"validation": parts["validation"]}, classes,
                                      index_shard(paths[0], layout.label_key).labels)
    source, labels = sources["validation"]
    test = ImageSplit(source, np.arange(len(labels)), labels, settings.image_size, settings.seed)
    train = ShardStream(paths, _records(inner, [], paths, layout), layout.label_key, offset, classes, settings.sizes[0],
                        settings.image_size, settings.seed)
    print(f"ImageNet: {name} in {folder}; {len(paths)} training shards as streams, {len(train):,} images by the data set's "
          f"own count; {len(test):,} test images; labels counted from {offset}", file=sys.stderr)
    return Splits(train, None, test)


def _check_shards(settings, parts):
    """Raises Refusal for shards that are cut off, or that nobody has counted, as far as can be seen without reading them."""
    inner, paths, _ = parts["train"]
    if settings.dataset_size is None and len(paths) != FULL_TRAIN_SHARDS:
        torn = [path for _, shards, _ in parts.values() for path in shards if "://" not in path and is_torn(path)]
        reason = (f"{', '.join(torn[:3])} ends inside a record: it was cut off; copy it again" if torn else
                  "give their numbers, --dataset_size=TRAIN,TEST, which nobody can count in a bucket")
        raise Refusal([f"{inner}: {len(paths)} training shards are a part of ImageNet, and how many images they hold isn't "
                       f"known; {reason}."])
    problems = []
    for _, shards, _ in parts.values() if len(paths) == FULL_TRAIN_SHARDS else ():
        sizes = np.array([tf.io.gfile.stat(path).length for path in shards])
        short = np.flatnonzero(sizes < np.median(sizes) / 2)
        if len(short):
            problems.append(f"{shards[short[0]]} has {sizes[short[0]]:,} bytes, most have {int(np.median(sizes)):,}: it was "
                            f"cut off ({len(short)} such shard(s)); copy it again.")
    if problems:
        raise Refusal(problems)


def index_folder(folder):
    """Makes the index of the shards in `folder`, where it is not there yet, in whichever record layout they are.

    Raises:
        Refusal: no shards, or shards that are missing, torn or of another data set.
    """
    found = shards_in(folder, CLASSIC) or shards_in(folder, TFDS)
    if not found:
        raise Refusal([f"{folder}: no shards there ({_contents(folder)}); looked for {_LOOKED_FOR}."])
    _, parts = found
    for split, (inner, paths, layout) in parts.items():
        indexed(inner, split, paths, layout.label_key)


def _tfds_folder():
    return os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")


def _stated(settings, folder):
    return f"--data_dir={folder}" if settings.data_dir else f"--dataset=imagenet2012 without --data_dir ({folder} is read)"


def _contents(folder):
    if not tf.io.gfile.isdir(folder):
        return "there is no such folder"
    names = sorted(tf.io.gfile.listdir(folder))
    return f"it holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "it is empty"


# Class folders.


def _class_folders(folder):
    train = os.path.join(folder, "train")
    tests = [os.path.join(folder, name) for name in TEST_FOLDERS if os.path.isdir(os.path.join(folder, name))]
    if not os.path.isdir(train) or not tests or not class_names(train):
        return None
    return CLASS_FOLDERS, {"train": train, "validation": tests[0]}


def _class_sources(folders, classes):
    names = class_names(*folders.values())
    if len(names) > classes:
        odd = [name for name in names if not re.fullmatch(r"n\d{8}", name)] or names
        raise Refusal([f"{folders['train']}: {len(names):,} class folders with those of validation, where ImageNet has "
                       f"{classes:,}; move those that are none (such as {', '.join(odd[:3])}) elsewhere."])
    found = {split: files_of(path, names) for split, path in folders.items()}
    problems = [f"{folders[split]}: its class folders hold no images; put <synset>/*.JPEG there."
                for split, (paths, _) in found.items() if not paths]
    if problems:
        raise Refusal(problems)
    return {split: (Files(paths), labels) for split, (paths, labels) in found.items()}, 0


# Records.


def _record_sources(parts, classes, more_labels=()):
    indexes = {split: indexed(inner, split, paths, layout.label_key) for split, (inner, paths, layout) in parts.items()}
    labels = {split: np.concatenate([shard.labels for shard in shards]) for split, shards in indexes.items()}
    problems = [problem for split, (inner, _, _) in parts.items()
                for problem in _against_dataset_info(inner, split, indexes[split])]
    problems += [f"{parts[split][0]}: the {split} shards hold no records; copy them again."
                 for split, found in labels.items() if not len(found)]
    if problems:
        raise Refusal(problems)
    inner, _, layout = next(iter(parts.values()))
    offset = _first_label(np.concatenate([*labels.values(), np.asarray(more_labels, np.int32)]), layout, classes, inner)
    return {split: (_records(inner, indexes[split], paths, layout), labels[split] - offset)
            for split, (inner, paths, layout) in parts.items()}, offset


def _records(folder, shards, paths, layout):
    """Records of a split, after a look at what its first one holds."""
    try:
        example = tf.train.Example.FromString(next(tf.data.TFRecordDataset(paths[0]).take(1).as_numpy_iterator()))
    except (StopIteration, tf.errors.OpError) as error:
        raise Refusal([f"{paths[0]}: its first record can't be read ({error}); copy the shard again."]) from error
    if layout.image_key not in example.features.feature:
        raise Refusal([f"{paths[0]}: its records have no {layout.image_key!r} (they have "
                       f"{', '.join(sorted(example.features.feature))}): these are shards of another data set."])
    return Records(folder, shards, layout.image_key, _BOX_KEY in example.features.feature)


def _first_label(labels, layout, classes, folder):
    """What labels are counted from: 0 or 1, told by the labels themselves where they can tell."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > classes or (lowest == 0 and highest == classes):
        raise Refusal([f"{folder}: labels from {lowest} to {highest}, where ImageNet's {classes:,} classes go from 0 to "
                       f"{classes - 1} or from 1 to {classes}; these are shards of another data set, or were made wrongly."])
    if lowest == 0:
        return 0
    return 1 if highest == classes else layout.first_label


def _against_dataset_info(folder, split, shards):
    """Problems with shards whose lengths tensorflow-datasets wrote down when it prepared them."""
    path = posixpath.join(folder, "dataset_info.json")
    if not tf.io.gfile.exists(path):
        return
    try:
        with tf.io.gfile.GFile(path) as file:
            stated = {part["name"]: [int(length) for length in part["shardLengths"]] for part in json.load(file)["splits"]}
    except (ValueError, KeyError, TypeError):
        return  # whatever wrote it, it states no lengths
    for shard, length in zip(shards, stated.get(split, [])):
        if len(shard.labels) != length:
            yield (f"{posixpath.join(folder, shard.name)} holds {len(shard.labels):,} records and dataset_info.json says "
                   f"{length:,}: it was cut off; prepare or copy it again.")


def _check_sizes(settings, folder, sizes, sources):
    wanted = dict(zip(("train", "validation"), settings.sizes))
    problems = []
    for split, count in sizes.items():
        if count == wanted[split]:
            continue
        problem = f"{folder}: {count:,} {split} images, {wanted[split]:,} expected"
        source = sources[split][0]
        if isinstance(source, Records) and count < wanted[split]:
            # The full set is cut evenly, so a shard that was cut off has the fewest.
            problem += f"; if a shard is cut off, it is this: {source.smallest_shard()}"
        problems.append(f"{problem}; copy the data again, or, if this is a part of ImageNet or images were left out "
                        f"(report.json names them), say --dataset_size={sizes['train']},{sizes['validation']}.")
    if problems:
        raise Refusal(problems)
