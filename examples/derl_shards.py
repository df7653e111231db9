"""Write a data set as memory-mapped shards, for data that does not fit in memory.

python examples/derl_shards.py --data unaligned_50.pkl --output_dir mosei
python examples/derl_shards.py --data table.csv --task classify --output_dir moods
python examples/derl_mosi.py --data mosei
python examples/derl_shards.py --verify mosei          # compare checksums
"""

import argparse
import sys
from pathlib import Path

from ending import command

# isort: split
from derl.data.load import load_data
from derl.data.shard_writer import ShardWriter
from derl.data.shards import ShardedSplit, verify_shards
from derl.data.split import DataError, Split
from derl.data.table import Table


@command
def main() -> int:
    """Run the command; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what to do").add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="table or its folder, MMSA-layout pickle, or a run's data.safetensors")
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
    tables = parser.add_argument_group("a table")
    tables.add_argument(
        "--task", choices=["regress", "classify"], default="regress", help="labels are numbers (default) or classes"
    )
    tables.add_argument("--group", help="column whose rows stay in one split (default: group)")
    tables.add_argument("--seed", type=int, default=0, help="seed of the splits (default: 0)")
    options = parser.parse_args()
    if options.shard_megabytes < 1:
        parser.error(f"--shard_megabytes expected at least 1, got {options.shard_megabytes}")
    if (options.data is None) != (options.output_dir is None):
        parser.error("--data and --output_dir go together")
    try:
        if options.verify is not None:
            print(f"{verify_shards(options.verify)} shards match their checksums: {options.verify}")
            return 0
        table = Table(classify=options.task == "classify", group=options.group, seed=options.seed)
        splits = load_data(options.data, None, text_features=options.text_features, table=table)
        limits = {m: max(split.features[m].shape[1] for split in splits.values()) for m in splits["train"].features}
        with ShardWriter(
            options.output_dir,
            max_lengths=limits,
            classes=splits["train"].classes,
            shard_bytes=options.shard_megabytes * 2**20,
        ) as writer:
            for name, split in splits.items():
                write(writer, name, split)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = list(options.output_dir.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files) / 2**20
    print(f"{sum(map(len, splits.values()))} samples in {len(files)} shards, {size:.1f} MiB: {options.output_dir}")
    return 0


def write(writer: ShardWriter, name: str, split: Split | ShardedSplit) -> None:
    """Write a split's samples without their padding."""
    for row in range(len(split)):
        writer.add(
            name,
            split.ids[row],
            split.labels[row].item(),
            text=None if split.text is None else split.text[row] or "",
            features={m: frames[row][: int(split.lengths[m][row])] for m, frames in split.features.items()},
        )


if __name__ == "__main__":
    sys.exit(main())
