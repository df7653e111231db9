"""Reproduce every table and figure of the DERL paper, and test when its training collapses, on any data.

python examples/derl_paper.py table1                                # synthetic data, three seeds
python examples/derl_paper.py all --data unaligned_50.pkl --text_encoder bert-base-uncased
python examples/derl_paper.py all --study study                     # resumes, or joins a running process
python examples/derl_paper.py table1 --protocol paper               # same trainings, the field's protocol
python examples/derl_paper.py all --report_only                     # report finished cells only
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
        raise Stopped("stopped; finished cells are kept. Run the same command to resume.") from None


if __name__ == "__main__":
    sys.exit(main())
