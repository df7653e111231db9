"""Explore a DERL model on a web page: drop parts of a sample, and see the score and each modality's weight.

::

    python examples/derl_demo.py                    # the latest run in runs/, or a quick one
    python examples/derl_demo.py --model runs/RUN
    python examples/derl_demo.py --model MODEL --data unaligned_50.pkl
"""

import os
import sys
import threading
from argparse import ArgumentParser

from ending import command

# isort: split
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}  # read at import

from transformers.utils.logging import disable_progress_bar

from derl.data.split import DataError
from derl.demo.opening import open_explorer
from derl.train.run import RunError


@command
def main() -> int:
    """Run the command; the exit code is 130 when stopped by Ctrl-C, 2 for bad input."""
    parser = ArgumentParser(
        description="Explore a DERL model on a web page: drop parts of a sample, and see the score and each modality's "
        "weight. The page is served on localhost only and needs no network access."
    )
    parser.add_argument(
        "--model",
        metavar="FOLDER",
        help="folder of a run of derl_mosi.py or of its model (default: the latest run in runs/, or else DERL trained "
        "quickly on synthetic data)",
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="samples to pick from: a table, an MMSA-layout pickle or .safetensors (default: the run's own)",
    )
    parser.add_argument("--port", type=int, help="port of the server (default: the first free one from 7860)")
    options = parser.parse_args()
    try:
        from derl.demo.page import make_page, serve
    except ImportError as error:
        print(f"error: the page needs gradio ({error}): run pip install 'modx[demo]'.", file=sys.stderr)
        return 2
    disable_progress_bar()
    try:
        explorer, title = open_explorer(options.model, options.data)
        page = make_page(explorer, title)
        print(f"{title}\nopen {serve(page, options.port)}; Ctrl-C stops", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    except (DataError, RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
