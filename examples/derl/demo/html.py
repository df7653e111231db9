"""HTML of the page: the answer, and what is left of a sample."""

import math
from html import escape

import torch
from torch import Tensor

from derl.data.classes import LIMIT
from derl.demo.explorer import Explored, Explorer
from derl.evaluate.answer import Answer
from derl.evaluate.conformal import CONFIDENCE_LEVEL
from derl.evaluate.digits import significant
from derl.evaluate.sentiment import CLASS_NAMES

INTERVAL, SET = f"{100 * CONFIDENCE_LEVEL:.0f} % interval", f"{100 * CONFIDENCE_LEVEL:.0f} % set of classes"
CSS = """
.scale { position: relative; height: 3.4rem; margin: .6rem .9rem 0; }
.scale .line { position: absolute; left: 0; right: 0; top: 1.1rem; height: .35rem; border-radius: .2rem;
  background: linear-gradient(90deg, #b2432f, #c9c9c9 50%, #2f7d5b); }
.scale .interval { position: absolute; top: .8rem; height: .95rem; border-radius: .2rem; opacity: .3;
  background: var(--color-accent); }
.scale .tick { position: absolute; top: 1.9rem; transform: translateX(-50%); font-size: .8rem; opacity: .75; }
.scale .mark { position: absolute; top: 1.275rem; transform: translate(-50%, -50%); }
.figures { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: 1rem .2rem 0; }
.figures .mark { display: inline-block; vertical-align: middle; margin-right: .35rem; }
.figures b { font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.mark { box-sizing: border-box; }
.mark.score { width: 1.1rem; height: 1.1rem; border-radius: 50%; background: var(--color-accent);
  border: .15rem solid var(--background-fill-primary); box-shadow: 0 0 0 1px var(--body-text-color); }
.mark.complete-input { width: .8rem; height: 1.6rem; border: 2px dashed var(--body-text-color); border-radius: .4rem; }
.mark.label { width: 3px; height: 1.6rem; background: var(--body-text-color); }
.left { display: grid; grid-template-columns: max-content 1fr; gap: .6rem 1rem; align-items: center; margin-top: 1rem; }
.left .name { font-weight: 600; }
.left .share { display: block; font-weight: 400; font-size: .8rem; opacity: .75; }
.left .words span { display: inline-block; padding: 0 .3rem; margin: .1rem; border-radius: .25rem;
  border: 1px solid var(--border-color-primary); }
.left .words .dropped { opacity: .45; text-decoration: line-through; }
.left svg { display: block; width: 100%; height: 1.6rem; border-radius: .25rem;
  background: var(--background-fill-secondary); outline: 1px solid var(--border-color-primary); }
.left rect { fill: var(--color-accent); }
#pattern input:checked:hover { background-color: var(--checkbox-background-color-selected);
  background-image: var(--radio-circle); }
.note { margin: 1rem .2rem 0; font-style: italic; }
@media (max-width: 480px) {
  .left { grid-template-columns: 1fr; gap: .3rem; }
  .left .share { display: inline; margin-left: .6rem; }
}
"""


def score_html(explored: Explored) -> str:
    """Return the answer, that to the complete input and the label, as text; for sentiment also on its scale.

    Where the model abstains, only why.
    """
    answer, complete = explored.answer, explored.complete
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in explored.notes)
    marked = {"label": explored.label, "complete input": complete.score, "score": answer.score}
    marked = {name: value for name, value in marked.items() if value is not None}
    if answer.abstains:
        del marked["score"]
    scale = "" if answer.sentiment is None else _scale(marked, answer.interval)
    if answer.probabilities is None:
        figures = [
            ("score", _number(answer, answer.score), answer.name or ""),
            ("complete input", _number(answer, complete.score), complete.name or ""),
            ("distance", _number(answer, abs(answer.score - complete.score)).removeprefix("+"), ""),
            *([("label", _number(answer, explored.label), "")] if explored.label is not None else []),
        ]
    else:
        names = list(answer.probabilities)
        figures = [
            ("score", f"{answer.score:.2f}", answer.name or ""),
            ("complete input", f"{complete.score:.2f}", complete.name or ""),
            *([("label", "", names[int(explored.label)])] if explored.label is not None else []),
        ]
    if answer.interval is not None:
        figures.append((INTERVAL, *_bounds(answer, answer.interval)))
    if answer.classes is not None:
        figures.append((SET, "", " or ".join(answer.classes)))
    if answer.abstains:
        figures = [part for part in figures if part[0] != "distance"]
        figures[0] = (
            "score",
            "no answer",
            f"its {'set of classes is larger' if answer.classes else 'interval is wider'} than accepted",
        )
    words = "".join(
        f'<span>{_mark(name) if scale and name in marked else ""}{name} <b data-figure="{name}">{number}</b> '
        f"{escape(said)}</span>"
        for name, number, said in figures
    )
    return f'<div class="figures">{words}</div>{scale}{notes}'


def _scale(marked: dict[str, float], interval: tuple[float, float] | None) -> str:
    ticks = "".join(
        f'<span class="tick" style="left:{_percent(value):.1f}%">{value:+d}</span>'.replace("+0", "0")
        for value in CLASS_NAMES
    )
    placed = "".join(
        _mark(name, f' style="left:{_percent(value):.1f}%" title="{name} {value:+.2f}"')
        for name, value in marked.items()
    )
    return f'<div class="scale"><span class="line"></span>{_band(interval)}{placed}{ticks}</div>'


def left_html(explorer: Explorer, explored: Explored) -> str:
    """Return what is left of every modality: words, with dropped ones struck through, and a stripe per kept frame."""
    rows = []
    for name in explorer.predictor.modalities:
        keep = explored.keep.get(name)
        if keep is None:
            rows.append((name, "missing", "none was given"))
            continue
        share = f"{int(keep.sum())} of {len(keep)} {'tokens' if name == 'text' else 'frames'}"
        rows.append((name, share, _words(explorer, explored, keep) if name == "text" else _stripes(keep)))
    cells = "".join(
        f'<div class="name">{escape(name)}<span class="share">{share}</span></div><div>{content}</div>'
        for name, share, content in rows
    )
    return f'<div class="left">{cells}</div>'


def _number(answer: Answer, value: float) -> str:
    """Return a score as text, with digits that the answer's scale gives; for sentiment, two decimals and a sign."""
    return f"{value:+.2f}" if answer.sentiment is not None else significant(value, answer.scale)


def _bounds(answer: Answer, interval: tuple[float, float]) -> tuple[str, str]:
    if math.isinf(interval[0]):
        return "unbounded", "too few validation samples"
    return " to ".join(_number(answer, bound) for bound in interval), ""


def _band(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    low, high = map(_percent, interval)
    return f'<span class="interval" style="left:{low:.1f}%;width:{high - low:.1f}%"></span>'


def _mark(name: str, attributes: str = "") -> str:
    return f'<span class="mark {name.replace(" ", "-")}"{attributes}></span>'


def _words(explorer: Explorer, explored: Explored, keep: Tensor) -> str:
    special = set(explorer.predictor.model.config.special_token_ids)
    tokens = explorer.predictor.processor.tokenizer.convert_ids_to_tokens(explored.sample["text"].tolist())
    spans = [
        f"<span{'' if kept else ' class=dropped'}>{escape(token)}</span>"
        for token, kept, number in zip(tokens, keep.tolist(), explored.sample["text"].tolist(), strict=True)
        if number not in special
    ]
    return f'<div class="words">{"".join(spans)}</div>'


def _stripes(keep: Tensor) -> str:
    """Return one rectangle per run of kept frames."""
    edges = torch.diff(keep.int(), prepend=torch.zeros(1, dtype=torch.int32), append=torch.zeros(1, dtype=torch.int32))
    starts, stops = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    runs = "".join(
        f'<rect x="{start}" y="0" width="{stop - start}" height="1"/>'
        for start, stop in zip(starts, stops, strict=True)
    )
    return f'<svg viewBox="0 0 {len(keep)} 1" preserveAspectRatio="none" aria-hidden="true">{runs}</svg>'


def _percent(score: float) -> float:
    return 100 * (min(max(score, -LIMIT), LIMIT) + LIMIT) / (2 * LIMIT)
