"""The record of a run, `run.jsonl` in its folder: what was asked for, and what became of each stage.

One line of JSON per event. A `run` line opens each start of the script: time, script, version of the code and of
PyTorch, settings. A `stage` line says that a stage has begun, and one more how it ended:

    {"event": "stage", "stage": "train_embedding", "status": "done", "time": "2026-01-31T12:00:00",
     "script": "pyscripts/train/train.py", "arguments": ["--data_dir", ...], "output": "stage1", "title": "",
     "resumed": false, "exit_status": 0, "seconds": 93.1, "memory": 1200000000, "gpu_memory": 0}

`status` is begun, done, failed, interrupted, or stands (nothing was left to do). `output` is relative to the folder of
the run, so that the folder may be moved. Memory is in bytes: the largest process, and tensors on its GPU.
"""
import contextlib
import dataclasses
import datetime
import json
import pathlib

from spml.errors import DataError
from spml.utils.formats import append_line, read_json_lines

FILE_NAME = 'run.jsonl'
NO_TRUTH = 'there is no truth to score against (VAL_LIST and FULL_LIST are empty)'


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What is known of a stage."""

    name: str
    title: str  # shown in tables of scores, '' for stages that are not scores
    script: str  # path of its script, as listed
    options: dict  # from an option (`--data_list`) to its value, to a list of values, or to True for a flag
    output: pathlib.Path  # what it writes, where the folder of the run is now
    status: str  # begun, done, failed, interrupted or stands
    seconds: float = 0.0  # of all attempts that led to the last result
    memory: int = 0  # bytes, at most
    gpu_memory: int = 0  # likewise
    resumed: bool = False  # whether the last attempt continued what an earlier one had left

    @property
    def is_done(self):
        """Whether its result is complete."""
        return self.status in ('done', 'stands')


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run's folder records: settings and origin (one line) of the last start, and its stages."""

    settings: dict
    made: str
    stages: list


def lacks_truth(settings):
    """Return whether a pipeline's settings say that there is nothing to score against."""
    return settings.get('VAL_LIST') == '' and not settings.get('FULL_LIST')


class Recorder:
    """Appends events to the record of a run; `write('stage', ...)` adds the time."""

    def __init__(self, run_dir):
        self.path = pathlib.Path(run_dir) / FILE_NAME

    def write(self, event, **values):
        """Append one event."""
        now = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
        line = json.dumps({'event': event, 'time': now, **values})
        with contextlib.suppress(OSError):
            if not self.path.read_bytes().endswith(b'\n'):  # cut short by a kill or a full disk
                line = f'\n{line}'
        append_line(self.path, line)


def read_record(run_dir):
    """Return the Record of a run's folder; DataError: it has none."""
    run_dir = pathlib.Path(run_dir)
    rows = _rows(run_dir / FILE_NAME)
    starts = [row for row in rows if row.get('event') == 'run']
    if not starts:
        old = (run_dir / 'run.txt').is_file()
        raise DataError(f'{run_dir}: ' + (
            'made by an earlier version, which kept no run.jsonl; run its script once more, nothing that is done is '
            'made again' if old else 'holds no readable run.jsonl; name the folder of a run'))
    stages = {}
    for row in rows:
        if row.get('event') == 'stage':
            attempts = stages.setdefault(row['stage'], [])  # that lead to its last result
            if row['status'] == 'begun' and not row.get('resumed'):  # one that starts anew makes the others void
                attempts.clear()
            attempts.append(row)
    # The order of the last start, stages of earlier ones that it left out before them.
    order = [row['stage'] for row in rows[rows.index(starts[-1]):] if row.get('event') == 'stage']
    names = sorted(stages, key=lambda name: order.index(name) if name in order else -1)
    last = starts[-1]
    recorded = pathlib.Path(last.get('run_dir', run_dir))
    made = f'{last["time"]}, SPML {last.get("version", "?")}, PyTorch {last.get("torch", "?")}'
    return Record(last.get('settings', {}), made, [_stage(stages[name], recorded, run_dir) for name in names])


def _rows(path):
    """Return the events of a record; lines that are damaged are skipped."""
    needed = {'run': {'time'}, 'stage': {'stage', 'status', 'script', 'arguments', 'output'}}
    return [row for row in read_json_lines(path, skip_damaged=True)
            if row.get('event') in needed and needed[row['event']] <= row.keys()]


def options_of(arguments):
    """Return dict from option to value, list of values (where given several), or True for a flag."""
    options, current = {}, None
    for word in arguments:
        if word.startswith('--'):
            current = word
            options.setdefault(current, [])
        elif current:
            options[current].append(word)
    return {name: values[0] if len(values) == 1 else values or True for name, values in options.items()}


def _stage(attempts, recorded, run_dir):
    last = attempts[-1]
    def relocated(value):
        if isinstance(value, list):
            return [relocated(item) for item in value]
        path = pathlib.Path(value) if isinstance(value, str) else None
        return str(run_dir / path.relative_to(recorded)) if path and path.is_relative_to(recorded) else value

    options = {name: relocated(value) for name, value in options_of(last['arguments']).items()}
    return StageRecord(
        last['stage'], last.get('title', ''), last['script'], options, run_dir / last['output'], last['status'],
        sum(row.get('seconds', 0) for row in attempts), max(row.get('memory', 0) for row in attempts),
        max(row.get('gpu_memory', 0) for row in attempts), any(row.get('resumed') for row in attempts))
