"""What each of two processes does in test_several_processes: it waits longer than steps may take, then loses the other.

Argument: a folder for results.
"""
import datetime
import functools
import json
import os
import pathlib
import signal
import sys
import time

import torch
import torch.distributed as dist

from spml.program import execute
from spml.utils import distributed

STEP_SECONDS = 1


def main():
    # In place of the minutes after which a step is given up.
    dist.init_process_group = functools.partial(dist.init_process_group,
                                                timeout=datetime.timedelta(seconds=STEP_SECONDS))
    with distributed.start(torch.device('cpu')):
        first = distributed.rank() == 0
        if not first:
            time.sleep(3 * STEP_SECONDS)
        met = distributed.gather_objects('here')
        if not first:
            os.kill(os.getpid(), signal.SIGKILL)
        (pathlib.Path(sys.argv[1]) / 'met.json').write_text(json.dumps(met))
        distributed.gather_objects(None)


if __name__ == '__main__':
    execute(main)
