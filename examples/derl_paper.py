"""Every table and figure of the DERL paper, and the question it leaves open, on any data the example reads.

python examples/derl_paper.py table1                                # synthetic data, three seeds
python examples/derl_paper.py all --data unaligned_50.pkl --text_encoder bert-base-uncased
python examples/derl_paper.py all --study study                     # again: goes on where it was, or beside another
python examples/derl_paper.py table1 --protocol paper               # the same trainings, read as the field does
python examples/derl_paper.py all --report_only                     # what there is so far
"""

import sys

from derl.data.split import DataError
from derl.study.command import main
from derl.study.ledger import RecordError
from derl.train.run import RunError

if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DataError, RunError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; finished cells are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
