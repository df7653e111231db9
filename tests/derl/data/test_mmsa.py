import copyreg
import io
import os
import pickle
import pickletools
import random
import re
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derl.data.absence import describe_missing
from derl.data.load import load_data
from derl.data.missing import MissingDataset
from derl.data.mmsa import describe_left_out, read_mmsa
from derl.data.split import DataError
from derl.data.synthetic import make_synthetic
from derl.data.unpickle import load_pickle

REAL = Path(__file__).parents[4] / "shared/data/mosi/unaligned_text_audio.pkl"
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def entry(rows=3, frames=4, seed=0, **changes):
    """One split in MMSA's layout; a change to None takes a key out."""
    rng = np.random.default_rng(seed)
    content = {
        "raw_text": np.array([f"word {i} é" for i in range(rows)], dtype=object),
        "id": np.array([f"v$_${i}" for i in range(rows)], dtype=object),
        "audio": rng.standard_normal((rows, frames, 2)).astype(np.float32),
        "audio_lengths": [frames] * rows,
        "vision": np.asfortranarray(rng.standard_normal((rows, frames + 1, 3))),
        "vision_lengths": [frames + 1] * rows,
        "regression_labels": np.linspace(-3, 3, rows).astype(np.float32),
        "classification_labels": np.zeros(rows),
        "annotations": np.array(["Neutral"] * rows),
        "text_bert": np.zeros((rows, 3, 5), np.float32),
    }
    content |= changes
    return {key: value for key, value in content.items() if value is not None}


def layout(**changes):
    return {name: entry(rows=i + 2, seed=i, **changes) for i, name in enumerate(("train", "valid", "test"))}


def changed(split, **changes):
    content = layout()
    content[split] = entry(rows={"train": 2, "valid": 3, "test": 4}[split], **changes)
    return content


@pytest.fixture
def write(tmp_path):
    def write(content, protocol=4):
        path = tmp_path / "data.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
        return path

    return write


def as_numpy_1(data):
    """Respell a protocol 4 or 5 pickle the way numpy 1 does; frames are optional and left out."""
    cuts = [i for opcode, _, i in pickletools.genops(data) if opcode.name == "FRAME"]
    for cut in reversed(cuts):
        data = data[:cut] + data[cut + 9 :]
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
    return data


# --- what it reads ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_reads_the_same(write, protocol):
    content = layout()
    splits = read_mmsa(write(content, protocol))
    assert list(splits) == ["train", "valid", "test"]
    for name, split in splits.items():
        assert split.ids == list(content[name]["id"])
        assert split.text == list(content[name]["raw_text"])
        assert split.modalities == ("text", "audio", "vision")
        for modality in ("audio", "vision"):
            expected = torch.from_numpy(np.ascontiguousarray(content[name][modality])).float()
            torch.testing.assert_close(split.features[modality], expected, rtol=0, atol=0)
            assert split.lengths[modality].tolist() == content[name][f"{modality}_lengths"]
        torch.testing.assert_close(split.labels, torch.from_numpy(content[name]["regression_labels"]))


@pytest.mark.parametrize("protocol", [4, 5])
def test_numpy_1_spelling(write, protocol):
    data = as_numpy_1(pickle.dumps(layout(), protocol))
    assert b"numpy.core" in data
    assert b"numpy._core" not in data
    torch.testing.assert_close(read_mmsa(write(data))["test"].features, read_mmsa(write(layout()))["test"].features)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8", "<i2", "u1"])
def test_every_number_becomes_float32(write, dtype):
    audio = np.arange(16).reshape(2, 4, 2).astype(dtype)
    split = read_mmsa(write(changed("train", audio=audio)))["train"]
    assert split.features["audio"].dtype == torch.float32
    assert split.features["audio"].flatten().tolist() == list(range(16))


@pytest.mark.parametrize("held", [("raw_text",), ("raw_text", "audio"), ("audio", "vision"), ("vision",)])
def test_reads_the_modalities_that_the_file_holds(write, held):
    absent = {key: None for key in ("raw_text", "audio", "vision") if key not in held}
    absent |= {f"{key}_lengths": None for key in absent}
    split = read_mmsa(write(layout(**absent)))["train"]
    assert split.modalities == tuple("text" if key == "raw_text" else key for key in held)


def test_lists_fixed_width_strings_and_scalars_are_columns_too(write):
    content = changed(
        "train",
        id=["a", "a"],
        raw_text=np.array(["one", "two words"]),
        audio_lengths=[np.int64(0), np.int32(4)],
        vision_lengths=np.array([5, 1]),
        regression_labels=[np.float64(0.2), 1],
    )
    for protocol in PROTOCOLS:
        split = read_mmsa(write(content, protocol))["train"]
        assert split.ids == ["a", "a"]
        assert split.text == ["one", "two words"]
        assert split.lengths["audio"].tolist() == [0, 4]
        assert split.lengths["vision"].tolist() == [5, 1]
        assert split.labels.tolist() == pytest.approx([0.2, 1])


def test_without_lengths_an_utterance_lies_between_its_first_and_last_frame_that_are_not_zero(write):
    audio = np.zeros((4, 5, 2), np.float32)
    audio[0, [0, 2], 1] = audio[1, [2, 4], 0] = audio[2, 0, 0] = 1
    split = read_mmsa(write(changed("test", audio=audio, audio_lengths=None)))["test"]
    assert split.lengths["audio"].tolist() == [3, 3, 1, 0]


NAN = np.nan


def frames(*columns):
    """One row of frames of two features, each frame given by its second feature; the first is 1 where it is a number.

    None is a frame that was not observed, "half" one of which only the first feature was.
    """
    spelled = {None: (NAN, NAN), "half": (1, NAN)}
    return [spelled.get(column) or (1, column) for column in columns]


@pytest.mark.parametrize(
    ("audio", "lengths", "found", "masks", "report"),
    [  # of the last of three samples; the others are whole
        (frames(1, 2, 3, 4), [4, 4, 4], 4, [1, 1, 1, 1], None),
        (frames(None, None, None, None), [4, 4, 4], 0, [0], "audio is absent in 1 of 3 samples"),
        (frames(None, None, None, None), None, 0, [0], "audio is absent in 1 of 3 samples"),
        (np.zeros((4, 2)), None, 0, [0], "audio is absent in 1 of 3 samples"),
        (frames(1, 2, 3, 4), [4, 4, 0], 0, [0], "audio is absent in 1 of 3 samples"),
        (frames(None, 2, 3, 4), [4, 4, 4], 4, [0, 1, 1, 1], "of audio, 1 of 12 frames are absent"),
        (frames(1, None, 3, None), [4, 4, 4], 3, [1, 0, 1], "of audio, 1 of 11 frames are absent"),
        (frames(1, 2, None, None), [4, 4, 3], 2, [1, 1], None),  # a shorter sample, nothing more
        (frames(1, "half", 3, 4), [4, 4, 4], 4, [1, 1, 1, 1], "of audio, 1 values in 1 frames are missing"),
        (frames(1, np.inf, 3, 1e300), [4, 4, 4], 4, [1, 1, 1, 1], "of audio, 2 values in 2 frames are missing"),
    ],
)
@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_what_was_not_observed_is_absent_and_counted(
    write, tmp_path, capsys, name, audio, lengths, found, masks, report
):
    columns = np.stack([np.ones((4, 2)), np.ones((4, 2)), np.asarray(audio, np.float64)])
    content = layout(audio_lengths=None) if lengths is None else layout()
    content[name] = entry(rows=3, audio=columns, audio_lengths=lengths)
    split = load_data(write(content), tmp_path / "cache.safetensors")[name]
    said = capsys.readouterr().out
    assert split.lengths["audio"].tolist() == [4, 4, found]
    data = MissingDataset(split, None, max_lengths={"audio": 4}, modalities=["audio"], seed=0, rate=0.0)
    item = data[2]
    assert item["masks"]["audio"].tolist() == item["keep"]["audio"].tolist() == [bool(mask) for mask in masks]
    assert not item["inputs"]["audio"][~item["masks"]["audio"]].any()
    real = [frame for frame, mask in zip(audio, masks, strict=False) if mask]
    given = item["inputs"]["audio"][item["masks"]["audio"]].tolist()
    assert [[x for x in row if x == x] for row in given] == [[x for x in row if abs(x) < 1e30] for row in real]
    assert (f"{name}: {report}" in said) if report else ("absent" not in said and "missing" not in said)


@pytest.mark.parametrize("text", [None, "", "  \t", NAN], ids=repr)
def test_a_text_that_is_none_is_absent_and_counted(write, tmp_path, capsys, text):
    column = np.array(["one", "two", text], dtype=object)
    content = layout()
    content["test"] = entry(rows=3, raw_text=column)
    tokenizer = make_synthetic(sizes={"train": 7, "valid": 7, "test": 7}).tokenizer
    split = load_data(write(content), tmp_path / "cache.safetensors")["test"]
    data = MissingDataset(split, tokenizer, max_lengths={"text": 9}, modalities=["text"], seed=0, rate=0.0)
    masks = [item["masks"]["text"].tolist() for item in data]
    assert masks == [[True] * 3, [True] * 3, [False]]
    assert "test: text is absent in 1 of 3 samples" in capsys.readouterr().out


def test_frames_of_which_a_part_is_missing_are_masked_on_request(write, tmp_path, capsys):
    audio = np.array([frames(1, 2, 3, 4), frames(1, "half", None, 4), frames("half", "half", "half", "half")])
    content = layout()
    content["valid"] = entry(rows=3, audio=audio)
    path = write(content)
    split = load_data(path, tmp_path / "cache", partly_missing="mask")["valid"]
    said = " ".join(capsys.readouterr().out.split())  # wrapped at 80 columns
    assert "5 values in 5 frames are missing (these frames count as absent)" in said
    options = {"max_lengths": {"audio": 4}, "modalities": ["audio"], "seed": 0, "rate": 0.0}
    for partly, expected in (("impute", [4, 3, 4]), ("mask", [4, 2, 0])):
        data = MissingDataset(split, None, partly_missing=partly, **options)
        assert [int(item["masks"]["audio"].sum()) for item in data] == expected
    with pytest.raises(ValueError, match=r"partly_missing out of .*'impute', 'mask'.*, got 'zero'"):
        MissingDataset(split, None, partly_missing="zero", **options)


# --- which modalities, and what is left out ---


def heart(rows, frames=6):
    return np.random.default_rng(rows).standard_normal((rows, frames, 1))


def with_heart(**changes):
    content = layout()
    for split in content.values():
        rows = len(split["id"])
        split |= {"heart": heart(rows), "heart_lengths": [6] * (rows - 1) + [2]}
        split |= {key: make(rows) for key, make in changes.items()}
    return content


def test_every_array_of_frames_is_a_modality_with_its_own_lengths(write):
    content = with_heart(skin=lambda rows: np.ones((rows, 3, 4), np.int16))
    for name, split in read_mmsa(write(content)).items():
        assert split.modalities == ("text", "audio", "vision", "heart", "skin")
        torch.testing.assert_close(split.features["heart"], torch.from_numpy(content[name]["heart"]).float())
        assert split.lengths["heart"].tolist() == content[name]["heart_lengths"]
        assert split.lengths["skin"].tolist() == [3] * len(split)


def test_what_is_not_read_is_named_with_the_reason(write, tmp_path, capsys):
    content = with_heart(
        **{
            "text": lambda rows: np.zeros((rows, 4, 768), np.float32),
            "text_lengths": lambda rows: [4] * rows,
            "mood": lambda rows: np.zeros((rows, 7)),
            "pair": lambda rows: np.zeros((rows + 1, 7, 2)),
            "half": lambda rows: np.zeros((rows, 3, 2)),
            "a.b": lambda rows: np.zeros((rows, 3, 2)),
            "words": lambda rows: [["a"]] * rows,
        }
    )
    path, cache = write(content), tmp_path / "cache.safetensors"
    computed = "raw_text is read instead"
    for _ in range(2):  # converted, and from the cache
        splits = load_data(path, cache)
        assert splits["test"].modalities == ("text", "audio", "vision", "heart")
        printed = dict(re.findall(r"left out: (\S+), (.*)", capsys.readouterr().out.replace("\n  ", " ")))
        assert printed == {
            "annotations": "not an array of numbers but array <U7 (N,)",
            "classification_labels": "not an array (N, L, D) of N = 2 samples but array float64 (N,)",
            "text": f"features computed from the words; {computed} (--text_features reads the features)",
            "text_bert": "BERT token ids; the text encoder's own tokenizer reads raw_text instead",
            "text_lengths": "lengths of text, which is not read",
            "mood": "not an array (N, L, D) of N = 2 samples but array float64 (N, 7); as (N, 1, D) it would be one "
            "frame per sample",
            "pair": "not an array (N, L, D) of N = 2 samples but array float64 (3, 7, 2)",
            "half": "not a valid modality name; rename the key 'half'",
            "'a.b'": "not a valid modality name; rename the key 'a.b'",
            "words": "not an array of numbers but list",
        }


def test_features_of_the_text_are_read_in_place_of_the_words_where_asked_for(write, tmp_path, capsys):
    content = with_heart(text=lambda rows: np.ones((rows, 4, 8), np.float32), text_lengths=lambda rows: [3] * rows)
    path, cache = write(content), tmp_path / "cache.safetensors"
    load_data(path, cache)
    split = load_data(path, cache, text_features=True)["train"]
    assert split.modalities == ("audio", "vision", "text_features", "heart")
    assert split.lengths["text_features"].tolist() == [3, 3]
    assert "left out: raw_text, the words" in capsys.readouterr().out.replace("\n  ", " ")
    with pytest.raises(DataError, match="expected key 'text', found only"):
        read_mmsa(write(layout()), text_features=True)
    with pytest.raises(DataError, match="expected a pickle for --text_features"):
        load_data(cache, cache, text_features=True)


def test_a_modality_that_one_split_lacks_is_named(write):
    content = with_heart()
    content["test"]["heart"] = np.zeros((4, 6))
    with pytest.raises(
        DataError, match=r"the same modalities in every split, found .*'test': \('text', 'audio', 'vision'\)"
    ):
        read_mmsa(write(content))


def test_a_flood_of_keys_is_not_printed_whole(write):
    content = layout()
    content["train"] |= {f"key {number}": number for number in range(5000)}
    lines = describe_left_out(read_mmsa(write(content)))
    assert len(lines) < 30
    assert lines[-1] == "left out: 4983 more keys, for similar reasons"


def test_one_array_under_many_keys_is_refused_before_it_is_copied(write):
    content = layout()
    shared = np.zeros((2, 400, 50), np.uint8)
    content["train"] |= {f"copy{number}": shared for number in range(500)}
    with pytest.raises(DataError, match=r"expected arrays with bytes of their own, found .* numbers in .* bytes"):
        read_mmsa(write(content))


# --- what departs from the layout ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected a dict of the splits"),
        ({"train": entry(), "test": entry()}, "expected split 'valid', found only 'train', 'test'"),
        ({"train": [1]}, "expected split 'train' to be a dict, found list"),
        (changed("valid", id=None), "split 'valid': expected key 'id', found only 'raw_text', 'audio'"),
        (changed("test", regression_labels=None), "split 'test': expected key 'regression_labels'"),
        (layout(raw_text=None, audio=None, vision=None), "expected key 'raw_text', 'audio' or 'vision'"),
        (changed("train", raw_text=["a"]), "one row per utterance .* 'raw_text': 1"),
        (changed("train", audio=np.zeros((3, 4, 2))), "one row per utterance .* 'audio': 3"),
        (changed("train", audio_lengths=[1]), "expected audio_lengths of 2 rows"),
        (changed("train", audio_lengths=[1, 5]), "audio_lengths in 0 to 4, found 5 in row 1"),
        (changed("train", audio_lengths=[-1, 4]), "audio_lengths in 0 to 4, found -1 in row 0"),
        (changed("train", audio_lengths=[1, 2.5]), "int in key 'audio_lengths', found float in row 1"),
        (changed("train", audio=np.zeros((2, 4))), r"array \(N, L, D\), found array float64 \(2, 4\)"),
        (changed("train", audio=[[0.0]]), r"numeric array \(N, L, D\), found list"),
        (changed("train", audio=np.zeros((2, 0, 2))), r"frames in key 'audio', found array float64 \(2, 0, 2\)"),
        (changed("train", audio=np.zeros((2, 4, 7))), "audio of the same width in every split, found {'train': 7"),
        (changed("train", vision=None, vision_lengths=None), "the same modalities in every split"),
        (changed("train", regression_labels=[0.0, np.inf]), "that are finite in float32, found inf in row 1"),
        (changed("train", regression_labels=[np.nan, 0.0]), "that are finite in float32, found nan in row 0"),
        (changed("train", regression_labels=[0.0, 1e39]), r"that are finite in float32, found 1e\+39 in row 1"),
        (changed("train", regression_labels=[10**400, 0.0]), "breaks its reader"),
        (changed("train", regression_labels=[True, 0.0]), "float or int .* found bool in row 0"),
        (changed("train", regression_labels=np.zeros((2, 1))), r"array \(N,\) of float"),
        (changed("train", raw_text=["a", 1.5]), "expected str in key 'raw_text', found float in row 1"),
        (changed("train", raw_text=["a", 1]), "expected str in key 'raw_text', found int in row 1"),
        (changed("train", id=7), "key 'id' to be a list"),
        (layout(**{key: [] for key in ("id", "raw_text", "regression_labels")}), "one row per utterance"),
    ],
)
def test_a_departure_from_the_layout_is_named(write, content, message):
    path = write(content)
    with pytest.raises(DataError, match=message) as error:
        read_mmsa(path)
    assert str(error.value).startswith(f"{path}: ")


def test_files_that_are_no_pickle(write, tmp_path):
    for path, message in [
        (tmp_path / "absent.pkl", "expected a file that can be read, found No such file"),
        (tmp_path, "expected a file that can be read"),
        (write(b""), "found an empty file"),
    ]:
        with pytest.raises(DataError, match=message):
            read_mmsa(path)
    for data in (b"hello this is text\n" * 9, b"\x8aHDF" + bytes(99)):
        with pytest.raises(DataError, match="expected a pickle, found bytes that are not one"):
            read_mmsa(write(data))


# --- what is hostile ---


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Persistent(pickle.Pickler):
    def persistent_id(self, obj):
        return "id" if isinstance(obj, Calls) else None


def persistent():
    buffer = io.BytesIO()
    Persistent(buffer, 4).dump([Calls(print)])
    return buffer.getvalue()


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def protocol_4(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def global_(module, name):
    return text(module) + text(name) + b"\x93"


def array_state(shape, dtype="f4", raw=b""):
    """A hand-written pickle of one array with a state of our choice."""
    return protocol_4(
        global_("numpy._core.multiarray", "_reconstruct"),
        global_("numpy", "ndarray") + body((0,)) + body(b"b") + b"\x87R",
        b"(K\x01" + body(shape),
        global_("numpy", "dtype") + body((dtype, False, True)) + b"R\x89" + body(raw) + b"tb",
    )


def body(value):
    """The opcodes that push a plain value, without header, memo and stop."""
    body = pickletools.optimize(pickle.dumps(value, 3))
    return body[2:-1]


def hostile(tmp_path):
    proof = str(tmp_path / "proof")
    bomb = Calls(os.mkdir, proof)
    return {
        "posix.mkdir": [pickle.dumps(bomb, protocol) for protocol in PROTOCOLS]
        + [pickle.dumps(changed("train", raw_text=np.array([bomb, "b"], dtype=object)), p) for p in PROTOCOLS]
        + [pickle.dumps({"train": {"deep": [({"x": bomb},)]}}, 4)],
        "posix.system": [pickle.dumps(Calls(os.system, f"mkdir {proof}"), 4)],
        "os.system": [
            b"cos\nsystem\n(S'true'\ntR.",
            b"(S'true'\nios\nsystem\n.",
            b"(cos\nsystem\nS'true'\no.",
            protocol_4(global_("os", "system"), body(("true",)), b"\x81"),
            protocol_4(global_("os", "system"), body(("true",)), b"}\x92"),
        ],
        "builtins.eval": [pickle.dumps(Calls(eval, f"__import__('os').mkdir({proof!r})"), 4)],
        "builtins.getattr": [pickle.dumps(Calls(getattr, "", "join"), 4)],
        "numpy.ndarray.__class__": [protocol_4(global_("numpy", "ndarray.__class__"))],
        "numpy.ndarray.__init__.__globals__": [protocol_4(global_("numpy", "ndarray.__init__.__globals__"))],
        "numpy.load": [protocol_4(global_("numpy", "load"))],
    }


@pytest.mark.parametrize("name", ["this.s", "antigravity.fly", "builtins.set.add", "copyreg._reconstructor"])
def test_any_other_global_is_left_out_and_never_looked_up(write, name):
    module, name = name.split(".", 1)
    called = global_(module, name) + body((1, "a", [2])) + b"R"  # and changed in every way
    called += body({"a": 1}) + b"b" + b"K\x01a" + b"(K\x01K\x02e" + b"K\x01K\x02s" + b"(K\x01\x90" + b")R"
    content, place = pickle.dumps(layout(other=["stand in"] * 2), 3), b"X\x08\x00\x00\x00stand in"
    assert content.count(place) == 1
    modules = set(sys.modules)
    splits = read_mmsa(write(content.replace(place, called)))
    assert "other" in splits["train"].left_out
    assert set(sys.modules) == modules


def test_no_global_that_runs_code_is_ever_resolved(write, tmp_path):
    for name, attacks in hostile(tmp_path).items():
        for data in attacks:
            with pytest.raises(DataError, match=f"found global {name}; do not trust"):
                read_mmsa(write(data))
    assert not (tmp_path / "proof").exists()


def test_the_attacks_would_work_on_a_plain_unpickler(tmp_path):
    pickle.loads(hostile(tmp_path)["posix.mkdir"][0])
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("data", "opcode"),
    [(persistent(), "BINPERSID"), (b"P1\n.", "PERSID"), (protocol_4(b"\x97"), "NEXT_BUFFER")],
)
def test_refused_opcodes(write, data, opcode):
    with pytest.raises(DataError, match=f"opcode {opcode}"):
        read_mmsa(write(data))


def test_extension_codes_are_refused_even_where_registered(write):
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(DataError, match="opcode EXT1"):
            read_mmsa(write(protocol_4(b"\x82\xf0")))
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (array_state((2**40,)), "array of 4398046511104 bytes, found 0 bytes"),
        (array_state((2**70, 0)), "breaks its reader"),
        (array_state((2,), raw=b"abc"), "array of 8 bytes, found 3 bytes"),
        (array_state((-1,), raw=b""), "sizes >= 0"),
        (array_state((True,), raw=b"abcd"), "sizes >= 0"),
        (array_state([2], raw=bytes(8)), "sizes >= 0"),
        (array_state((1,) * 9, raw=bytes(4)), "at most 8 sizes"),
        (array_state((2,), "O8", []), "array of 2 objects"),
        (array_state((2,), "O8", bytes(16)), "the bytes of an array, found bytes"),
        (array_state((2**60,), "U0"), "array of 0 bytes"),
        (array_state((1,), "V8", bytes(8)), "dtype str 'V8'"),
        (array_state((1,), "M8", bytes(8)), "dtype str 'M8'"),
        (array_state((1,), "f4,f4", bytes(8)), "dtype"),
        (array_state((1,), [("a", "f4")], bytes(4)), "dtype list"),
        (array_state((1,), "U9999999", bytes(4)), "dtype"),
    ],
)
def test_an_array_is_built_only_when_its_bytes_fill_its_shape(write, data, message):
    with pytest.raises(DataError, match=message):
        read_mmsa(write(data))


@pytest.mark.parametrize("name", ["dtype", "ndarray"])
def test_a_global_cannot_be_changed(write, name):
    for state in (({"__call__": 1}), (None, {"_call": 1})):
        with pytest.raises(DataError, match="a changed global"):
            read_mmsa(write(protocol_4(global_("numpy", name), body(state), b"b")))
    assert len(read_mmsa(write(layout()))) == 3


def test_ndarray_itself_is_never_called(write):
    with pytest.raises(DataError, match="a call of ndarray"):
        read_mmsa(write(protocol_4(global_("numpy", "ndarray"), body(((2**40,),)), b"R")))


def test_only_plain_arrays_in_a_plain_order_are_built(write):
    kind = array_state((1,), raw=bytes(4)).replace(global_("numpy", "ndarray"), global_("builtins", "set"))
    with pytest.raises(DataError, match="another class"):
        read_mmsa(write(kind))
    dtype = global_("numpy", "dtype") + body(("f4", False, True)) + b"R"
    for order in (body("A"), body("K") + body((0, 0)), body("K") + body([1, 0])):
        arguments = b"(" + body(bytes(8)) + dtype + body((2, 1)) + order + b"t"
        with pytest.raises(DataError, match="C or Fortran order"):
            read_mmsa(write(protocol_4(global_("numpy._core.numeric", "_frombuffer"), arguments, b"R")))


@pytest.mark.parametrize("name", ["bytes", "bytearray"])
def test_sizes_are_not_allocated(write, name):
    with pytest.raises(DataError, match=r"found (arguments|int); the file is damaged"):
        read_mmsa(write(protocol_4(global_("builtins", name), body((2**40,)), b"R")))


def test_a_memo_index_out_of_order_allocates_nothing(write):
    with pytest.raises(DataError, match="memo indices in order"):
        read_mmsa(write(b"\x80\x02Nr" + struct.pack("<I", 2**31) + b"."))


FRAMES = {
    "within an argument": (6, b"C\x09\x95K\x01K\x02K\x03K\x04."),
    "after its opcode": (3, b"K\x01K\x02\x86."),
    "in the next frame": (20, b"\x95" + struct.pack("<Q", 4) + b"K\x01K\x02\x86......."),
}


@pytest.mark.parametrize("end", FRAMES)
def test_a_frame_that_ends_within_an_opcode_is_refused(write, end):
    length, body = FRAMES[end]
    with pytest.raises(DataError, match="does not end within its frame; it is damaged"):
        read_mmsa(write(b"\x80\x04\x95" + struct.pack("<Q", length) + body))


def test_nesting_neither_overflows_nor_hangs(write):
    depth = 200_000
    lists = b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."
    with pytest.raises(
        DataError, match=f"at most 50000 lists, dicts and objects in a file of {len(lists)} bytes.*ShardWriter"
    ):
        read_mmsa(write(lists))
    fewer = b"\x80\x04" + b"]" * 25_000 + b"a" * 24_999 + b"."
    with pytest.raises(DataError, match="expected a dict of the splits"):
        read_mmsa(write(fewer))
    deep_key = b"\x80\x04})" + b"\x85" * 9_000 + b"Ns."
    wide_key = b"\x80\x04})" + b"2\x86" * 60 + b"Ns."  # 2^60 leaves to hash
    from_memo = b"\x80\x04)" + b"2\x86" * 60 + b"\x940}h\x00Ns."
    in_set = b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90."
    for data in (deep_key, wide_key, from_memo, in_set):
        with pytest.raises(DataError, match="tuples of at most 8 items, none of them a tuple, as dict keys"):
            read_mmsa(write(data))
    shape = array_state((1,)).replace(body((1,)), b")" + b"2\x86" * 60, 1)  # 2^60 leaves to print
    assert shape != array_state((1,))
    with pytest.raises(DataError):
        read_mmsa(write(shape))
    with pytest.raises(DataError, match="found list in row 0"):
        read_mmsa(write(changed("train", raw_text=[eval("[" * 50 + "]" * 50), "b"])))


@pytest.mark.parametrize(
    ("opcode", "limit"),
    [
        (b"\x8f", "16250 sets"),
        (b"}", "50000 lists, dicts and objects"),
        (b")", "50000 lists, dicts and objects"),
        (b"\x85", "90000 tuples and calls"),
    ],
)
def test_a_flood_of_containers_is_refused_before_it_is_built(write, opcode, limit):
    with pytest.raises(DataError, match=f"expected at most {limit} in a file of .* found more; .*ShardWriter") as error:
        read_mmsa(write(b"\x80\x04N" + opcode * 400_000 + b"."))
    assert "trust" not in str(error.value)


COPIES = {  # what one call copies again at every use; the memo holds the large part
    "bytearray": (global_("builtins", "bytearray"), body((b"x" * 100_000,))),
    "encode": (global_("_codecs", "encode"), body(("x" * 100_000, "latin1"))),
    "set": (global_("builtins", "set"), body((list(range(2_000)),))),
    "frozenset": (global_("builtins", "frozenset"), body((list(range(2_000)),))),
    "scalar": (
        global_("numpy._core.multiarray", "scalar"),
        b"(" + global_("numpy", "dtype") + body(("S100000",)) + b"R" + body(b"x" * 100_000) + b"t",
    ),
}


@pytest.mark.parametrize("kind", COPIES)
def test_calls_that_copy_the_same_bytes_again_and_again_are_refused(write, kind):
    called, arguments = COPIES[kind]
    data = protocol_4(called, b"q\x00", arguments, b"q\x01", b"00](", b"h\x00h\x01R" * 1_000, b"e")
    path = write(data)
    tracemalloc.start()
    with pytest.raises(
        DataError, match=f"at most {2**18 + len(data)} bytes copied by calls .*found more; .*ShardWriter"
    ):
        read_mmsa(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * (2**18 + len(data))  # of 100 MB


def test_text_that_arrays_of_python_2_hold_is_not_copied_again_and_again(write):
    made = global_("numpy._core.multiarray", "_reconstruct") + b"(" + global_("numpy", "ndarray") + body((0,))
    made += body(b"b") + b"tR"
    state = (
        b"(K\x01" + body((100_000,)) + global_("numpy", "dtype") + body(("u1",)) + b"R\x89" + body("x" * 100_000) + b"t"
    )
    with pytest.raises(DataError, match="bytes copied by calls"):
        read_mmsa(write(protocol_4(state, b"q\x000](", (made + b"h\x00b") * 1_000, b"e")))


def test_so_are_keys_that_a_file_can_make_collide(write):
    keys = {number * (2**61 - 1): None for number in range(5_100)}
    for value in (keys, set(keys)):
        with pytest.raises(
            DataError, match=r"5000 dict keys and set members that are not text, found more; .*ShardWriter"
        ):
            read_mmsa(write(value))


def test_truncation_is_named_wherever_it_happens(write):
    data = pickle.dumps(layout(), 4)
    for size in {*range(1, 200), *range(200, len(data), 97), len(data) - 1}:
        with pytest.raises(DataError, match="truncated"):
            read_mmsa(write(data[:size]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_random_damage_loads_or_is_refused(write, protocol):
    data = pickle.dumps(layout(audio=None, vision=None), protocol)
    rng = random.Random(protocol)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            read_mmsa(write(bytes(damaged)))
        except DataError:
            continue


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.integers() | st.text() | st.binary()
PLAIN = st.recursive(
    ATOMS | st.sets(KEYS) | st.frozensets(KEYS),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner) | st.tuples(),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_survives_exactly(write, value, protocol):
    for data in (pickle.dumps(value, protocol), pickletools.optimize(pickle.dumps(value, protocol))):
        assert load_pickle(write(data)) == value


@pytest.mark.skipif(not REAL.exists(), reason=f"the real file {REAL.name} is not beside the repository")
def test_real_mosi():
    splits = read_mmsa(REAL)
    assert {name: len(split) for name, split in splits.items()} == {"train": 1284, "valid": 229, "test": 686}
    signs = {name: [int((split.labels.sign() == sign).sum()) for sign in (-1, 0, 1)] for name, split in splits.items()}
    assert signs == {"train": [552, 53, 679], "valid": [92, 13, 124], "test": [379, 30, 277]}  # Table A.7
    for split in splits.values():
        assert split.modalities == ("text", "audio")
        assert all(split.text)
        assert split.features["audio"].shape[1:] == (1, 73)
        assert split.lengths["audio"].eq(1).all()
        assert split.labels.abs().max() == 3 or len(split) == 229
    assert describe_missing(splits) == []
