"""Write a data set as memory-mapped shards, for data that does not fit in memory.

python examples/derl_shards.py --data unaligned_50.pkl --output_dir mosei
python examples/derl_mosi.py --data mosei
python examples/derl_shards.py --verify mosei          # compare checksums
"""

import argparse
import sys
from pathlib import Path

from ending import command

# isort: split
from derl.data.absence import describe_missing
from derl.data.load import load_complete
from derl.data.mmsa import describe_left_out, describe_notes, read_mmsa
from derl.data.shard_writer import ShardWriter
from derl.data.shards import verify_shards
from derl.data.split import DataError, Split


@command
def main() -> int:
    """Run the command; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what to do").add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="MMSA-layout pickle, or a run's data.safetensors")
    what.add_argument("--verify", type=Path, metavar="FOLDER", help="folder of shards whose checksums to verify")
    writing = parser.add_argument_group("writing")
    writing.add_argument("--output_dir", type=Path, help="new folder for the shards (required with --data)")
    writing.add_argument(
        "--shard_megabytes", type=int, default=256, help="approximate size of a file in MiB (default: 256)"
    )
    writing.add_argument(
        "--text_features",
        action="store_true",
        help="read precomputed features (key text of the pickle) instead of words (key raw_text)",
    )
    options = parser.parse_args()
    if options.shard_megabytes < 1:
        parser.error(f"--shard_megabytes expected at least 1, got {options.shard_megabytes}")
    if (options.data is None) != (options.output_dir is None):
        parser.error("--data and --output_dir go together")
    try:
        if options.verify is not None:
            print(f"{verify_shards(options.verify)} shards match their checksums: {options.verify}")
            return 0
        if options.data.suffix == ".safetensors":
            splits = load_complete(options.data)
        else:
            splits = read_mmsa(options.data, text_features=options.text_features)
        for line in [*describe_left_out(splits), *describe_notes(splits), *describe_missing(splits)]:
            print(line)
        limits = {m: max(split.features[m].shape[1] for split in splits.values()) for m in splits["train"].features}
        with ShardWriter(options.output_dir, max_lengths=limits, shard_bytes=options.shard_megabytes * 2**20) as writer:
            for name, split in splits.items():
                write(writer, name, split)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = list(options.output_dir.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files) / 2**20
    print(f"{sum(map(len, splits.values()))} samples in {len(files)} shards, {size:.1f} MiB: {options.output_dir}")
    return 0


def write(writer: ShardWriter, name: str, split: Split) -> None:
    """Write a split's samples without their padding."""
    for row in range(len(split)):
        writer.add(
            name,
            split.ids[row],
            split.labels[row].item(),
            text=None if split.text is None else split.text[row] or "",
            features={m: frames[row, : int(split.lengths[m][row])] for m, frames in split.features.items()},
        )


if __name__ == "__main__":
    sys.exit(main())
