"""Sound as frames: the log-mel spectrogram of a .wav file."""

import io
import warnings
from math import gcd
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from derl.data.split import DataError

SAMPLE_RATE = 16_000  # Hz; other rates are resampled
WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms, which is 100 frames per second
NUM_MELS = 80


def read_wav(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """Read a sound and return its log-mel frames; see :func:`log_mel`.

    Args:
        path: the file, or the name to show in an error if ``content`` is given.
        content: the bytes of the file.

    Raises:
        DataError: The file is missing, cut off or not a .wav file of PCM or floating-point samples.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that hold no sound
            warnings.filterwarnings("error", "Reached EOF prematurely")
            rate, samples = wavfile.read(path if content is None else io.BytesIO(content))
    except (OSError, ValueError, wavfile.WavFileWarning) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = f"convert it: ffmpeg -i FILE -ar {SAMPLE_RATE} -ac 1 sound.wav"
        remedy = "check the path" if isinstance(error, OSError) else remedy
        raise DataError(f"{path}: expected sound in a .wav file, found {reason}; {remedy}.") from error
    return log_mel(_in_one(samples).mean(axis=1) if samples.ndim == 2 else _in_one(samples), rate)


def log_mel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the log-mel spectrogram ``(T, 80)`` of one channel, 100 frames per second.

    Resamples to 16 kHz, takes a Hann window of 25 ms every 10 ms, and returns the decimal logarithm of the power in 80
    mel bands from 0 to 8 kHz (Slaney's scale and normalization, as in Whisper), at least -10.

    Args:
        samples: ``(n,)`` floating-point, in [-1, 1].
        rate: samples per second.

    Example:
        >>> second = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
        >>> frames = log_mel(second, 16_000)
        >>> frames.shape, int(frames[50].argmax())
        ((101, 80), 11)
    """
    if rate != SAMPLE_RATE:
        divisor = gcd(SAMPLE_RATE, rate)
        samples = resample_poly(samples, SAMPLE_RATE // divisor, rate // divisor)
    if len(samples) <= WINDOW // 2:  # too short to reflect at its ends
        return np.zeros((0, NUM_MELS), np.float32)
    frames = spectrogram(
        samples,
        window_function(WINDOW, "hann"),
        frame_length=WINDOW,
        hop_length=HOP,
        power=2.0,
        mel_filters=mel_filter_bank(
            WINDOW // 2 + 1, NUM_MELS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        ),
        log_mel="log10",
    )
    return np.ascontiguousarray(frames.T, dtype=np.float32)


def _in_one(samples: np.ndarray) -> np.ndarray:
    """Scale integer samples to [-1, 1]; 8-bit ones are unsigned."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples / np.float64(np.iinfo(samples.dtype).max + 1)
    return samples
