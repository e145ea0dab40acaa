"""Data files that are damaged, repacked, misplaced or made to do harm: a Refusal that names the file, never anything else."""

import gzip
import pathlib
import pickle
import struct
import tarfile
import types
import zipfile

import numpy as np
import pytest
from hypothesis import given
from reference import small_cifar
from reference.damage import damaged
from reference.damage import few as few_examples
from reference.small_cifar import BATCHES, CALLED
from reference.small_images import write_classic

from tf_hugebatch import dataset_sizes
from tf_hugebatch.data import array_files, cifar10, cifar_batches, tfrecord
from tf_hugebatch.data.array_files import ARRAYS
from tf_hugebatch.data.cifar_batches import read_cifar_batches
from tf_hugebatch.data.idx_files import FILES, read_idx_files
from tf_hugebatch.settings import Refusal


def refused(read, *arguments):
    with pytest.raises(Refusal) as caught:
        read(*arguments)
    return caught.value.problems


def few(count=6):
    """{name of batch: (rows, labels)}, noise."""
    generator = np.random.default_rng(0)
    return {name: (generator.integers(0, 256, (count, 3072), dtype=np.uint8), np.arange(count, dtype=np.uint8))
            for name in BATCHES}


def binary(batches):
    return {f"{name}.bin": np.concatenate([labels[:, None], rows], axis=1).tobytes()
            for name, (rows, labels) in batches.items()}


def python(batches):
    return {name: pickle.dumps({"batch_label": CALLED[name], "labels": labels.tolist(), "data": rows}, 2)
            for name, (rows, labels) in batches.items()}


def same_as_few(arrays):
    rows = np.concatenate([rows for rows, _ in few().values()])
    found = np.concatenate([arrays["x_train"], arrays["x_test"]])
    np.testing.assert_array_equal(found.transpose(0, 3, 1, 2).reshape(-1, 3072), rows)


# Archives.

ARCHIVE, INNER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"


@pytest.fixture
def archive(tmp_path):
    small_cifar.write_archive(tmp_path / ARCHIVE, INNER, binary(few()))
    return tmp_path / ARCHIVE


@pytest.mark.parametrize("cut", [0, 5, 20, 100, 300, 0.5, 0.9999])
def test_an_archive_cut_off(archive, cut):
    whole = archive.read_bytes()
    archive.write_bytes(whole[:cut if isinstance(cut, int) else int(cut * len(whole))])
    [problem] = refused(read_cifar_batches, archive.parent)
    assert f"{archive} can't be read as an archive" in problem and "copy it again" in problem


def test_an_archive_with_one_other_byte_or_no_checksum(archive):
    whole = archive.read_bytes()
    middle = len(whole) // 2
    # Noise is stored as it is, so that only the checksum tells.
    for spoiled in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:], whole[:-8] + bytes(8)):
        archive.write_bytes(spoiled)
        [problem] = refused(read_cifar_batches, archive.parent)
        assert f"{archive} can't be read as an archive" in problem and "CRC" in problem


@pytest.mark.parametrize("before", ["./cifar-10-batches-bin", ".", "cifar-10-batches-bin/."])
def test_a_repacked_archive_is_read(tmp_path, before):
    small_cifar.write_archive(tmp_path / ARCHIVE, before, binary(few()))
    same_as_few(read_cifar_batches(tmp_path))


def test_an_archive_of_something_else_says_what_it_holds(tmp_path):
    small_cifar.write_archive(tmp_path / ARCHIVE, "cifar-100-binary", {"train.bin": b"1", "test.bin": b"2"})
    [problem] = refused(read_cifar_batches, tmp_path)
    assert "holds cifar-100-binary/train.bin, cifar-100-binary/test.bin, and not" in problem and "copy it again" not in problem


def test_members_that_are_too_long_or_no_files_are_not_read(tmp_path):
    files = binary(few())
    files["data_batch_2.bin"] = bytes(64 * 2**20 + 1)
    del files["data_batch_3.bin"]
    small_cifar.write_archive(tmp_path / "plain.tar.gz", INNER, files)
    link = tarfile.TarInfo(f"{INNER}/data_batch_3.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "data_batch_1.bin"
    plain = tmp_path / "plain.tar"
    plain.write_bytes(gzip.decompress((tmp_path / "plain.tar.gz").read_bytes()))
    with tarfile.open(plain, "a") as stored:
        stored.addfile(link)
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(plain.read_bytes(), 1))
    long, no_file = refused(read_cifar_batches, tmp_path)
    assert "data_batch_2.bin" in long and "67,108,865 bytes long" in long
    assert "data_batch_3.bin" in no_file and "no file" in no_file


@pytest.mark.parametrize("place", ["cifar-10-batches-py", "cifar-10-batches-py-target/cifar-10-batches-py"])
def test_the_folder_where_keras_leaves_it(tmp_path, place):
    small_cifar.write_files(tmp_path / place, python(few()))
    for name in ("mnist.npz", "imdb.npz"):
        (tmp_path / name).write_bytes(b"another data set")
    problems = refused(cifar10.FILES.read, tmp_path)
    assert "x_train is uint8[30, 32, 32, 3]" in problems[0], "it was found and read"


# Batches that are not what they should be.


@pytest.mark.parametrize("copied, over", [("data_batch_1.bin", "data_batch_2.bin"), ("test_batch.bin", "data_batch_4.bin")])
def test_the_same_batch_twice(tmp_path, copied, over):
    files = binary(few())
    files[over] = files[copied]
    [problem] = refused(read_cifar_batches, small_cifar.write_files(tmp_path, files))
    assert str(tmp_path / copied) in problem and str(tmp_path / over) in problem and "same images" in problem


def test_a_python_batch_in_the_place_of_another(tmp_path):
    files = python(few())
    files["data_batch_1"], files["data_batch_2"] = files["data_batch_2"], files["data_batch_1"]
    problems = refused(read_cifar_batches, small_cifar.write_files(tmp_path, files))
    assert len(problems) == 2 and "'training batch 2 of 5', not 'training batch 1 of 5'" in problems[0]


def test_a_batch_as_python_2_wrote_it():
    """Strings by the opcodes U and T, which Python 3 doesn't write."""
    rows = few(2)["test_batch"][0]

    def string(text):
        return b"U" + bytes([len(text)]) + text

    stored = (b"\x80\x02}q\x01(" + string(b"batch_label") + string(CALLED["test_batch"].encode()) + string(b"labels")
              + b"]q\x02(K\x03K\x04e" + string(b"data") + b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
              + b"K\x00\x85" + string(b"b") + b"\x87Rq\x04(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\n" + string(b"u1")
              + b"K\x00K\x01\x87R(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
              + struct.pack("<i", rows.size) + rows.tobytes() + b"tbu.")
    found, labels = cifar_batches._parse_pickle(stored, "test_batch")
    np.testing.assert_array_equal(found, rows)
    assert labels.tolist() == [3, 4]


def nested(depth):
    return b")" + b"\x85" * depth


@pytest.mark.parametrize("stored", [
    b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    b"\x80\x02}(U\x06labels]U\x04datacnumpy\nndarray\n)R(K\x01" + nested(100_000)
    + b"cnumpy\ndtype\nU\x02u1\x85RK\x00U\x00tbu.",
    b"\x80\x02}(U\x06labels]U\x04datacnumpy\nndarray\n)R(K\x01K\x01" + nested(100_000)
    + b"\x86cnumpy\ndtype\nU\x02u1\x85RK\x00U\x00tbu.",
    b"\x80\x02}r\xff\xff\xff\xff.",
    b"}p99999999999\n.",
], ids=["size", "nested shape", "nested side", "far place", "far place as text"])
def test_pickles_that_no_reader_is_ready_for(tmp_path, stored):
    files = {**python(few()), "test_batch": stored}
    [problem] = refused(read_cifar_batches, small_cifar.write_files(tmp_path, files))
    assert str(tmp_path / "test_batch") in problem and "copy it again" in problem


@pytest.mark.parametrize("state", [
    b"N}X\x0c\x00\x00\x00__defaults__q\x00X\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86s\x86",
    b"}X\x03\x00\x00\x00newq\x00K\x01s",
    b"N}X\x08\x00\x00\x00__call__q\x00K\x01s\x86",
])
@pytest.mark.parametrize("name", ["_codecs\nencode", "numpy\nndarray", "numpy\ndtype"])
def test_a_pickle_writes_to_nothing_of_ours(state, name):
    standing = list(cifar_batches._Unpickler._NAMES.values())
    before = [(dir(one), vars(one) if isinstance(one, type) else None) for one in standing]
    before = [(names, dict(inner) if inner is not None else None) for names, inner in before]
    with pytest.raises((AttributeError, TypeError)):
        cifar_batches._parse_pickle(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    assert [(dir(one), dict(vars(one)) if isinstance(one, type) else None) for one in standing] == before
    encode = cifar_batches._Unpickler._NAMES["_codecs", "encode"]
    assert encode("é", "latin1") == b"\xe9"
    with pytest.raises(TypeError):
        encode("a")
    assert not hasattr(encode, "__dict__") and not hasattr(cifar_batches._Recorded(), "__dict__")


# .npz.


def write_npz(path, **members):
    """An .npz of six tiny images with some members replaced by bytes."""
    arrays = {f"{kind}_{part}": np.zeros((6, 32, 32, 3) if kind == "x" else 6, np.uint8)
              for kind in "xy" for part in ("train", "test")}
    np.savez(path, **{name: array for name, array in arrays.items() if name not in members})
    with zipfile.ZipFile(path, "a") as stored:
        for name, content in members.items():
            stored.writestr(f"{name}.npy", content)
    return path


def npy(header):
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.parametrize("content", [
    b"hello",
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': ((6, 32, 32, 3), }"),
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999, 3), }"),
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3), }"),
], ids=["no header", "brackets", "beyond int64", "negative"])
@pytest.mark.parametrize("name", ["x_train", "note"])
def test_members_that_are_no_arrays(tmp_path, content, name):
    path = write_npz(tmp_path / "cifar10.npz", **{name: content})
    [problem] = refused(cifar10.FILES.read, tmp_path)
    assert f"{path} can't be read as .npz" in problem


@pytest.mark.parametrize("place, value", [(8, 1), (10, 99)], ids=["encrypted", "unknown compression"])
def test_members_that_zipfile_can_not_open(tmp_path, place, value):
    path = write_npz(tmp_path / "cifar10.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + place] = value  # of the first member, in the directory at the end
    path.write_bytes(content)
    [problem] = refused(cifar10.FILES.read, tmp_path)
    assert f"{path} can't be read as .npz" in problem


def test_a_note_of_blanks_and_jpeg_files(tmp_path):
    np.savez(tmp_path / "cifar10.npz", **{name: np.zeros(3) for name in ARRAYS}, note=np.array("   "))
    assert "its note is" in refused(cifar10.FILES.read, tmp_path)[0]
    np.savez(tmp_path / "cifar10.npz", jpeg_train=np.zeros(3, np.uint8))
    [problem] = refused(cifar10.FILES.read, tmp_path)
    assert "python scripts/cifar10_from_jpeg.py" in problem
    np.savez(tmp_path / "cifar10.npz", x_train=np.zeros(3))
    assert "give cifar10.npz with x_train, y_train, x_test, y_test" in refused(cifar10.FILES.read, tmp_path)[0]


def test_without_network_all_that_can_be_given_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(array_files, "probe", lambda url: "no route")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    [problem] = refused(cifar10.FILES.read)
    for part in ("no route", "cifar10.npz with x_train", "cifar-10-python.tar.gz", "cifar10/3.0.1", "~/.keras/datasets"):
        assert part in problem


@pytest.mark.parametrize("spoil, says", [
    (lambda arrays: arrays["x_train"].__setitem__((..., 1), 7), "green is 7 in every pixel"),
    (lambda arrays: arrays["y_train"].__setitem__(arrays["y_train"] == 3, 4), "y_train has no image of class 3"),
])
def test_images_without_a_colour_and_a_class_without_images(tmp_path, spoil, says):
    arrays = small_cifar.made_arrays()
    spoil(arrays)
    np.savez(tmp_path / "cifar10.npz", **arrays)
    [problem] = refused(cifar10.load, types.SimpleNamespace(data_dir=str(tmp_path), validation_examples=0, seed=0))
    assert says in problem and str(tmp_path) in problem


# The index of TFRecord shards.


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = write_classic(tmp_path_factory.mktemp("shards"))
    paths = [str(path) for path in sorted(pathlib.Path(folder).glob("train-*-of-*"))]
    label = "image/class/label"
    tfrecord.write_index(str(folder), "train", [tfrecord.index_shard(path, label) for path in paths])
    return str(folder), paths, (pathlib.Path(folder) / "train.index.npz").read_bytes()


@pytest.mark.parametrize("change", [
    lambda values: values.update(offsets=values["offsets"][:-1]),
    lambda values: values.update(labels=values["labels"][:-1]),
    lambda values: values.update(counts=values["counts"] + 1),
    lambda values: values.update(counts=values["counts"][:1]),
    lambda values: values.update(lengths=values["lengths"] / 1),
    lambda values: values.update(lengths=values["lengths"] + 10**6),
    lambda values: values.update(offsets=-values["offsets"]),
])
def test_an_index_whose_arrays_do_not_fit_each_other(shards, change):
    folder, paths, whole = shards
    path = pathlib.Path(tfrecord.index_path(folder, "train"))
    try:
        assert len(tfrecord.read_index(folder, "train", paths)) == 2
        with np.load(path) as stored:
            values = dict(stored)
        change(values)
        np.savez(path, **values)
        [problem] = refused(tfrecord.read_index, folder, "train", paths)
        assert f"{path} is damaged" in problem and f"delete {path}; it is made again" in problem
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
        assert "is damaged" in refused(tfrecord.read_index, folder, "train", paths)[0]
    finally:
        path.write_bytes(whole)


# Any damage: what is read, or a Refusal.

def idx(name):
    shape = (6, 5, 4) if name.startswith("x") else (6,)
    return struct.pack(f">I{len(shape)}i", 0x0800 + len(shape), *shape) + bytes(int(np.prod(shape)))


def write_all(folder):
    """{kind: (file to damage, function that reads it)}."""
    for kind, files in (("binary", binary(few(2))), ("python", python(few(2)))):
        small_cifar.write_files(folder / kind, files)
    (folder / "tar").mkdir()
    small_cifar.write_archive(folder / "tar" / ARCHIVE, INNER, binary(few(2)))
    for kind in ("idx", "gz"):
        small_cifar.write_files(folder / kind, {names[0]: idx(name) for name, names in FILES.items()})
    plain = folder / "gz" / FILES["x_test"][0]
    plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    (folder / "npz").mkdir()
    write_npz(folder / "npz" / "cifar10.npz")
    return {
        "binary": (folder / "binary" / "test_batch.bin", lambda: read_cifar_batches(folder / "binary")),
        "python": (folder / "python" / "test_batch", lambda: read_cifar_batches(folder / "python")),
        "tar": (folder / "tar" / ARCHIVE, lambda: read_cifar_batches(folder / "tar")),
        "idx": (folder / "idx" / FILES["x_test"][0], lambda: read_idx_files(folder / "idx")),
        "gz": (plain.with_name(f"{plain.name}.gz"), lambda: read_idx_files(folder / "gz")),
        "npz": (folder / "npz" / "cifar10.npz", lambda: cifar10.FILES.read(folder / "npz")),
    }


@pytest.fixture(scope="module")
def readers(tmp_path_factory, shards):
    folder, paths, _ = shards
    index = pathlib.Path(tfrecord.index_path(folder, "train"))
    return {**write_all(tmp_path_factory.mktemp("all")),
            "index": (index, lambda: tfrecord.read_index(folder, "train", paths)),
            "shard": (pathlib.Path(paths[1]), lambda: read_shard(folder, paths[1]))}


def read_shard(folder, path):
    """As a look at the data, and as the index is made."""
    dataset_sizes.find_sizes(folder)
    dataset_sizes.is_torn(path)
    assert len(tfrecord.index_shard(path, "image/class/label").labels) >= 0


@pytest.mark.parametrize("count", [pytest.param(60, id="few"), pytest.param(3000, id="many", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["binary", "python", "tar", "idx", "gz", "npz", "index", "shard"])
@pytest.mark.fault("other bytes in a data file (CIFAR-10's batches and archive, IDX, .gz, .npz, a TFRecord shard or its index)",
                   holds="what is read, or our own error")
def test_damage_ends_in_a_refusal_or_not_at_all(readers, kind, count, record_property):
    record_property("tried", count)
    path, read = readers[kind]
    whole = path.read_bytes()

    @few_examples(count)
    @given(damaged(whole))
    def check(content):
        path.write_bytes(content)
        try:
            read()
        except Refusal as refusal:
            assert all(refusal.problems)

    try:
        check()
    finally:
        path.write_bytes(whole)


def test_an_index_whose_last_record_leaves_no_room_for_its_checksum(shards):
    folder, paths, whole = shards
    path = pathlib.Path(tfrecord.index_path(folder, "train"))
    try:
        tfrecord.read_index(folder, "train", paths)
        with np.load(path) as stored:
            values = dict(stored)
        values["offsets"][-1] = values["sizes"][-1] - values["lengths"][-1] - 3
        np.savez(path, **values)
        assert "goes beyond its shard" in refused(tfrecord.read_index, folder, "train", paths)[0]
    finally:
        path.write_bytes(whole)


def test_a_shard_of_another_name_and_the_same_size(shards, tmp_path):
    folder, paths, whole = shards
    other = tmp_path / "train-00009-of-00010"
    other.write_bytes(pathlib.Path(paths[0]).read_bytes())
    [problem] = refused(tfrecord.read_index, folder, "train", [str(other), *paths[1:]])
    assert f"the index says {pathlib.Path(paths[0]).name}" in problem


@pytest.mark.parametrize("stored", [b"\x80\x02}r\xff\xff\x00\x00.", b"}p65535\n."], ids=["four bytes", "text"])
def test_a_far_place_is_refused_before_the_unpickler_makes_room_up_to_it(stored):
    with pytest.raises(pickle.UnpicklingError, match="it puts something in place 65,535"):
        cifar_batches._parse_pickle(stored)
