"""Log-mel frames against a filter bank computed here, and every encoding of sound."""

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import stft

from derl.data.audio import log_mel, read_wav
from derl.data.split import DataError

TONE = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)


def slaney(frequency):
    """Mel by Slaney's Auditory Toolbox: linear to 1 kHz, logarithmic above."""
    return np.where(
        frequency < 1000, 3 * frequency / 200, 15 + 27 * np.log(np.maximum(frequency, 1) / 1000) / np.log(6.4)
    )


def test_the_frames_are_log_power_in_slaneys_bands():
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(8000) * 0.1
    _, _, spectrum = stft(
        np.pad(sound, 200, mode="reflect"), window="hann", nperseg=400, noverlap=240, boundary=None, padded=False
    )
    power = np.abs(spectrum * 200) ** 2  # SciPy divides by the window's sum, 200
    edges = np.interp(np.linspace(0, slaney(8000.0), 82), slaney(np.arange(0, 8001.0)), np.arange(0, 8001.0))
    bins = np.linspace(0, 8000, 201)
    up = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    bands = np.maximum(0, np.minimum(up, down)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    expected = np.log10(np.maximum(bands @ power, 1e-10)).T
    np.testing.assert_allclose(log_mel(sound, 16_000), expected[:51], atol=0.02)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_any_rate_gives_a_hundred_frames_per_second_and_the_same_peak(rate):
    sound = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    frames = log_mel(sound, rate)
    assert frames.shape == (101, 80)
    assert abs(int(frames[50].argmax()) - int(log_mel(TONE, 16_000)[50].argmax())) <= 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_every_encoding_and_two_channels_give_the_same_frames(tmp_path, dtype):
    scale = {np.uint8: 127, np.int16: 32767, np.int32: 2**31 - 1, np.float32: 1}[dtype]
    samples = (TONE * scale + (128 if dtype is np.uint8 else 0)).astype(dtype)
    wavfile.write(tmp_path / "one.wav", 16_000, samples)
    wavfile.write(tmp_path / "two.wav", 16_000, np.stack([samples, samples], axis=1))
    expected = log_mel(TONE, 16_000)
    loudest = expected[50].argmax()
    for name in ("one", "two"):
        frames = read_wav(tmp_path / f"{name}.wav")
        assert frames.shape == (101, 80)
        np.testing.assert_allclose(frames[:, loudest], expected[:, loudest], atol=0.02)


def test_a_sound_of_a_few_samples_has_no_frames():
    assert log_mel(np.zeros(200), 16_000).shape == (0, 80)
    assert log_mel(np.zeros(201), 16_000).shape == (2, 80)


def test_a_file_that_is_no_sound_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"ID3 not a wav file")
    with pytest.raises(DataError, match=r"a\.wav: expected sound in a \.wav file, found .*ffmpeg"):
        read_wav(tmp_path / "a.wav")
