"""Models in half precision, and raw features beyond the range of float16."""

import pytest
import torch
from torch import Tensor

from derl import DerlConfig, DerlModel, DerlProcessor, PlainModel, Predictor
from derl.data.split import DataError

LARGE = 1.5e5  # float16 ends at 65504
MODALITIES = ["audio", "vision"]


def make_model(model_class, *, standardize=True):
    model = model_class(DerlConfig.smoke(modalities=MODALITIES)).eval()
    if standardize:
        features = {"audio": LARGE + 100 * torch.randn(20, 9, 5), "vision": LARGE * torch.randn(20, 9, 20)}
        model.fit_features(features, dict.fromkeys(features, torch.full((20,), 9)))
    return model


def samples():
    return {"audio": LARGE + 100 * torch.randn(9, 5), "vision": LARGE * torch.randn(9, 20)}


def score(model, given):
    return Predictor(model, DerlProcessor(model.config, None)).predict(**given).score


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_features_are_standardized_before_they_are_cast(model_class, dtype, tmp_path):
    model, given = make_model(model_class), samples()
    expected, statistics = score(model, given), dict(model.named_buffers(recurse=False))
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path, dtype=dtype)
    for narrow in (loaded, model.to(dtype)):
        assert {part.dtype for part in narrow.parameters()} == {dtype}
        assert all(torch.equal(part, statistics[name]) for name, part in narrow.named_buffers(recurse=False))
        assert score(narrow, given) == pytest.approx(expected, abs=0.05)


def test_statistics_widen_with_the_model():
    model = make_model(DerlModel)
    assert model.half().double().feature_mean.dtype == torch.float64
    assert model.half().feature_mean.dtype == torch.float64


def test_a_score_that_is_not_finite_is_an_error():
    model = make_model(DerlModel, standardize=False).half()
    with pytest.raises(DataError, match=r"expected finite scores, got nan from a model in torch.float16; load it in"):
        score(model, samples())


def test_weights_leave_the_device_before_they_are_widened(monkeypatch):
    """MPS has no float64."""
    moved = []

    class OnDevice(Tensor):
        def double(self):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")

        def cpu(self):
            moved.append(self.shape)
            return self.as_subclass(Tensor)

    model = make_model(DerlModel)
    forward = model.forward

    def on_device(*args, **kwargs):
        output = forward(*args, **kwargs)
        for name in ("prediction", "fusion_weights"):
            output[name] = output[name].as_subclass(OnDevice)
        return output

    monkeypatch.setattr(model, "forward", on_device)
    answer = Predictor(model, DerlProcessor(model.config, None)).predict(**samples())
    assert sum(answer.weights.values()) == pytest.approx(1)
    assert len(moved) == 2
