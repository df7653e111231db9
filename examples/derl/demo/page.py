"""The page's layout and server, in Gradio."""

import os
from typing import Any

import gradio as gr

from derl.data.split import DataError
from derl.demo.explorer import Explorer
from derl.demo.html import CSS, left_html, score_html
from modx.missing import PATTERNS

SYSTEM_FONT, SYSTEM_MONO = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]  # no fonts to download
TEXT_ALONE = -1  # stands for no sample


def make_page(explorer: Explorer, title: str) -> gr.Blocks:
    """Lay out the page; every change of an input updates it.

    Args:
        explorer: the model and its samples.
        title: description of the model.
    """
    names = explorer.predictor.modalities
    samples = explorer.samples
    first = samples[0][1] if samples else TEXT_ALONE
    reads_text = "text" in names

    def words(row: int) -> str:
        return "" if row == TEXT_ALONE else explorer.text(row)

    with gr.Blocks(title="DERL, with some of its input missing", analytics_enabled=False) as page:
        gr.Markdown(f"## What if some input goes missing?\n{title}")
        with gr.Row():
            with gr.Column():
                row = gr.Dropdown(
                    [*([("text only", TEXT_ALONE)] if reads_text else []), *samples],
                    value=first,
                    label="Sample",
                    visible=bool(samples),
                )
                text = gr.Textbox(
                    words(first),
                    label="Text",
                    placeholder="type a sentence",
                    lines=2,
                    visible=reads_text,
                )
                pattern = gr.Radio(list(PATTERNS), value="frames", label="How it goes missing", elem_id="pattern")
                sliders = [
                    gr.Slider(0, 1, 0, step=0.05, label=f"{name} missing", elem_id=f"rate-{name}") for name in names
                ]
                abstain = gr.Number(
                    explorer.predictor.trust.abstain,
                    label="Abstain if the interval is wider, or the set of classes larger, than",
                    minimum=0,
                    visible=explorer.predictor.trust.calibration is not None,
                    elem_id="abstain",
                )
                joint = gr.Slider(0, 1, 0, step=0.05, label="missing, all modalities", visible=False, elem_id="rate")
                draw = gr.State(0)
                again = gr.Button("Draw again at the same rates", size="sm")
            with gr.Column():
                score = gr.HTML(elem_id="score", label="Score", container=True, show_label=True, padding=True)
                carried = gr.Label(
                    label="Share of the router weights per modality",
                    show_heading=False,
                    visible=explorer.predictor.model.fuses,
                    elem_id="carried",
                )
                left = gr.HTML(elem_id="left", label="What is left", container=True, show_label=True, padding=True)

        def show(
            row: int, text: str, pattern: str, draw: int, abstain: float | None, joint: float, *rates: float
        ) -> tuple[Any, Any, Any]:
            rate = joint if PATTERNS[pattern].across else dict(zip(names, rates, strict=True))
            try:
                explored = explorer.explore(None if row == TEXT_ALONE else row, text, rate, pattern, draw, abstain)
            except DataError:
                return '<p class="note">Type a sentence, or pick a sample.</p>', None, ""
            return score_html(explored), explored.answer.weights, left_html(explorer, explored)

        def tie(pattern: str) -> list[Any]:
            across = PATTERNS[pattern].across
            return [*(gr.update(visible=not across) for _ in sliders), gr.update(visible=across)]

        row.input(words, row, text, show_progress="hidden")
        pattern.change(tie, pattern, [*sliders, joint], show_progress="hidden")
        again.click(lambda draw: draw + 1, draw, draw, show_progress="hidden")
        inputs = [row, text, pattern, draw, abstain, joint, *sliders]
        gr.on(
            [page.load, *(part.change for part in inputs)],
            show,
            inputs,
            [score, carried, left],
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return page


def serve(page: gr.Blocks, port: int | None) -> str:
    """Serve the page on localhost only, in a background thread, and return its address.

    Args:
        page: what :func:`make_page` returned.
        port: port of the server. Default: the first free one from 7860.

    Raises:
        OSError: The port is in use.
    """
    _bypass_proxy()
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            ssr_mode=False,
            css=CSS,
            theme=gr.themes.Base(font=SYSTEM_FONT, font_mono=SYSTEM_MONO),
        )
    except OSError as error:
        raise OSError(f"--port {port}: expected a free port, found none; choose another, or leave it out.") from error
    return str(address)


def _bypass_proxy() -> None:
    """Let no proxy stand between Gradio's check of its own address and this machine."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
