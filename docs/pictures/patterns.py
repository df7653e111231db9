"""What each missing pattern drops from the same three samples, drawn with the functions themselves."""

import torch

from modx.missing import PATTERNS, drop

from .canvas import Canvas

LENGTHS = {"text": 12, "audio": 40, "vision": 24}
RATE = 0.4
NUM_SAMPLES = 3
MIXTURE = "frames+modalities"


def draw() -> dict[str, Canvas]:
    """Draw every pattern and a mixture, by the name of the file."""
    return {pattern.replace("+", "_"): picture(pattern) for pattern in (*PATTERNS, MIXTURE)}


def picture(pattern: str) -> Canvas:
    """Draw what one pattern keeps at ``RATE``; the samples' draws are the same for every pattern."""
    masks = {name: torch.ones(NUM_SAMPLES, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    keep = drop(masks, RATE, pattern, generator=torch.Generator().manual_seed(14))
    canvas = Canvas(480, 50 * NUM_SAMPLES - 6, f"{pattern} at rate {RATE}: three samples of three modalities")
    for sample in range(NUM_SAMPLES):
        for row, name in enumerate(LENGTHS):
            y = 50 * sample + 14 * row + 2
            canvas.text(52, y + 5, name, "small right")
            canvas.strip(60, y, 414, 10, keep[name][sample].tolist())
    return canvas
