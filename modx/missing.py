"""Which elements of a sample go missing, and how their absence is written into its values.

A mask is bool ``(B, T)``, True where an element (a frame, a word piece) is real and observed. Every function
that loses something returns a keep mask of the same shape, True where an element is real and survived, and
leaves its inputs alone; ``erase`` applies it. Padding is False before and after, and never counts towards a rate.

The same state of ``generator`` gives the same losses on any device the masks are on: draws are made on the
generator's own device.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor


def drop_frames(mask: Tensor, rate: float | Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Lose every real frame independently with probability ``rate`` (Li et al., DERL, eq. 1).

    One uniform number is drawn per element and compared with the rate, so from the same generator state the
    frames lost at a lower rate are a subset of those lost at a higher one.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: probability in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and survived.

    Raises:
        ValueError: if ``mask`` is not bool ``(B, T)``, or ``rate`` is out of range or of another shape.

    Example:
        >>> mask = torch.tensor([[True, True, False], [True, True, True]])
        >>> drop_frames(mask, torch.tensor([0.0, 1.0]))
        tensor([[ True,  True, False],
                [False, False, False]])
    """
    _check_mask("drop_frames", "mask", mask)
    rates = _rate_column("drop_frames", rate, mask)
    return mask & (_uniform(mask.shape, mask.device, generator) >= rates.to(mask.device, torch.float32))


def drop_bursts(
    mask: Tensor, rate: float | Tensor, *, mean_length: float, generator: torch.Generator | None = None
) -> Tensor:
    """Lose real frames in bursts, by the two-state channel of Gilbert (1960) and Elliott (1963).

    Frames are lost in the bad state and survive in the good one. The chain steps once per real frame and is
    stationary from the first, with

        P(bad -> good) = 1 / mean_length,    P(good -> bad) = rate / ((1 - rate) mean_length),

    so each real frame is lost with probability ``rate`` and bursts last ``mean_length`` frames on average.
    ``mean_length = 1 / (1 - rate)`` is independent loss; ``rate = 1`` loses everything, whatever the length.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: stationary probability of loss in [0, 1], one for all samples or ``(B,)``.
        mean_length: mean length of a burst in real frames, at least 1 and at least ``rate / (1 - rate)``.
        generator: source of the draws; None uses PyTorch's default one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and survived.

    Raises:
        ValueError: as for ``drop_frames``, or if no chain has this rate and mean length.

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
    _check_mask("drop_bursts", "mask", mask)
    rates = _rate_column("drop_bursts", rate, mask)
    good_to_bad, bad_to_bad = _transitions(rates, mean_length)
    bad = _chain(
        _uniform(mask.shape, mask.device, generator),
        *(p.to(mask.device, torch.float32) for p in (rates, good_to_bad, bad_to_bad)),
    )
    return mask & ~bad.gather(1, _rank(mask).clamp(min=0))


def drop_block(mask: Tensor, rate: float | Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Lose one contiguous block of ``round(rate * n)`` of a sample's n real frames, placed uniformly.

    Contiguous means along the real frames: padding between them is stepped over. Halves round to even, as
    Python's ``round`` does.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: fraction in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and survived.

    Raises:
        ValueError: as for ``drop_frames``.

    Example:
        >>> mask = torch.tensor([[True, True, False, True, True], [True, True, False, False, False]])
        >>> drop_block(mask, 0.5).sum(1)
        tensor([2, 1])
    """
    _check_mask("drop_block", "mask", mask)
    rates = _rate_column("drop_block", rate, mask)
    lengths = mask.sum(1, keepdim=True)
    sizes = (rates * lengths.cpu()).round().long().to(mask.device)
    latest = lengths - sizes
    uniform = _uniform(lengths.shape, mask.device, generator)
    start = (uniform * (latest + 1)).long().minimum(latest)  # a product can round up to latest + 1
    rank = _rank(mask)
    return mask & ((rank < start) | (rank >= start + sizes))


def drop_modalities(
    masks: Mapping[str, Tensor],
    rate: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    keep_one: bool = True,
) -> dict[str, Tensor]:
    """Lose every modality of a sample as a whole, independently with probability ``rate``.

    One uniform number is drawn per sample and modality, in the mapping's order. With ``keep_one``, a sample that
    would lose all it has keeps the modality with the largest number, a uniform choice; losses at a lower rate
    are therefore a subset of those at a higher one here too. A modality without a real element in a sample is
    already missing there and cannot be the one kept.

    Args:
        masks: modality name -> ``(B, T_m)`` bool, True where an element is real.
        rate: probability in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.
        keep_one: leave every sample at least one of the modalities it has.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and survived.

    Raises:
        ValueError: if there is no modality, a mask is not bool ``(B, T_m)`` or differs in B, or as for
            ``drop_frames``.

    Example:
        >>> masks = {"text": torch.ones(4, 3, dtype=torch.bool), "audio": torch.ones(4, 5, dtype=torch.bool)}
        >>> keep = drop_modalities(masks, 1.0)
        >>> keep["text"].any(1) ^ keep["audio"].any(1)
        tensor([True, True, True, True])
    """
    first = _check_masks("drop_modalities", masks)
    rates = _rate_column("drop_modalities", rate, first)
    uniform = _uniform(torch.Size((len(first), len(masks))), first.device, generator)
    survives = uniform >= rates.to(first.device, torch.float32)
    if keep_one:
        present = torch.stack([mask.any(1) for mask in masks.values()], 1)
        last = uniform.masked_fill(~present, -1.0).argmax(1, keepdim=True)
        loses_all = ~(survives & present).any(1, keepdim=True)
        survives = survives | (loses_all & (torch.arange(len(masks), device=first.device) == last))
    return {name: mask & survives[:, m, None] for m, (name, mask) in enumerate(masks.items())}


def keep_modalities(masks: Mapping[str, Tensor], available: Collection[str]) -> dict[str, Tensor]:
    """Lose all modalities except ``available``, in every sample: a row of a table by available modality.

    Args:
        masks: modality name -> ``(B, T_m)`` bool, True where an element is real.
        available: names of the modalities that survive; may be empty.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and survived.

    Raises:
        ValueError: if ``available`` is one string or names a modality that ``masks`` lacks, or as for
            ``drop_modalities``.

    Example:
        >>> masks = {"text": torch.tensor([[True, False]]), "audio": torch.tensor([[True, True]])}
        >>> keep_modalities(masks, ["text"])
        {'text': tensor([[ True, False]]), 'audio': tensor([[False, False]])}
    """
    _check_masks("keep_modalities", masks)
    if isinstance(available, str):
        raise ValueError(
            f"keep_modalities expected a collection of modality names as available, got the string "
            f"{available!r}; pass ({available!r},)."
        )
    unknown = tuple(name for name in available if name not in masks)
    if unknown:
        raise ValueError(
            f"keep_modalities expected available to name modalities out of {tuple(masks)}, got unknown "
            f"{unknown}; check the spelling or add their masks."
        )
    return {name: mask & (name in available) for name, mask in masks.items()}


def erase(
    values: Tensor,
    keep: Tensor,
    *,
    unk_token_id: int | None = None,
    special_token_ids: Collection[int] = (),
) -> Tensor:
    """Overwrite what a keep mask lost: features with zeros, token ids with the unknown token.

    Lost content is selected away, never multiplied, so its NaN or infinity cannot reach the result or a
    gradient. Where ``keep`` is False for padding, padding is overwritten as well; naming [PAD] among
    ``special_token_ids`` leaves it in place.

    Args:
        values: ``(B, T, D)`` floating features, or ``(B, T)`` integer token ids.
        keep: ``(B, T)`` bool, True where an element is kept.
        unk_token_id: the id that replaces a lost token; required for token ids, unused for features.
        special_token_ids: ids that stay even where ``keep`` is False, such as [CLS], [SEP] and [PAD].

    Returns:
        A new tensor with the shape and dtype of ``values``.

    Raises:
        ValueError: if ``keep`` is not bool ``(B, T)``, ``values`` is neither of the two kinds or of another shape,
            or token ids come without ``unk_token_id``.

    Example:
        >>> keep = torch.tensor([[False, True, False, False]])
        >>> erase(torch.tensor([[101, 2023, 2003, 102]]), keep, unk_token_id=100, special_token_ids=(101, 102))
        tensor([[ 101, 2023,  100,  102]])
        >>> erase(torch.full((1, 4, 1), torch.nan), torch.zeros_like(keep)).flatten()
        tensor([0., 0., 0., 0.])
    """
    _check_mask("erase", "keep", keep)
    is_features = values.is_floating_point()
    is_ids = not is_features and not values.is_complex() and values.dtype != torch.bool
    if not ((is_features and values.ndim == 3) or (is_ids and values.ndim == 2)):
        raise ValueError(
            f"erase expected values to be floating (B, T, D) or integer token ids (B, T), got {values.dtype} "
            f"{tuple(values.shape)}; reshape or convert them first."
        )
    if values.shape[:2] != keep.shape:
        raise ValueError(
            f"erase expected keep to have the (B, T) of values, {tuple(values.shape[:2])}, got "
            f"{tuple(keep.shape)}; pass the keep mask made from the mask of these values."
        )
    if is_features:
        return torch.where(keep.unsqueeze(-1), values, 0.0)
    if unk_token_id is None:
        raise ValueError(
            "erase expected unk_token_id for integer token ids, got None; pass the id of the tokenizer's unknown token."
        )
    for token_id in special_token_ids:
        keep = keep | (values == token_id)
    return torch.where(keep, values, unk_token_id)


def _transitions(rates: Tensor, mean_length: float) -> tuple[Tensor, Tensor]:
    """Return P(good -> bad) and P(bad -> bad) of the chain, each shaped as ``rates``."""
    if not 1 <= mean_length < float("inf"):
        raise ValueError(
            f"drop_bursts expected mean_length to be a finite number of frames, at least 1, got {mean_length}; "
            "a burst has at least one frame, and rate=1 loses everything."
        )
    everything = rates == 1
    good_to_bad = torch.where(everything, 1.0, rates / ((1 - rates) * mean_length))
    infeasible = good_to_bad > 1 + 1e-5  # room for a rate on the boundary that was rounded to float32
    if infeasible.any():
        worst = rates[infeasible].max().item()
        raise ValueError(
            f"drop_bursts expected rate <= mean_length / (mean_length + 1) = "
            f"{mean_length / (mean_length + 1):.4g} (or exactly 1) for mean_length={mean_length}, got "
            f"{worst:.4g}; lower the rate or raise mean_length to {worst / (1 - worst):.4g} or more."
        )
    bad_to_bad = torch.where(everything, 1.0, 1 - 1 / mean_length)
    return good_to_bad, bad_to_bad


def _chain(uniform: Tensor, start: Tensor, good_to_bad: Tensor, bad_to_bad: Tensor) -> Tensor:
    """Run a two-state chain on ``(B, T)`` uniform draws without stepping through time; True is bad.

    A draw below both transition probabilities leads to bad from either state, one above both to good. Only a
    draw between them depends on the past: it holds the state if ``good_to_bad <= bad_to_bad``, and flips it
    otherwise. So each state is the last one set outright, flipped by the parity of the steps since.
    """
    low, high = torch.minimum(good_to_bad, bad_to_bad), torch.maximum(good_to_bad, bad_to_bad)
    step = torch.arange(uniform.shape[1], device=uniform.device).expand(uniform.shape)
    is_set = (step == 0) | (uniform < low) | (uniform >= high)
    set_to = uniform < torch.where(step == 0, start, low)
    last_set = torch.where(is_set, step, 0).cummax(1).values
    flips = (good_to_bad > bad_to_bad) & ((step - last_set) % 2 == 1)
    return set_to.gather(1, last_set) ^ flips


def _rank(mask: Tensor) -> Tensor:
    """Count real elements along each row: the k-th real one, from 0, has rank k."""
    return mask.cumsum(1) - 1


def _uniform(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw from [0, 1) where the generator lives, and move the draws to ``device``."""
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source, dtype=torch.float32).to(device)


def _rate_column(caller: str, rate: float | Tensor, mask: Tensor) -> Tensor:
    """Validate a rate and return it as a ``(B, 1)`` float64 column on the CPU."""
    rates = torch.as_tensor(rate, dtype=torch.float64, device="cpu").detach()
    if rates.ndim and rates.shape != mask.shape[:1]:
        raise ValueError(
            f"{caller} expected rate to be a number or a tensor of shape (B,) = ({len(mask)},), got shape "
            f"{tuple(rates.shape)}; pass one rate for all samples or one for each."
        )
    valid = (rates >= 0) & (rates <= 1)
    if not valid.all():
        raise ValueError(
            f"{caller} expected rate in [0, 1], got {rates[~valid].flatten()[0].item():.4g}; a rate is a "
            "probability, not a percentage."
        )
    return rates.expand(len(mask)).unsqueeze(1)


def _check_masks(caller: str, masks: Mapping[str, Tensor]) -> Tensor:
    """Validate the masks of all modalities and return the first."""
    if not masks:
        raise ValueError(f"{caller} expected masks of at least one modality, got none; pass name -> mask.")
    for name, mask in masks.items():
        _check_mask(caller, f"masks[{name!r}]", mask)
    sizes = {name: len(mask) for name, mask in masks.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"{caller} expected masks with one batch size, got {sizes}; give every modality all samples, with "
            "an all-False row where a sample lacks it."
        )
    return next(iter(masks.values()))


def _check_mask(caller: str, name: str, mask: Tensor) -> None:
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise ValueError(
            f"{caller} expected {name} to be bool of shape (B, T), got {mask.dtype} {tuple(mask.shape)}; "
            "compare it, as in ``attention_mask != 0``, and add a batch axis if it lacks one."
        )
