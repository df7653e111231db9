"""Export a trained model with torch.export or to ONNX, to run it without modx, transformers and the examples.

python examples/derl_export.py runs/20260101-120000 --to torch derl.pt2
python examples/derl_export.py runs/20260101-120000 --to onnx derl.onnx
python examples/derl_export.py runs/20260101-120000 --to onnx --int8 derl.onnx

docs/deploy.md describes the files' inputs and outputs.
"""

import argparse
import sys
from pathlib import Path

from ending import command

# isort: split
from transformers.utils.logging import disable_progress_bar

from derl.data.split import DataError
from derl.predict.export import SUFFIXES, export


@command
def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a run of derl_mosi.py or of its model")
    parser.add_argument("--to", required=True, choices=list(SUFFIXES), help="file format")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write, ending in .pt2 or .onnx")
    parser.add_argument(
        "--int8", action="store_true", help="quantize the text encoder's weights to int8 (only with --to onnx)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    options = parser.parse_args(arguments)
    disable_progress_bar()
    try:
        print(export(options.model, options.to, options.out, int8=options.int8, overwrite=options.overwrite))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
