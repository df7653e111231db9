"""What the page to play with shows, and the page itself in a browser."""

import re
import runpy
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch

from derl import DerlConfig, DerlModel, Predictor
from derl.data.split import DataError, save_splits
from derl.demo import opening
from derl.demo.explorer import Explorer
from derl.demo.html import left_html, score_html
from derl.train.options import parse
from modx.missing import PATTERNS

COMMAND = [sys.executable, "-u", str(Path(__file__).parents[3] / "examples" / "derl_demo.py")]
CHROMIUM = which("chromium")
NO_RATES = {"text": 0.0, "audio": 0.0, "vision": 0.0}


@pytest.fixture(scope="module")
def explorer(smoke_run):
    return opening.open_explorer(str(smoke_run), None)[0]


def test_complete_input_scores_as_the_predictor_says(explorer):
    explored = explorer.explore(3, explorer.text(3), NO_RATES, "frames")
    features, lengths = explorer.split.features, explorer.split.lengths
    frames = {name: part[3, : int(lengths[name][3])] for name, part in features.items()}
    expected = explorer.predictor.predict(text=explorer.text(3), **frames)
    assert explored.answer.score == pytest.approx(expected.score, abs=1e-5)
    assert explored.complete.score == pytest.approx(expected.score, abs=1e-5)
    assert explored.label == explorer.split.labels[3].item()
    assert all(keep.all() for keep in explored.keep.values())


def test_the_page_shows_the_interval_of_what_is_left(explorer):
    complete = explorer.explore(3, explorer.text(3), NO_RATES, "frames")
    without = explorer.explore(3, explorer.text(3), NO_RATES | {"text": 1.0}, "frames")
    quantile = explorer.predictor.trust.calibration.quantile
    for explored, condition in ((complete, "text+audio+vision"), (without, "audio+vision")):
        low, high = explored.answer.interval
        assert (high - low) / 2 == pytest.approx(quantile([condition]), abs=1e-5)
        assert f'<b data-figure="90 % interval">{low:+.2f} to {high:+.2f}</b>' in score_html(explored)
        assert 'class="interval"' in score_html(explored)
    nothing = explorer.explore(3, explorer.text(3), dict.fromkeys(NO_RATES, 1.0), "frames")
    assert "unbounded" in score_html(nothing)


def test_the_page_abstains_where_the_interval_is_too_wide(explorer):
    low, high = explorer.explore(3, explorer.text(3), NO_RATES, "frames").answer.interval
    for limit, abstains in ((high - low + 0.01, False), (high - low - 0.01, True), (None, False)):
        explored = explorer.explore(3, explorer.text(3), NO_RATES, "frames", abstain=limit)
        shown = score_html(explored)
        assert explored.answer.abstains is abstains
        assert ("no answer" in shown) is ("its interval is wider than accepted" in shown) is abstains
        assert (f"{explored.answer.score:+.2f}</b>" in shown.split("complete input")[0]) is not abstains
        assert ('class="mark score"' in shown) is ('data-figure="distance"' in shown) is not abstains
        assert 'data-figure="90 % interval"' in shown


def test_what_a_modality_loses_is_its_own_rate(explorer):
    explored = explorer.explore(3, explorer.text(3), NO_RATES | {"text": 0.5, "vision": 1.0}, "frames")
    assert explored.keep["audio"].all()
    assert not explored.keep["vision"].any()
    assert 0 < explored.keep["text"].sum() < len(explored.keep["text"])
    assert explored.answer.weights["vision"] == 0
    assert sum(explored.answer.weights.values()) == pytest.approx(1)
    assert explored.answer.score != explored.complete.score


def test_another_draw_loses_others_and_the_same_draw_the_same(explorer):
    first, second, other = (
        explorer.explore(3, explorer.text(3), NO_RATES | {"text": 0.5}, "frames", draw).keep["text"]
        for draw in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_takes_one_rate_and_loses_nothing_at_0(explorer, pattern):
    assert all(keep.all() for keep in explorer.explore(3, explorer.text(3), 0.0, pattern).keep.values())
    lost = explorer.explore(3, explorer.text(3), 0.7, pattern).keep
    assert not all(keep.all() for keep in lost.values())


def test_when_all_is_lost_nobody_carries_it(explorer):
    explored = explorer.explore(3, explorer.text(3), dict.fromkeys(NO_RATES, 1.0), "frames")
    assert set(explored.answer.weights.values()) == {0}
    assert np.isfinite(explored.answer.score)


def test_typed_text_goes_alone_or_with_a_samples_frames(explorer):
    alone = explorer.explore(None, "great ship", NO_RATES, "frames")
    assert (alone.complete.weights["text"], alone.label) == (1, None)
    joined = explorer.explore(3, "great ship", NO_RATES, "frames")
    assert (set(joined.keep), joined.label) == ({"text", "audio", "vision"}, None)
    with pytest.raises(DataError, match="expected at least one of"):
        explorer.explore(None, "  ", NO_RATES, "frames")


def test_words_are_shown_as_the_model_reads_them_and_harmlessly(explorer):
    explored = explorer.explore(None, "great <script>alert(1)</script>", NO_RATES | {"text": 1.0}, "frames")
    shown = left_html(explorer, explored) + score_html(explored)
    assert "<span class=dropped>great</span>" in shown
    assert "<span class=dropped>[UNK]</span>" in shown
    assert "<script" not in shown
    assert "none was given" in shown
    note = score_html(explorer.explore(None, "Guten Tag", NO_RATES, "frames"))
    assert "no word that the model knows" in note


def test_without_a_run_a_small_model_is_trained_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "EPOCHS", 1)
    monkeypatch.setattr(opening, "parse", lambda arguments: parse([*arguments, "--preset", "smoke"]))
    assert opening.latest_run() is None
    _, title = opening.open_explorer(None, None)
    assert "training DERL once on synthetic data (--epochs 1)" in capsys.readouterr().out
    assert "SYNTHETIC" in title
    assert opening.open_explorer(None, None)[1] == title
    assert "training" not in capsys.readouterr().out


def test_samples_come_from_other_data_and_have_to_fit(smoke_run, explorer, tmp_path):
    save_splits({"test": explorer.split}, tmp_path / "samples.safetensors")
    again, title = opening.open_explorer(str(smoke_run / "model"), str(tmp_path / "samples.safetensors"))
    assert again.samples == explorer.samples
    assert f"the samples come from `{tmp_path / 'samples.safetensors'}`" in title
    DerlModel(DerlConfig.smoke(modalities=["audio"], input_dims={"audio": 3})).save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match="expected data for a model that reads no text"):
        opening.open_explorer(str(tmp_path / "other"), None)
    with pytest.raises(DataError, match="expected audio of shape"):
        opening.open_explorer(str(tmp_path / "other"), str(tmp_path / "samples.safetensors"))


def test_a_model_without_data_still_takes_text(explorer, tmp_path):
    explorer.predictor.model.save_pretrained(tmp_path / "model")
    explorer.predictor.processor.save_pretrained(tmp_path / "model")
    alone, title = opening.open_explorer(str(tmp_path / "model"), None)
    assert (alone.samples, alone.split) == ([], None)
    assert "no samples to pick from" in title
    assert Explorer(Predictor.from_pretrained(tmp_path / "model"), None).explore(None, "great", 0.0, "together").answer


@pytest.fixture
def served(smoke_run):
    """The address of the page, served by the command."""
    with subprocess.Popen(
        [*COMMAND, "--model", str(smoke_run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("open http://127.0.0.1:"):
                break
        else:
            pytest.fail("".join(lines))
        yield line.split()[1].rstrip(";")
        process.terminate()


@pytest.mark.slow
@pytest.mark.skipif(
    CHROMIUM is None or not find_spec("gradio") or not find_spec("playwright"),
    reason="needs Chromium, gradio and playwright",
)
def test_a_slider_moves_the_score_in_a_browser_that_asks_nothing_of_the_network(served):
    from playwright.sync_api import sync_playwright

    flags = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    flags += ["headless", "disable-component-update", "disable-sync"]
    errors, elsewhere = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in flags])
        page = browser.new_page(viewport={"width": 390, "height": 900})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(served)

        def figure(name, expected):
            locator = page.locator(f'#score b[data-figure="{name}"]', has_text=expected)
            locator.wait_for()
            return locator.inner_text()

        complete = figure("score", re.compile(r"[+-]\d\.\d\d"))
        assert figure("distance", "0.00")
        slider = page.locator("#rate-audio input[type=range]")
        slider.focus()
        slider.press("End")
        page.locator("#left", has_text=re.compile(r"audio\s*0 of \d+ frames")).wait_for()
        carried = re.findall(r"(\w+)\n(\d+)%", page.locator("#carried").inner_text())
        assert dict(carried)["audio"] == "0"
        assert figure("complete input", complete)
        page.get_by_label("together").check()
        page.locator("#rate").wait_for()
        assert not page.locator("#rate-audio").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out of a narrow page
        browser.close()
    assert errors == []
    assert [url for url in elsewhere if not url.startswith((served, "data:", "blob:"))] == []


def test_a_model_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gradio")
    monkeypatch.setattr(sys, "argv", ["derl_demo.py", "--model", str(tmp_path)])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        runpy.run_path(COMMAND[-1], run_name="__main__")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}: expected the folder of a run")
