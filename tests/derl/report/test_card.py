"""The card that a run leaves in its model's folder."""

import json
import re

import pytest
from huggingface_hub import ModelCard

from derl.model.config import DerlConfig
from derl.report.card import model_card


@pytest.fixture(scope="module")
def results(smoke_run):
    return json.loads((smoke_run / "results.json").read_text())


@pytest.fixture(scope="module")
def card(smoke_run):
    return ModelCard.load(smoke_run / "model" / "README.md")


def test_the_metadata_holds_the_runs_figures(card, results):
    found = {
        (result.dataset_config, result.metric_name): result.metric_value
        for result in card.data.eval_results
        if (result.dataset_name, result.dataset_split) == ("synthetic MOSI", "test")
    }
    complete, average = results["intra_modal"]["rows"]["DERL"][0], results["intra_modal"]["average"]["DERL"]
    condition = "frames missing at r = 0, 0.1 .. 0.9, average"
    assert found["complete input", "MAE"] == pytest.approx(complete["mae"], abs=1e-4)
    assert found["complete input", "Acc-7"] == pytest.approx(complete["acc7"], abs=1e-4)
    assert found[condition, "Corr"] == pytest.approx(average["corr"], abs=1e-4)
    assert found[condition, "F1, negative against positive"] == pytest.approx(average["f1_non0"], abs=1e-4)
    assert len(found) == 16


def test_synthetic_data_is_called_synthetic(card):
    assert "synthetic-data" in card.data.tags
    assert "The data is SYNTHETIC" in card.text


def test_the_example_runs_in_the_models_folder(card, smoke_run, monkeypatch, capsys):
    monkeypatch.chdir(smoke_run / "model")
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Answer(score=")


def test_real_data_is_named_and_its_licence_left_to_the_publisher(results):
    nan = float("nan")
    changed = json.loads(json.dumps(results))
    for part in ("intra_modal", "inter_modal"):
        for rows in changed[part]["rows"].values():
            for metrics in rows:
                metrics["corr"] = nan
        for key in changed[part]:
            if key.startswith("average"):
                for metrics in changed[part][key].values():
                    metrics["corr"] = nan
    changed["data"] = changed["data"] | {"name": "unaligned_50.pkl", "synthetic": False}
    changed["options"]["text_encoder"] = "bert-base-uncased"
    card = ModelCard(str(model_card(changed, DerlConfig())))
    assert card.data.base_model == "bert-base-uncased"
    assert card.data.license is None
    assert "synthetic" not in str(card).lower()
    assert {result.dataset_type for result in card.data.eval_results} == {"unaligned-50-pkl"}
    assert "Corr" not in {result.metric_name for result in card.data.eval_results}  # not defined
