"""Every table and figure of the DERL paper, and the question it leaves open, on any data the example reads.

python examples/derl_paper.py table1                                # synthetic data, three seeds
python examples/derl_paper.py all --data unaligned_50.pkl --text_encoder bert-base-uncased
python examples/derl_paper.py all --study study                     # again: goes on where it was, or beside another
python examples/derl_paper.py table1 --protocol paper               # the same trainings, read as the field does
python examples/derl_paper.py all --report_only                     # what there is so far
"""

import sys

from ending import Stopped, command

# isort: split
from derl.data.split import DataError
from derl.study import command as study
from derl.study.ledger import RecordError
from derl.train.run import RunError


@command
def main() -> int:
    """Run the command; the exit code is 0, 1 if a cell failed, 2 for bad input, 130 when stopped by Ctrl-C."""
    try:
        return study.main()
    except (DataError, RunError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        raise Stopped("stopped; finished cells are kept, the same command goes on") from None


if __name__ == "__main__":
    sys.exit(main())
