"""ImageNet as TFRecord shards in the classic TPU layout, with the index that random access needs.

    python scripts/prepare_imagenet.py --folders=DIR --output=OUT                 train/<synset>/*.JPEG and val/<synset>/*.JPEG
    python scripts/prepare_imagenet.py --train_tar=ILSVRC2012_img_train.tar --validation_tar=ILSVRC2012_img_val.tar \\
        --validation_labels=FILE --output=OUT                                      the two archives, read in place
    python scripts/prepare_imagenet.py --index_only=OUT                            the index of shards that are there

The labels of the validation archive are one synset a line, in the order of its file names; the development kit's
ground truth gives them by number, and the list goes by the name imagenet_2012_validation_synset_labels.txt.

Stopped at any point, the same command goes on: a shard appears under its name when it is whole. JPEGs are stored byte for
byte, unless they are CMYK or something else by that name (both are in the real training set): those become RGB JPEGs of
quality 100. What can't be decoded is left out, named, and counted in OUT/report.json.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import sys
import tarfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: Of the full set, whose shards are as many as everybody's.
FULL = {"train": (1_281_167, 1024), "validation": (50_000, 128)}
CLASSES = 1000
SEED = 20200615
ENDINGS = (".jpeg", ".jpg", ".png")


class Mistake(ValueError):
    """Something in the arguments or the data that only the user can mend."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One image: a file, or `size` bytes at `offset` of an archive."""

    name: str
    synset: str
    path: str
    offset: int = 0
    size: int | None = None

    def read(self):
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read() if self.size is None else file.read(self.size)


# Where images are.


def in_folders(folder):
    """Sources of train/<synset>/* and val/ or validation/<synset>/*."""
    found = {}
    for split, names in (("train", ("train",)), ("validation", ("val", "validation"))):
        there = [pathlib.Path(folder) / name for name in names if (pathlib.Path(folder) / name).is_dir()]
        if not there:
            raise Mistake(f"--folders={folder}: it has no folder {' or '.join(names)}; name the one that holds them")
        found[split] = [Source(f"{synset.name}/{path.name}", synset.name, str(path))
                        for synset in sorted(there[0].iterdir()) if synset.is_dir()
                        for path in sorted(synset.iterdir()) if path.name.lower().endswith(ENDINGS)]
    return found


def in_archives(train_tar, validation_tar, labels):
    """Sources inside the two archives; only headers are read, nothing is unpacked."""
    found = {"train": [], "validation": []}
    with opened_tar(train_tar) as outer:
        for inner in sorted(outer.getmembers(), key=lambda member: member.name):
            if not inner.name.endswith(".tar"):
                continue
            with tarfile.open(fileobj=outer.extractfile(inner)) as archive:
                synset = pathlib.PurePosixPath(inner.name).stem
                found["train"] += [Source(f"{synset}/{member.name}", synset, train_tar,
                                          inner.offset_data + member.offset_data, member.size)
                                   for member in sorted(archive, key=lambda member: member.name) if member.isfile()]
    synsets = pathlib.Path(labels).read_text().split()
    with opened_tar(validation_tar) as archive:
        members = sorted((member for member in archive if member.isfile()), key=lambda member: member.name)
    if len(members) != len(synsets):
        raise Mistake(f"--validation_labels={labels}: {len(synsets):,} labels for {len(members):,} images; give the list "
                      f"that belongs to {validation_tar}")
    found["validation"] = [Source(member.name, synset, validation_tar, member.offset_data, member.size)
                           for member, synset in zip(members, synsets)]
    return found


@contextlib.contextmanager
def opened_tar(path):
    """The archive at `path`; what its reader meets of a torn one is the user's to mend."""
    try:
        with tarfile.open(path) as archive:
            yield archive
    except (OSError, tarfile.TarError) as error:
        raise Mistake(f"{path}: no archive that can be read to its end ({error}); download it again") from error


# The plan: which image goes into which shard, the same for any number of workers.


def plan(sources, shards):
    """{split: list of shards, each a list of Source}, shuffled by a fixed seed."""
    import numpy as np

    planned = {}
    for split, images in sources.items():
        if not images:
            raise Mistake(f"there are no {split} images; put <synset>/*.JPEG there")
        count = shards[split] or default_shards(split, len(images))
        full_size, full_shards = FULL[split]
        if split == "train" and count == full_shards and len(images) != full_size:
            raise Mistake(f"--train_shards={count}: that many is how the full set of {full_size:,} is recognised, and these "
                          f"are {len(images):,} images; give another number")
        if count > len(images):
            raise Mistake(f"--{split}_shards={count}: there are only {len(images):,} images; give fewer")
        order = np.random.Generator(np.random.Philox(SEED)).permutation(len(images))
        planned[split] = [[images[i] for i in part] for part in np.array_split(order, count)]
    return planned


def default_shards(split, images):
    full_size, full_shards = FULL[split]
    return full_shards if images == full_size else min(max(1, round(images * full_shards / full_size)), full_shards - 1)


def fingerprint(planned):
    """What the output folder remembers: another input does not mix with it."""
    names = json.dumps({split: [[(image.name, image.synset) for image in shard] for shard in shards]
                        for split, shards in planned.items()})
    return hashlib.sha256(names.encode()).hexdigest()


# One shard.


def write_shard(path, images, labels, split):
    """Writes one shard, whole or not at all; returns its note: images written, names of the undecodable and of the converted."""
    import tensorflow as tf
    from PIL import Image

    undecodable, converted = [], []
    partial = f"{path}.{os.getpid()}.partial"
    with tf.io.TFRecordWriter(partial) as writer:
        for image in images:
            try:
                stored = image.read()
            except OSError as error:  # of the disk, which says nothing about the picture
                raise Mistake(f"{image.path}: it can't be read ({error}); mend that, and the same command goes on") from error
            try:
                content, changed, width, height = as_jpeg(stored)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                undecodable.append(f"{split}/{image.name} ({error})")
                continue
            converted += [f"{split}/{image.name} ({changed})"] if changed else []
            writer.write(record(content, labels[image.synset], image, width, height))
    note = {"written": len(images) - len(undecodable), "undecodable": undecodable, "converted": converted}
    # The note first: a shard under its name is one whose note is there.
    pathlib.Path(f"{path}.note.json").write_text(json.dumps(note))
    os.replace(partial, path)
    return note


def as_jpeg(content):
    """(JPEG bytes, what was converted or '', width, height); raises when the picture can't be decoded to its end."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        size, form, mode = picture.size, picture.format, picture.mode
        if form == "JPEG" and mode in ("RGB", "L"):
            return content, "", *size
        file = io.BytesIO()
        picture.convert("RGB").save(file, "JPEG", quality=100, subsampling=0)
        return file.getvalue(), f"{form} {mode}", *size


def record(content, label, image, width, height):
    """A tf.train.Example of the classic TPU layout, serialized; labels are counted from 1."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    return tf.train.Example(features=tf.train.Features(feature={
        "image/encoded": feature(content),
        "image/format": feature(b"JPEG"),
        "image/filename": feature(image.name.encode()),
        "image/width": feature(width),
        "image/height": feature(height),
        "image/class/label": feature(label),
        "image/class/synset": feature(image.synset.encode()),
    })).SerializeToString(deterministic=True)  # the order of a map is else another one in every process


# All of them.


def prepare(arguments):
    """Makes what is missing; returns the report."""
    output = pathlib.Path(arguments.output)
    sources = in_folders(arguments.folders) if arguments.folders else in_archives(
        arguments.train_tar, arguments.validation_tar, arguments.validation_labels)
    planned = plan(sources, {"train": arguments.train_shards, "validation": arguments.validation_shards})
    synsets = sorted({image.synset for images in sources.values() for image in images})
    if len(synsets) > CLASSES:
        raise Mistake(f"{len(synsets):,} classes, where ImageNet-1k has {CLASSES:,}; name its folders or archives")
    remember(output, fingerprint(planned))
    labels = {synset: number for number, synset in enumerate(synsets, 1)}
    names = {(split, i): output / f"{split}-{i:05d}-of-{len(shards):05d}"
             for split, shards in planned.items() for i in range(len(shards))}
    # A shard that left images out is made again: its source may have been mended since.
    known = notes(output, names)
    todo = [key for key in names if key not in known or known[key]["undecodable"]]
    for leftover in output.glob("*.partial"):
        leftover.unlink()
    bad = 0
    with progress_bar() as bar, concurrent.futures.ProcessPoolExecutor(arguments.workers) as workers:
        task = bar.add_task("shards", total=len(names), completed=len(names) - len(todo))
        jobs = [workers.submit(write_shard, str(names[split, i]), planned[split][i], labels, split) for split, i in todo]
        for job in concurrent.futures.as_completed(jobs):
            bad += len(job.result()["undecodable"])
            if bad > arguments.limit_bad:
                workers.shutdown(cancel_futures=True)
                raise Mistake(f"{bad} images can't be decoded, more than --limit_bad={arguments.limit_bad}: the source is "
                              f"damaged; copy it again, or give a higher limit ({output}/*.note.json name them)")
            bar.advance(task)
    index(output)
    return report(output, names, labels)


def notes(output, names):
    """{key: note} of the shards that are there: from the report, and beside shards that no report has told of yet."""
    path = output / "report.json"  # one of an older release tells of no shard, and they are made again
    told = json.loads(path.read_text()).get("shards", {}) if path.exists() else {}
    beside = {key: pathlib.Path(f"{path}.note.json") for key, path in names.items()}
    told = {key: told[path.name] for key, path in names.items() if path.name in told}
    return {key: json.loads(beside[key].read_text()) if beside[key].exists() else told[key]
            for key, path in names.items() if path.exists() and (key in told or beside[key].exists())}


def remember(output, plan_hash):
    """Pins the plan in the output folder, or refuses a folder that holds another one."""
    output.mkdir(parents=True, exist_ok=True)
    pinned = output / "plan.json"
    others = [path.name for path in output.iterdir() if path.name != "plan.json"]
    if pinned.exists() and json.loads(pinned.read_text())["sha256"] != plan_hash:
        raise Mistake(f"--output={output}: it holds shards of other images or another number of shards; name another folder")
    if not pinned.exists() and others:
        raise Mistake(f"--output={output}: it holds {others[0]} and no plan of this script; name an empty folder")
    pinned.write_text(json.dumps({"sha256": plan_hash}))


def report(output, names, labels):
    """Adds the notes of all shards up, writes report.json and returns it."""
    known = notes(output, names)
    total = {
        "classes": len(labels),
        **{split: sum(note["written"] for (part, _), note in known.items() if part == split) for split in FULL},
        **{what: sorted(name for note in known.values() for name in note[what]) for what in ("undecodable", "converted")},
        "shards": {names[key].name: note for key, note in known.items()},
    }
    partial = output / "report.json.partial"
    partial.write_text(json.dumps(total, indent=1) + "\n")
    os.replace(partial, output / "report.json")
    for path in names.values():
        pathlib.Path(f"{path}.note.json").unlink(missing_ok=True)
    return total


def index(folder):
    """Makes the index of the shards in `folder`, in whichever layout they are."""
    from tf_hugebatch.data.imagenet import index_folder
    from tf_hugebatch.settings import Refusal

    try:
        index_folder(str(folder))
    except Refusal as refusal:
        raise Mistake("; ".join(refusal.problems)) from refusal


def progress_bar():
    import rich.console
    import rich.progress

    console = rich.console.Console(stderr=True)
    return rich.progress.Progress(*rich.progress.Progress.get_default_columns(), rich.progress.MofNCompleteColumn(),
                                  console=console, disable=not console.is_terminal)


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", metavar="DIR", help="folder with train/ and val/ or validation/")
    parser.add_argument("--train_tar", metavar="FILE")
    parser.add_argument("--validation_tar", metavar="FILE")
    parser.add_argument("--validation_labels", metavar="FILE", help="one synset a line, in the order of the file names")
    parser.add_argument("--output", metavar="DIR")
    parser.add_argument("--index_only", metavar="DIR", help="shards to make the index of; nothing else is done")
    parser.add_argument("--train_shards", type=int, help="default: 1,024 for the full set, in proportion for less")
    parser.add_argument("--validation_shards", type=int, help="default: 128 for the full set, in proportion for less")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--limit_bad", type=int, default=100, help="undecodable images after which to give up")
    arguments = parser.parse_args(words)
    problems = []
    tars = ("train_tar", "validation_tar", "validation_labels")
    given = [name for name in tars if getattr(arguments, name)]
    if arguments.index_only:
        if given or arguments.folders or arguments.output:
            problems.append("--index_only stands alone; drop the others")
    else:
        if bool(arguments.folders) == bool(given):
            problems.append("give either --folders or the two archives")
        if given and len(given) < len(tars):
            problems.append(f"--{given[0]} needs {' and '.join(f'--{name}' for name in tars if name not in given)} beside it")
        if not arguments.output:
            problems.append("--output is missing: name the folder to write to")
    for name in ("folders", *tars, "index_only"):
        value = getattr(arguments, name)
        if value and not os.path.exists(value):
            problems.append(f"--{name}={value}: there is no such {'folder' if name in ('folders', 'index_only') else 'file'}")
    for name in ("train_shards", "validation_shards", "workers"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            problems.append(f"--{name}={value}: give at least 1")
    return arguments, problems


def main(words=None):
    """Returns the exit code: 0 done, 2 refused."""
    arguments, problems = parse(words)
    try:
        if not problems:
            if arguments.index_only:
                index(arguments.index_only)
                return 0
            found = prepare(arguments)
            for name in found["undecodable"]:
                print(f"left out: {name}", file=sys.stderr)
            print(f"{found['train']:,} training and {found['validation']:,} validation images of {found['classes']:,} classes; "
                  f"{len(found['converted'])} converted, {len(found['undecodable'])} left out: {arguments.output}")
            return 0
    except Mistake as mistake:
        problems = [str(mistake)]
    print("Refused.", *(f"  * {problem}" for problem in problems), sep="\n", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
