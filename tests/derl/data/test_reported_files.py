"""Files that users of MMSA, MMSA-FET, MulT, NumPy and others reported: sound ones are read, others are named."""

import collections
import decimal
import fractions
import functools
import io
import pathlib
import pickle
import random
import sys
import types
import uuid
import zipfile

import numpy as np
import pandas
import pytest
import scipy.io
import scipy.sparse
import torch

from derl.data.load import load_data
from derl.data.mmsa import read_mmsa
from derl.data.split import DataError

ROWS, FRAMES = {"train": 4, "valid": 3, "test": 3}, 6


def layout(**changes):
    """A file in MMSA's layout; a change is a function of the number of rows, or None to take a key out."""
    content = {}
    for seed, (name, rows) in enumerate(ROWS.items()):
        entry = {
            "raw_text": [f"word {row}" for row in range(rows)],
            "id": [f"{name} {row}" for row in range(rows)],
            "audio": np.random.default_rng(seed).standard_normal((rows, FRAMES, 2)) + 9,  # never zero
            "audio_lengths": [FRAMES] * rows,
            "regression_labels": np.linspace(-1, 1, rows),
        }
        entry |= {key: None if make is None else make(rows) for key, make in changes.items()}
        content[name] = {key: value for key, value in entry.items() if value is not None}
    return content


def write(tmp_path, content, protocol=4):
    path = tmp_path / "data.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


# --- padding at the front (MulT pads left; MMSA-FET's padding_location="start") ---


def lengths(rows):
    return [2, 5, 3, FRAMES][:rows]


def padded(rows, *, front, filler=0.0):
    frames = np.full((rows, FRAMES, 2), filler)
    for row, length in enumerate(lengths(rows)):
        real = 1.0 + np.arange(length)[:, None] + [0, 10]
        frames[row, slice(FRAMES - length, None) if front else slice(length)] = real
    return frames


@pytest.mark.parametrize("with_lengths", [True, False])
@pytest.mark.parametrize("filler", [0.0, np.nan])
@pytest.mark.parametrize("front", [True, False])
def test_frames_are_found_at_either_end(tmp_path, capsys, front, filler, with_lengths):
    changes = {"audio": lambda rows: padded(rows, front=front, filler=filler)}
    changes |= {"audio_lengths": lengths if with_lengths else None}
    splits = load_data(write(tmp_path, layout(**changes)), tmp_path / "cache")
    for name, split in splits.items():
        assert split.lengths["audio"].tolist() == lengths(ROWS[name])
        for row, length in enumerate(lengths(ROWS[name])):
            assert split.features["audio"][row, :length, 0].tolist() == [1.0 + frame for frame in range(length)]
    said = "train: audio begins with padding in 3 of 4 rows: their frames were moved to the start"
    for _ in range(2):  # when it is converted, and from the cache
        assert (said in " ".join(capsys.readouterr().out.split())) is front
        load_data(tmp_path / "data.pkl", tmp_path / "cache")


def test_a_file_padded_at_both_ends_is_refused(tmp_path):
    def mixed(rows):
        return np.where(np.arange(rows)[:, None, None] < 1, padded(rows, front=True), padded(rows, front=False))

    path = write(tmp_path, layout(audio=mixed, audio_lengths=lengths))
    with pytest.raises(DataError, match=r"found rows padded at the front \(train 0; .*at the end \(train 1, 2; "):
        read_mmsa(path)


def test_noise_as_padding_is_said_not_to_be_read(tmp_path, capsys):
    load_data(write(tmp_path, layout(audio_lengths=lengths)), tmp_path / "cache")
    assert "train: audio is not zero past audio_lengths in 3 of 4 rows: not read" in capsys.readouterr().out


# --- arrays and lists ---


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_an_array_in_any_order_of_memory_is_read(tmp_path, protocol, axes):
    def turned(rows):
        return np.ascontiguousarray(layout()["train"]["audio"][:rows].transpose(axes)).transpose(np.argsort(axes))

    path = write(tmp_path, layout(audio=turned), protocol)
    np.testing.assert_allclose(read_mmsa(path)["valid"].features["audio"], turned(3), rtol=1e-6)


UNREAD = {
    "transposed": lambda rows: np.arange(70.0).reshape(2, 5, 7).transpose(2, 0, 1),
    "dates": lambda rows: np.zeros(rows, "M8[s]"),
    "complex": lambda rows: np.zeros((rows, 2, 2), complex),
    "structured": lambda rows: np.zeros(rows, [("a", "f4"), ("b", "i4")]),
    "ordered": lambda rows: collections.OrderedDict(a=[1], b=collections.defaultdict(list, c=[2])),
    "frame": lambda rows: pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
    "series": lambda rows: pandas.Series([1, 2]),
    "tensor": lambda rows: torch.ones(2, 3),
    "masked": lambda rows: np.ma.masked_array([1.0, 2.0], [True, False]),
    "matrix": lambda rows: np.eye(2).view(np.matrix),
    "scalar": lambda rows: [np.datetime64("2020-01-01")],
    "path": lambda rows: [pathlib.PurePosixPath("a.wav")] * rows,
    "decimal": lambda rows: decimal.Decimal("1.5"),
    "uuid": lambda rows: uuid.UUID(int=rows),
    "fraction": lambda rows: {fractions.Fraction(1, 3): 1},
    "namespace": lambda rows: types.SimpleNamespace(a=1, b=[2]),
    "named tuple": lambda rows: [sys.version_info[:2], pytest.ExitCode.OK, sys.hash_info[0]],
    "error": lambda rows: ValueError("a"),
    "type": lambda rows: [dict, len, type(None), np.float32, np.dtype("f4")],
    "ellipsis": lambda rows: [..., NotImplemented],
    "random": lambda rows: [np.random.default_rng(0), np.random.RandomState(0), random.Random(0)],
    "sparse": lambda rows: scipy.sparse.eye(3),
    "partial": lambda rows: functools.partial(int, base=2),
    "strings": lambda rows: np.array(["a", "bc"], dtype=np.dtypes.StringDType()),
    "set": lambda rows: {(1, 2), pathlib.PurePosixPath("a")},
    "tuples as keys": lambda rows: {(1, "a"): 2, (): 3},
    "dicts": lambda rows: [{} for _ in range(20_000 // rows)],
    "dicts in tuples": lambda rows: [(row, {"a": 1}) for row in range(20_000)],
    "numbers as keys": lambda rows: {float(row): row for row in range(5_000 // 3)},
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", UNREAD)
def test_what_is_not_needed_is_never_a_reason_to_refuse(tmp_path, kind, protocol):
    splits = read_mmsa(write(tmp_path, layout(other=UNREAD[kind]), protocol))
    assert splits["train"].modalities == ("text", "audio")
    assert "other" in splits["train"].left_out


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_lists_of_numpys_scalars_are_read_at_mosis_size(tmp_path, protocol):
    rows = 2199

    def split(rows):
        draw = np.random.default_rng(0)
        return {
            "raw_text": [f"word {row}" for row in range(rows)],
            "id": [f"{row}" for row in range(rows)],
            "audio": np.ones((rows, 2, 1), np.float32),
            "audio_lengths": list(draw.integers(1, 3, rows)),
            "vision": np.ones((rows, 2, 1), np.float32),
            "vision_lengths": list(draw.integers(1, 3, rows)),
            "regression_labels": list(draw.uniform(-3, 3, rows).astype(np.float32)),
            "classification_labels": list(draw.integers(0, 3, rows)),
        }

    content = {"train": split(rows), "valid": split(3), "test": split(3)}
    assert len(read_mmsa(write(tmp_path, content, protocol))["train"]) == rows


@pytest.mark.parametrize("text_features", [False, True])
def test_features_of_text_without_words_are_a_modality_and_said_to_be(tmp_path, capsys, text_features):
    path = write(tmp_path, layout(raw_text=None, text=lambda rows: np.ones((rows, 3, 4), np.float32)))
    split = load_data(path, tmp_path / "cache", text_features=text_features)["train"]
    assert split.modalities == ("audio", "text_features")
    said = "train: there is no raw_text: the features in text are read as the modality text_features"
    assert (said in " ".join(capsys.readouterr().out.split())) is not text_features


# --- Python 2 ---


def python_2(content, protocol):
    """What Python 2 writes: its str, which is bytes, for text and for the bytes of arrays."""
    out = io.BytesIO()

    def string(data):
        if protocol:
            return b"T" + len(data).to_bytes(4, "little") + data
        escaped = "".join(chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in data)
        return b"S'" + escaped.encode() + b"'\n"

    def body(value):
        match value:
            case str():
                return string(value.encode())
            case float():
                return b"F" + repr(value).encode() + b"\n"
            case int():
                return b"I" + str(value).encode() + b"\n"
            case tuple():
                return b"(" + b"".join(map(body, value)) + b"t"
            case list():
                return b"(l" + b"".join(body(item) + b"a" for item in value)
            case dict():
                return b"(d" + b"".join(body(key) + body(item) + b"s" for key, item in value.items())
            case np.ndarray():
                kind = value.dtype.str[1:]
                dtype = b"cnumpy\ndtype\n(" + string(kind.encode()) + b"I0\nI1\ntR"
                dtype += b"(I3\n" + string(b"<") + b"NNNI-1\nI-1\nI0\ntb"
                array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + string(b"b") + b"tR"
                return array + b"(I1\n" + body(value.shape) + dtype + b"I00\n" + string(value.tobytes()) + b"tb"
        raise TypeError(type(value))

    out.write((b"\x80\x02" if protocol else b"") + body(content) + b".")
    return out.getvalue()


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_of_python_2_is_read(tmp_path, protocol):
    content = layout(raw_text=lambda rows: [f"déjà vu {row}" for row in range(rows)])
    data = python_2(content, protocol)
    assert pickle.loads(data, encoding="latin1")["train"]["audio"].shape == (4, FRAMES, 2)
    splits = read_mmsa(write(tmp_path, data))
    for name, split in splits.items():
        assert split.text == content[name]["raw_text"]
        np.testing.assert_allclose(split.features["audio"], content[name]["audio"], rtol=1e-6)


# --- other formats, and damage ---


def archive(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return content.getvalue()


def saved(save, *arguments, **options):
    content = io.BytesIO()
    save(content, *arguments, **options)
    return content.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
ORDERED = collections.OrderedDict(layout())
OTHERS = {
    "csd": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, as .csd files are; align .*ShardWriter"),
    "csv": (b"id,label,text\n1,2.0,so good\n", r"a table of text \(CSV\); give it a name that ends in .csv"),
    "mat": (saved(scipy.io.savemat, {"audio": np.ones(3)}), r"MATLAB file \(.mat\); .*scipy.io.loadmat.*ShardWriter"),
    "mat 7.3": (b"MATLAB 7.3 MAT-file, Platform" + bytes(500) + b"\x89HDF", r"7.3 \(.mat\); .*h5py.*ShardWriter"),
    "npy": (saved(np.save, np.ones(3)), r"one NumPy array \(.npy\); .*ShardWriter"),
    "npz": (saved(np.savez, a=np.ones(3)), r"arrays of numpy.savez \(.npz\); .*ShardWriter"),
    "pt": (
        saved(lambda file: torch.save({"a": torch.ones(2)}, file)),
        r"a file of torch.save \(.pt\); read it with torch.load",
    ),
    "old pt": (
        saved(lambda file: torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=False)),
        r"a file of torch.save \(.pt\); read it with torch.load",
    ),
    "zip": (archive(**{"data.txt": "x"}), "a zip archive; unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "a gzip file; unpack it with gunzip"),
    "parquet": (b"PAR1" + bytes(20), "a Parquet file; give it a name that ends in .parquet"),
    "pointer": (POINTER, "a pointer of Git LFS, not the file itself; run 'git lfs pull'"),
    "page": (b"<!DOCTYPE html><html>log in</html>", "a page of the web, not the file itself; download the file again"),
    "OrderedDict": (pickle.dumps(ORDERED), r"the module collections, such as an OrderedDict; convert it with dict\(\)"),
    "pandas": (pickle.dumps(pandas.DataFrame({"a": [1.0]})), r"found a pandas object; save its .to_numpy\(\)"),
    "strings of pandas, kept by pyarrow": (
        b"cpyarrow.lib\n_restore_array\n(((cpyarrow.lib\ntype_for_alias\n(Vlarge_string\ntRI1\n"
        b"(Ncpyarrow.lib\npy_buffer\n(cbuiltins\nbytearray\n(tRtRltttR.",
        r"found a pandas object; save its .to_numpy\(\)",
    ),
    "column of pandas": (
        pickle.dumps(layout(regression_labels=lambda rows: pandas.Series(np.zeros(rows)))),
        r"'regression_labels' to be a list .*, found a pandas object; save its .to_numpy\(\)",
    ),
    "tensor": (pickle.dumps(layout(audio=lambda rows: torch.ones(rows, 2, 2))), r"a torch tensor; save its .numpy\(\)"),
    "path": (
        pickle.dumps(layout(id=lambda rows: [pathlib.PurePosixPath("a")] * rows)),
        "str in key 'id', found an object that pathlib.PurePosixPath makes in row 0; save plain lists and arrays",
    ),
    "dates": (
        pickle.dumps(layout(audio=lambda rows: np.zeros((rows, 2, 2), "M8[s]"))),
        "key 'audio' to be a numeric array .*, found array dtype str 'M8'",
    ),
    **{
        f"CR LF {protocol}": (
            pickle.dumps(layout(raw_text=lambda rows: ["two\nlines"] * rows), protocol).replace(b"\n", b"\r\n"),
            "one in which every line ends in CR LF, as after a copy as text; copy it again as binary",
        )
        for protocol in (0, 2, 3, 4, 5)
    },
}


CONVERTED = {  # content, what it is called, what pandas reads it with
    "csv of Excel": (b"\xef\xbb\xbfid;label\n1;2,0\n", "a table of text with semicolons", "read_csv(path, sep=';')"),
    "tsv": (b"id\tlabel\ttext\n1\t2.0\tgood, so\n", "a table of text with tabs (TSV)", r"read_csv(path, sep='\t')"),
    "json": (b'[\n  {"id": "a", "label": 1.0}\n]\n', "JSON", "read_json(path)"),
    "json of columns": (b' {"id": {"0": "a"},\n "label": {"0": 1.0}}', "JSON", "read_json(path)"),
    "json in one line": (b'[{"id": "a", "label": 1.0}]', "JSON", "read_json(path)"),
    "jsonl": (b'{"id": "a"}\n{"id": "b"}\n', "JSON Lines, one sample per line", "read_json(path, lines=True)"),
    "xlsx": (archive(**{"a.xml": "", "xl/workbook.xml": ""}), "an Excel workbook (.xlsx)", "read_excel(path)"),
    "xls": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(99), "an old Office file, such as .xls", "read_excel(path)"),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_a_table_of_another_kind_is_named_with_what_converts_it(tmp_path, kind):
    data, what, reader = CONVERTED[kind]
    with pytest.raises(DataError) as error:
        load_data(write(tmp_path, data), tmp_path / "cache")
    remedy = (
        f"save it as a table, e.g. with pandas.{reader}.to_csv('table.csv', index=False), and give --data table.csv"
    )
    assert str(error.value).endswith(f"found {what}; {remedy} (docs/your-data.md).")


def test_json_lines_longer_than_the_start_of_the_file_are_told_by_the_name(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": "' + "x" * 10_000 + '"}\n' * 2)
    with pytest.raises(DataError, match="found JSON Lines"):
        load_data(path, tmp_path / "cache")


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_kind_is_named_with_what_reads_it(tmp_path, kind):
    data, message = OTHERS[kind]
    with pytest.raises(DataError, match=message) as error:
        read_mmsa(write(tmp_path, data))
    assert "do not trust" not in str(error.value)
