"""Made ImageNets: a few small pictures as class folders, classic TPU shards and TFDS shards."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

SYNSETS = ("n01440764", "n01443537", "n01484850")


def pixels(seed, height=40, width=52):
    """uint8 [height, width, 3]: a smooth picture, so that JPEG keeps it."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC))


def encoded(seed, form="JPEG", mode="RGB", **size):
    """Bytes of a picture in a format and colour mode."""
    file = io.BytesIO()
    Image.fromarray(pixels(seed, **size)).convert(mode).save(file, form, **({"quality": 95} if form == "JPEG" else {}))
    return file.getvalue()


def images(counts):
    """[(label from 0, bytes)] with counts[label] images of each class."""
    return [(label, encoded(100 * label + i)) for label, count in enumerate(counts) for i in range(count)]


def write_folders(root, train=(3, 2, 2), val=(1, 1, 2)):
    for split, counts in (("train", train), ("val", val)):
        for number, (label, data) in enumerate(images(counts)):
            folder = root / split / SYNSETS[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.JPEG").write_bytes(data)
    return root


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def classic_record(label, data, boxes=None, first_label=1):
    feature = {"image/encoded": _bytes(data), "image/class/label": _int(label + first_label)}
    if boxes is not None:
        for side, values in zip(("ymin", "xmin", "ymax", "xmax"), zip(*boxes) if boxes else ((),) * 4):
            feature[f"image/object/bbox/{side}"] = _floats(list(values))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def tfds_record(label, data):
    return tf.train.Example(features=tf.train.Features(feature={
        "image": _bytes(data), "label": _int(label), "file_name": _bytes(b"x.JPEG"),
    })).SerializeToString()


def write_shards(folder, pattern, records, shards=2):
    """Spreads records over shards; `pattern` takes the shard's number and their count."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tf.io.TFRecordWriter(str(folder / pattern.format(shard, shards))) as writer:
            for record in records[shard::shards]:
                writer.write(record)


def write_classic(root, train=(3, 2, 2), val=(1, 1, 2), **options):
    for split, counts in (("train", train), ("validation", val)):
        records = [classic_record(label, data, **options) for label, data in images(counts)]
        write_shards(root, split + "-{:05d}-of-{:05d}", records)
    return root


def write_tfds(root, train=(3, 2, 2), val=(1, 1, 2)):
    for split, counts in (("train", train), ("validation", val)):
        records = [tfds_record(label, data) for label, data in images(counts)]
        write_shards(root / "imagenet2012" / "5.1.0", "imagenet2012-" + split + ".tfrecord-{:05d}-of-{:05d}", records)
    return root
