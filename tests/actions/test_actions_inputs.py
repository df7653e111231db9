"""What a model sees of a clip: interpolation, what is observed, augmentation, the published masks, the front end."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from actions.augment import _rotation, draw_change
from actions.clips import MODALITIES
from actions.conditions import CONDITIONS, LOST, PUBLISHED, PublishedMasks, keep_masks
from actions.frontend import VELOCITY, FrontEnd, reduced
from actions.recordings import HIPS, SPINE, Scale
from actions.resample import resample
from modx.missing import drop

ROWS = torch.arange(6)


def generator():
    return torch.Generator().manual_seed(0)


def test_values_are_numpys_interpolation_of_the_frames_that_were_kept():
    frames, keep = torch.randn(8, 30, 2), torch.rand(8, 30) > 0.7
    times = torch.linspace(0, 29, 41).expand(8, -1)
    values, _ = resample(frames, keep, times)
    for row in range(8):
        kept = keep[row].nonzero().squeeze(1)
        for channel in range(2):
            expected = np.interp(times[row], kept, frames[row, kept, channel])
            np.testing.assert_allclose(values[row, :, channel], expected, atol=1e-5)


@pytest.mark.parametrize("length", [12, 41, 90])
def test_a_time_is_observed_where_a_kept_frame_is_within_half_a_frame_or_half_a_step(length):
    keep = torch.rand(8, 30) > 0.7
    times = torch.linspace(0, 29, length).expand(8, -1)
    _, observed = resample(torch.randn(8, 30, 1), keep, times)
    reach = max(1.0, 29 / (length - 1)) / 2
    for row in range(8):
        for place, time in enumerate(times[row].tolist()):
            gap = min((abs(time - at) for at in keep[row].nonzero().flatten().tolist()), default=math.inf)
            if abs(gap - reach) > 1e-3:  # not on the edge
                assert observed[row, place] == (gap < reach)


def test_every_kept_frame_is_observed_somewhere():
    for place in range(125):
        keep = torch.arange(125)[None] == place
        _, observed = resample(torch.zeros(1, 125, 1), keep, torch.linspace(0, 124, 80)[None])
        assert observed.any()


def test_without_a_kept_frame_values_are_zeros_and_nothing_is_observed():
    values, observed = resample(torch.full((2, 9, 3), torch.nan), torch.zeros(2, 9, dtype=torch.bool), torch.rand(2, 5))
    assert not values.any()
    assert not observed.any()


@pytest.mark.parametrize("condition", [*CONDITIONS, "block 1.0"])
def test_what_is_in_a_dropped_frame_changes_nothing(recordings, condition):
    keep = keep_masks(recordings.everything(ROWS), condition, generator())
    change = draw_change(MODALITIES, len(ROWS), generator())
    before = recordings.see(ROWS, keep, change)
    for name in MODALITIES:
        recordings.frames[name] = recordings.frames[name].masked_fill(~keep[name][..., None], torch.nan)
    after = recordings.see(ROWS, keep, change)
    for name in MODALITIES:
        assert torch.equal(before.values[name], after.values[name])
        assert torch.equal(before.observed[name], after.observed[name])


def test_dropped_frames_are_not_observed_and_complete_clips_are_observed_throughout(recordings):
    masks = recordings.everything(ROWS)
    assert all(mask.all() for mask in recordings.see(ROWS, masks).observed.values())
    dropped = recordings.see(ROWS, drop(masks, 0.8, "block", generator=generator()))
    for name, observed in dropped.observed.items():
        assert 0.1 < observed.float().mean() < 0.35, name
    gone = recordings.see(ROWS, keep_masks(masks, "gyroscope+skeleton", generator()))
    assert not gone.observed["accelerometer"].any()
    assert gone.observed["skeleton"].all()


def test_a_skeleton_does_not_change_with_the_place_or_the_size_of_a_body(clips, recordings):
    moved = type(clips)(clips.action, clips.subject, clips.inertial, [3 * clip + 5 for clip in clips.skeleton])
    other = type(recordings)(moved, np.arange(6))
    masks = recordings.everything(ROWS)
    before, after = (each.see(ROWS, masks).values["skeleton"] for each in (recordings, other))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)
    joints = before.unflatten(2, (-1, 3))
    assert not joints[:, :, HIPS].any()
    torch.testing.assert_close(joints[:, :, SPINE].norm(dim=-1).median(), torch.tensor(1.0), atol=0.1, rtol=0)


def test_training_clips_are_standardized(recordings, modality):
    inputs = Scale.fit(recordings).apply(recordings.see(ROWS, recordings.everything(ROWS)))
    flat = inputs.values[modality].flatten(0, 1)
    assert flat.mean(0).abs().max() < 0.05
    assert flat.std(0).max() < 1.05


def test_rotations_are_scipys():
    angles = torch.randn(5, 3, dtype=torch.float64)
    expected = Rotation.from_euler("XYZ", angles).as_matrix()
    np.testing.assert_allclose(_rotation(angles.float()), expected, atol=1e-5)


def test_augmentation_changes_both_sensors_of_the_inertial_unit_by_one_rotation():
    change = draw_change(MODALITIES, 4, generator())
    change = change._replace(scales=dict.fromkeys(MODALITIES, torch.ones(4, 1, 1)))
    values = torch.randn(4, 500, 3)
    turned = {name: change.apply(name, values) for name in MODALITIES}
    torch.testing.assert_close(turned["accelerometer"], turned["gyroscope"])
    rotated = (turned["skeleton"] - values @ change.turns["skeleton"]).std()
    assert rotated.item() == pytest.approx(0.03, rel=0.1)


def test_a_skeleton_turns_about_the_vertical_axis_alone():
    turns = draw_change(MODALITIES, 4, generator()).turns["skeleton"]
    torch.testing.assert_close(turns[:, 1], torch.tensor([0.0, 1.0, 0.0]).expand(4, 3))


@pytest.mark.parametrize("condition", ["", "audio", "frames half", "complete 0.5", "holes 0.5"])
def test_an_unknown_condition_is_named(recordings, condition):
    with pytest.raises(ValueError, match="keep_masks expected condition"):
        keep_masks(recordings.everything(ROWS), condition, generator())


@pytest.fixture
def published(recordings, tmp_path):
    lengths = recordings.lengths["skeleton"]
    keep = {f"keep_{rate}": np.zeros((9, 40), bool) for rate in (10, 30, 50)}
    for rate in (10, 30, 50):
        for row, length in enumerate(lengths.tolist()):
            keep[f"keep_{rate}"][row + 3, round(length * rate / 100) : length] = True
    np.savez(tmp_path / "masks.npz", **keep)
    return PublishedMasks(tmp_path / "masks.npz", np.arange(3, 9))


@pytest.mark.parametrize("condition", PUBLISHED)
def test_published_masks_drop_frames_of_one_modality_and_align_the_inertial_unit(published, recordings, condition):
    masks = recordings.everything(ROWS)
    keep = published.keep_masks(masks, condition)
    for row in range(6):
        length, last = recordings.lengths["skeleton"][row].item(), recordings.lengths["gyroscope"][row].item() - 1
        first = round(length * int(condition.split()[2]) / 100) if condition in LOST else 0
        joints = [place >= first if "skeleton" in condition else True for place in range(length)]
        sensors = [place >= first if "inertial" in condition else True for place in range(length)]
        if "no skeleton" in condition:
            joints = [False] * length
        if "no inertial" in condition:
            sensors = [False] * length
        nearest = {round(place * last / (length - 1)) for place in range(length) if sensors[place]}
        assert keep["skeleton"][row, :length].tolist() == joints
        assert {*keep["gyroscope"][row].nonzero().flatten().tolist()} == nearest
        assert torch.equal(keep["gyroscope"], keep["accelerometer"])


def test_published_masks_of_another_file_are_named(tmp_path):
    np.savez(tmp_path / "masks.npz", keep_10=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"expected keep_10, keep_30 and keep_50 .* no \['keep_30', 'keep_50'\]"):
        PublishedMasks(tmp_path / "masks.npz", np.arange(1))


def test_the_front_end_is_a_plain_loop():
    front_end = FrontEnd(3, 4).double()
    for norm in front_end.norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    values, observed = torch.randn(2, 11, 3, dtype=torch.float64), torch.rand(2, 11) > 0.8
    features, seen = front_end(values, observed)
    for row in range(2):
        x = values[row].numpy()
        velocities = VELOCITY * np.array([x[max(t, 0)] - x[max(t - 1, 0)] for t in range(len(x))])
        x, flags = np.concatenate([x, velocities, observed[row, :, None].numpy()], 1), observed[row].numpy()
        for convolution, norm in zip(front_end.convolutions, front_end.norms, strict=True):
            weight, bias = convolution.weight.detach().numpy(), convolution.bias.detach().numpy()
            outputs, kept = [], []
            for t in range(0, len(x), 2):
                window = [(k, t + k - 2) for k in range(5) if 0 <= t + k - 2 < len(x)]
                outputs.append(bias + sum(weight[:, :, k] @ x[at] for k, at in window))
                kept.append(any(flags[at] for _, at in window))
            x, flags = np.array(outputs), kept
            x = (x - x.mean()) / np.sqrt(x.var() + norm.eps)
            x = x * norm.weight.detach().numpy() + norm.bias.detach().numpy()
            x = np.array([[v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in frame] for frame in x])
        np.testing.assert_allclose(features[row].detach().numpy(), x, atol=1e-10)
        assert seen[row].tolist() == flags
    assert features.shape[1] == reduced(11)
