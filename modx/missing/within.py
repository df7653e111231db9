"""Drop elements within a modality: independently, in bursts, or in one block."""

import torch
from torch import Tensor

from .._checks import check
from ._draws import draw_uniform, number_column, rank_real, rate_column


def drop_frames(mask: Tensor, rate: float | Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Drop each real frame independently with probability ``rate`` (Li et al., DERL, eq. 1).

    One uniform number per element is drawn and compared with the rate. From the same generator state, the frames
    dropped at a lower rate are therefore a subset of those dropped at a higher rate.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: Probability in [0, 1]: a number, or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and kept.

    Raises:
        TypeError: ``mask`` is not a tensor, ``rate`` is neither a number nor a tensor, or ``generator`` is not a
            ``torch.Generator``.
        ValueError: ``mask`` is not bool ``(B, T)``, or ``rate`` is out of range or has the wrong shape or dtype.

    Example:
        >>> mask = torch.tensor([[True, True, False], [True, True, True]])
        >>> drop_frames(mask, torch.tensor([0.0, 1.0]))
        tensor([[ True,  True, False],
                [False, False, False]])
    """
    rates = rate_column("drop_frames", rate, mask)
    return mask & (
        draw_uniform("drop_frames", mask.shape, mask.device, generator) >= rates.to(mask.device, torch.float32)
    )


def drop_bursts(
    mask: Tensor, rate: float | Tensor, *, mean_length: float | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Drop real frames in bursts with the two-state channel of Gilbert (1960) and Elliott (1963).

    Frames are dropped in the bad state and kept in the good state. The Markov chain steps once per real frame and is
    stationary from the first frame, with

        P(bad -> good) = 1 / mean_length,    P(good -> bad) = rate / ((1 - rate) mean_length),

    so each real frame is dropped with probability ``rate`` and bursts last ``mean_length`` frames on average.
    ``mean_length = 1 / (1 - rate)`` drops frames independently. ``rate = 1`` drops all frames, whatever the length.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: Stationary probability of the bad state, in [0, 1]: a number, or ``(B,)`` with one per sample.
        mean_length: Mean length of a burst in real frames, at least 1 and at least ``rate / (1 - rate)``: a number,
            or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and kept.

    Raises:
        TypeError: As for ``drop_frames``.
        ValueError: As for ``drop_frames``, or ``mean_length`` is too short.

    Sources:
        E. N. Gilbert, Capacity of a burst-noise channel, Bell System Technical Journal 39 (1960).
        E. O. Elliott, Estimates of error rates for codes on burst-noise channels, ibid. 42 (1963).

    Example:
        >>> mask = torch.ones(1, 100_000, dtype=torch.bool)
        >>> keep = drop_bursts(mask, 0.3, mean_length=5, generator=torch.Generator().manual_seed(0))
        >>> starts = (keep[:, :-1] & ~keep[:, 1:]).sum()
        >>> abs((~keep).float().mean() - 0.3) < 0.02, abs((~keep).sum() / starts - 5) < 0.3
        (tensor(True), tensor(True))
    """
    rates = rate_column("drop_bursts", rate, mask)
    lengths = number_column("drop_bursts", mean_length, mask, "mean_length")
    wrong = lengths[~((lengths >= 1) & lengths.isfinite())].tolist()
    check(not wrong, "drop_bursts", "a finite mean_length >= 1", next(iter(wrong), None))
    good_to_bad, bad_to_bad = _transitions(rates, lengths)
    bad = _chain(
        draw_uniform("drop_bursts", mask.shape, mask.device, generator),
        *(p.to(mask.device, torch.float32) for p in (rates, good_to_bad, bad_to_bad)),
    )
    return mask & ~bad.gather(1, rank_real(mask).clamp(min=0))


def drop_block(mask: Tensor, rate: float | Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Drop one contiguous block of ``round(rate * n)`` of a sample's n real frames, at a uniformly random position.

    Padding between real frames does not interrupt a block. Halves round to even, as in Python's ``round``.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: Fraction in [0, 1]: a number, or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and kept.

    Raises:
        TypeError, ValueError: As for ``drop_frames``.

    Example:
        >>> mask = torch.tensor([[True, True, False, True, True], [True, True, False, False, False]])
        >>> drop_block(mask, 0.5).sum(1)
        tensor([2, 1])
    """
    rates = rate_column("drop_block", rate, mask)
    lengths = mask.sum(1, keepdim=True)
    sizes = (rates * lengths.cpu()).round().long().to(mask.device)
    latest = lengths - sizes
    uniform = draw_uniform("drop_block", lengths.shape, mask.device, generator)
    start = (uniform * (latest + 1)).long().minimum(latest)  # the product can round up to latest + 1
    rank = rank_real(mask)
    return mask & ((rank < start) | (rank >= start + sizes))


def _transitions(rates: Tensor, mean_length: Tensor) -> tuple[Tensor, Tensor]:
    """Return P(good -> bad) and P(bad -> bad) of the chain, each in the shape of ``rates``."""
    everything = rates == 1
    good_to_bad = torch.where(everything, 1.0, rates / ((1 - rates) * mean_length))
    excess = good_to_bad > 1 + 1e-5  # tolerates a rate on the boundary that was rounded to float32
    wrong = list(zip(rates[excess].tolist(), mean_length[excess].tolist(), strict=True))
    expected = "(rate, mean_length) with rate <= mean_length / (mean_length + 1) or rate = 1"
    check(not wrong, "drop_bursts", expected, wrong, "lower the rate or raise mean_length to rate / (1 - rate)")
    bad_to_bad = torch.where(everything, 1.0, 1 - 1 / mean_length)
    return good_to_bad, bad_to_bad


def _chain(uniform: Tensor, start: Tensor, good_to_bad: Tensor, bad_to_bad: Tensor) -> Tensor:
    """Run a two-state chain on ``(B, T)`` uniform draws without a loop over time; True is bad.

    A draw below both transition probabilities leads to bad from either state, and a draw above both leads to good. Only
    a draw between them depends on the past: it keeps the state if ``good_to_bad <= bad_to_bad``, and flips it
    otherwise. So each state is the last state that did not depend on the past, flipped once per step since if draws
    flip it.
    """
    low, high = torch.minimum(good_to_bad, bad_to_bad), torch.maximum(good_to_bad, bad_to_bad)
    step = torch.arange(uniform.shape[1], device=uniform.device).expand(uniform.shape)
    is_set = (step == 0) | (uniform < low) | (uniform >= high)
    set_to = uniform < torch.where(step == 0, start, low)
    last_set = torch.where(is_set, step, 0).cummax(1).values
    flips = (good_to_bad > bad_to_bad) & ((step - last_set) % 2 == 1)
    return set_to.gather(1, last_set) ^ flips
