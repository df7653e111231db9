"""Self-MM: its summaries, its losses and the labels that it generates, against packed LSTMs and loops in float64."""

import math

import pytest
import torch

from baselines.self_mm import SelfMM, SelfMmParts

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}
DIMS = {"text": 4, "audio": 3, "vision": 2}
NUM_SAMPLES = 12


def make(num_outputs=1):
    return SelfMM(WIDTHS, LENGTHS, num_outputs, num_samples=NUM_SAMPLES, dim=5, dims=DIMS).double()


def test_it_has_the_published_number_of_parameters():
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = SelfMM(widths, lengths, 1, num_samples=1284)
    assert sum(part.numel() for part in core.parameters()) == 159_332


def test_fusion_reads_the_first_real_token_the_final_states_and_zeros_for_what_is_absent():
    core, seen = make().eval(), []
    core.fused.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    features = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.ones(2, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["text"][1, :2] = masks["audio"][0] = False
    masks["vision"][1, [0, 3]] = False
    core(features, masks)
    whole = torch.ones(1, 8, dtype=torch.bool)
    rows = [
        [torch.zeros(3), features["text"][0, 0], core.recurrent["vision"](features["vision"][:1], whole)[0]],
        [
            core.recurrent["audio"](features["audio"][1:], torch.ones(1, 9, dtype=torch.bool))[0],
            features["text"][1, 2],
            core.recurrent["vision"](features["vision"][1:, [1, 2, 4, 5, 6, 7]], whole[:, :6])[0],
        ],
    ]
    torch.testing.assert_close(seen[0], torch.stack([torch.cat(row) for row in rows]))


def draw_steps(num_outputs):
    """Batches of four epochs over twelve samples of which some lack a modality, with what the model made of them."""
    torch.manual_seed(0)
    labels = torch.randn(NUM_SAMPLES, num_outputs).double()
    labels[3] = 0
    for epoch in range(4):
        for index in torch.randperm(NUM_SAMPLES).split(5):
            present = {name: torch.rand(len(index)) < 0.8 for name in DIMS}
            if epoch == 0 and index[0] == 0:
                present["vision"][0] = False
            fused = torch.randn(len(index), 5).double()
            own = {name: torch.randn(len(index), dim).double() for name, dim in DIMS.items()}
            guesses = {name: torch.randn(len(index), num_outputs).double() for name in DIMS}
            yield SelfMmParts(fused, own, guesses, present), labels[index], index


class Loop:
    """The paper's label generation for one output, sample by sample, in lists and floats."""

    def __init__(self):
        self.seen = {task: {} for task in ("fused", *DIMS)}  # sample -> (features, label, visits)

    def distance(self, task, features):
        centers = []
        for sign in (1, -1):
            rows = [row for row, label, _ in self.seen[task].values() if sign * label > 0]
            if not rows:
                return None
            centers.append([sum(unit) / len(rows) for unit in zip(*rows, strict=True)])
        near, far = (math.dist(features, center) for center in centers)
        return (far - near) / (near + 1e-8)

    def step(self, parts, labels, index):
        """Return the loss, and learn from the batch."""
        loss, changes = 0.0, []
        for name in DIMS:
            terms = []
            for row, sample in enumerate(index.tolist()):
                if not parts.present[name][row]:
                    continue
                label, features = labels[row].item(), parts.own[name][row].tolist()
                _, old, visits = self.seen[name].get(sample, (None, label, 0))
                terms.append(math.tanh(abs(old - label)) * abs(parts.guesses[name][row].item() - old))
                moved = label
                if visits:
                    a_s, a_m = self.distance(name, features), self.distance("fused", parts.fused[row].tolist())
                    new = label
                    if a_s is not None and a_m is not None:
                        new = 0.5 * a_s / (a_m + 1e-8) * label + 0.5 * (label + a_s - a_m)
                    epoch = visits + 1
                    moved = (epoch - 1) / (epoch + 1) * old + 2 / (epoch + 1) * min(max(new, -3), 3)
                changes.append((name, sample, (features, moved, visits + 1)))
            loss += sum(terms) / max(len(terms), 1)
        for row, sample in enumerate(index.tolist()):
            if any(parts.present[name][row] for name in DIMS):
                changes.append(("fused", sample, (parts.fused[row].tolist(), labels[row].item(), 1)))
        for task, sample, entry in changes:
            self.seen[task][sample] = entry
        return loss


def test_labels_and_losses_are_those_of_the_paper():
    core, loop, found = make(), Loop(), []
    for parts, labels, index in draw_steps(1):
        found.append(core.losses(parts, labels, index)["unimodal"].item())
        core.remember(parts, labels, index)
        assert found[-1] == pytest.approx(loop.step(parts, labels, index))
    assert found[0] == 0  # all labels are those of the whole sample
    assert found[-1] > 0
    clamped = False
    for name, memory in core.memories.items():
        for sample, (features, label, visits) in loop.seen[name].items():
            assert memory.features[sample].tolist() == features
            assert memory.labels[sample].item() == pytest.approx(label)
            assert memory.visits[sample] == visits
            clamped |= 2.4 < abs(label) < 3
    assert clamped


def test_outputs_are_learned_apart():
    together, apart = make(2), [make(), make()]
    for parts, labels, index in draw_steps(2):
        losses = [together.losses(parts, labels, index)["unimodal"]]
        together.remember(parts, labels, index)
        for output, core in enumerate(apart):
            own = {name: guess[:, [output]] for name, guess in parts.guesses.items()}
            losses.append(core.losses(parts._replace(guesses=own), labels[:, [output]], index)["unimodal"] / 2)
            core.remember(parts._replace(guesses=own), labels[:, [output]], index)
        torch.testing.assert_close(losses[0], losses[1] + losses[2])
    for name, memory in together.memories.items():
        torch.testing.assert_close(memory.labels, torch.cat([core.memories[name].labels for core in apart], dim=1))


def test_a_modality_that_was_never_there_for_one_sign_keeps_the_labels_of_the_sample():
    core, index, labels = make(), torch.arange(5), torch.tensor([[1.0], [-1.0], [2.0], [-2.0], [1.0]]).double()
    parts, _, _ = next(draw_steps(1))
    present = {name: torch.ones(5, dtype=torch.bool) for name in DIMS} | {"vision": labels[:, 0] > 0}
    for _ in range(2):
        core.remember(parts._replace(present=present), labels, index)
    assert core.memories["vision"].labels[[0, 2, 4], 0].tolist() == [1, 2, 1]
    assert not torch.equal(core.memories["text"].labels[:5], labels)


def test_without_an_index_labels_are_generated_and_nothing_is_stored():
    core = make()
    for step in draw_steps(1):
        core.remember(*step)
    before = {name: part.clone() for name, part in core.named_buffers()}
    parts, labels, _ = step
    found = core.losses(parts, labels)["unimodal"]
    assert all(torch.equal(part, before[name]) for name, part in core.named_buffers())
    core.forget(NUM_SAMPLES)
    assert not core.losses(parts, labels)["unimodal"]
    assert found > 0


def test_a_sample_that_is_in_a_batch_twice_is_visited_once():
    core = make()
    parts, labels, _ = next(draw_steps(1))
    core.remember(parts, labels, torch.tensor([7, 7, 7, 2, 2]))
    assert core.memory.visits.sum() == 2


def test_a_place_beyond_the_training_split_is_refused():
    parts, labels, index = next(draw_steps(1))
    with pytest.raises(ValueError, match="expected indices below num_samples = 12, got 12; pass the size"):
        make().losses(parts, labels, torch.where(index == index.max(), 12, index))
