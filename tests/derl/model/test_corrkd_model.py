"""CorrKD's teacher: what it reads, and when the student begins to learn from it."""

from unittest.mock import patch

import pytest
import torch
from tiny import tiny_text

from derl import DerlConfig
from derl.model.corrkd import CorrKdModel

LENGTHS = {"text": 9, "audio": 12, "vision": 10}


def make(**settings):
    torch.manual_seed(0)
    config = {"text_config": tiny_text(layers=1), "max_lengths": LENGTHS, "core": dict(CorrKdModel.smoke)} | settings
    return CorrKdModel(DerlConfig.smoke(**config)).train()


def batch():
    torch.manual_seed(1)
    inputs = {"text": torch.randint(103, 130, (4, 7)), "audio": torch.randn(4, 12, 5), "vision": torch.randn(4, 8, 20)}
    masks = {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()}
    masks["vision"][0] = False
    keep = {name: mask & (torch.rand(mask.shape) < 0.5) for name, mask in masks.items()}
    for name, mask in masks.items():
        keep[name][3] = mask[3]
    return inputs, masks, keep, torch.tensor([1.0, -2.0, 0.0, 2.0])


@pytest.mark.parametrize("settings", [{}, {"complete_weight": 1.0}])
def test_the_teacher_reads_the_complete_input_and_the_student_what_is_left(settings):
    model = make(**settings)
    inputs, masks, keep, labels = batch()
    with patch.object(model.core, "losses", wraps=model.core.losses) as losses:
        model(inputs, masks, keep, labels)
    student, teacher, groups = losses.call_args.args
    with torch.no_grad():
        whole = model.core.teach(model.embed(model.standardize(inputs), masks), masks)
        left = model.core(model.embed(model.corrupt(model.standardize(inputs), keep), masks), masks)
    torch.testing.assert_close(teacher.joint, whole.joint)
    torch.testing.assert_close(student.joint, left.joint)
    assert groups.tolist() == [1, 0, -1, 1]


def test_the_student_learns_alone_while_the_teacher_starts():
    model = make()
    found = {}
    for model.phase in ("teacher", "distillation"):
        found[model.phase] = model(*batch()).losses
    early, late = found["teacher"], found["distillation"]
    assert early["teacher"] == late["teacher"] > 0
    assert [name for name, part in early.items() if part] == ["teacher"]
    assert [name for name, part in late.items() if part] == ["teacher", "samples", "categories", "responses"]


def test_the_teacher_answers_by_the_tasks_loss():
    model = make(task_loss="mae", sentiment=False)
    model.fit_labels(torch.tensor([0.0, 4.0]))  # mean 2, standard deviation 2
    inputs, masks, keep, labels = batch()
    found = model(inputs, masks, keep, labels).losses["teacher"]
    outputs = model.core.teach(model.embed(model.standardize(inputs), masks), masks).prediction[:, 0].tolist()
    gaps = [abs(2 * output + 2 - label) / 2 for output, label in zip(outputs, labels.tolist(), strict=True)]
    assert found.item() == pytest.approx(sum(gaps) / 4, rel=1e-5)
