"""What a stage of a pipeline costs: time and memory, one line of JSON for each time it ran.

A pipeline names the file in the environment (`SPML_USAGE`) and the stage (`SPML_STAGE`); outside of one nothing is
written. A stage that was interrupted and resumed has several lines. One that ran in several processes may, too: that
of the process that launched the others, and that of the first of these.
"""
import json
import os
import pathlib
import re
import resource
import sys
import time

from spml.utils.formats import read_json_lines

# Scripts import the command line, and with it this module, before anything that takes long.
_STARTED = time.time()
_KEYS = {'stage', 'started', 'seconds', 'status', 'resumed', 'memory', 'gpu_memory'}
# Linux counts in KiB, macOS in bytes.
_RSS_UNIT = 1 if sys.platform == 'darwin' else 1024


def record(status):
    """Append this process's line to the pipeline's file, if it is at work for one.

    Args:
        status: exit status of the process.
    """
    path = os.environ.get('SPML_USAGE')
    if not path or os.environ.get('RANK', '0') != '0':
        return
    line = {'stage': os.environ.get('SPML_STAGE', ''), 'started': _STARTED, 'seconds': time.time() - _STARTED,
            'status': status, 'resumed': '--resume' in sys.argv,
            'memory': _peak(), 'gpu_memory': _gpu_peak()}
    try:
        with open(path, 'a', encoding='utf-8') as out:
            out.write(json.dumps(line) + '\n')
    except OSError as error:
        # The stage's work is done; that its cost is not known is no reason to fail it.
        print(f'note: {path}: {error.strerror}; time and memory of this stage are not recorded', file=sys.stderr)


def read_usage(path):
    """Return what each stage cost, in the order in which they first ran.

    Args:
        path: the file that `record` wrote; it may be missing.

    Returns:
        dict from the stage to a dict of `seconds` (all attempts that led to its last result together), `memory` (bytes,
        largest resident set of the process, workers not included), `gpu_memory` (bytes, 0 without a GPU) and `status`
        (of the last attempt).
    """
    stages = {}
    for line in read_json_lines(path):
        if line.keys() >= _KEYS:
            _add(stages.setdefault(line['stage'], []), line)
    return {stage: _total(attempts) for stage, attempts in stages.items()}


def _add(attempts, line):
    """Add a line to a stage's attempts, each a list of the lines of one start."""
    # Lines of one start overlap in time, the launching process's being written last.
    if attempts and line['started'] < attempts[-1][-1]['started'] + attempts[-1][-1]['seconds']:
        attempts[-1].append(line)
        return
    if not line['resumed']:
        attempts.clear()
    attempts.append([line])


def _total(attempts):
    lines = [line for attempt in attempts for line in attempt]
    total = {key: max(line[key] for line in lines) for key in ('memory', 'gpu_memory')}
    return {'seconds': sum(max(line['seconds'] for line in attempt) for attempt in attempts), **total,
            'status': lines[-1]['status']}


def _peak():
    """Return this process's largest resident set in bytes."""
    try:
        # Linux's getrusage counts what a parent held before exec, too.
        status = pathlib.Path('/proc/self/status').read_text(encoding='utf-8')
        return int(re.search(r'^VmHWM:\s+(\d+) kB', status, re.MULTILINE)[1]) * 1024
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _gpu_peak():
    """Return the most bytes of tensors this process held on its GPU; 0 if it used none."""
    torch = sys.modules.get('torch')  # a script that does without torch shall not load it for this
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return torch.cuda.max_memory_allocated()
