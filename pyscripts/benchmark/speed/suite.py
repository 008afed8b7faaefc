"""Runs the stages of this benchmark and prints their tables (Markdown, as in `misc/BENCHMARKS.md`)."""
import os
import platform
import sys

import runs
import torch
from measure import MEBIBYTE, Bar, judge, measure, measure_rates, peak_memory, run_in_turn
from stages import GROWTH, INPUTS, tensor_stages
from tqdm import tqdm

# What a GPU is needed for; elsewhere a row says so.
GPU_ROWS = {'crf': 'multi scale + CRF of 64 images within 15 % of the slower of network and CRF alone',
            'step': 'training step: deeplab-101, 4 x 512 x 512, within 1.15x of its networks alone'}
STAGE_HEADER = ('stage', 'direct', 'this', 'ratio', 'floor', 'of floor', 'direct MiB', 'this MiB', 'ratio', 'bar',
                'result')


def run(device, names):
    """Measure the named stages on a torch.device; print every row when it is known; return all as JSON can hold it."""
    rates = measure_rates(device)
    result = {'machine': describe(device, rates)}
    print('\n'.join(f'{key}: {value}' for key, value in result['machine'].items()))
    stages = tqdm([name for name in names if name not in ('growth', 'precision')], desc='stages', leave=False)
    step = {}
    rows = (judge(row) for name in stages for row in _stage(name, device, rates, step))
    result['stages'] = print_table(STAGE_HEADER, rows, stage_line)
    if 'growth' in names:
        rows = (row for case in tqdm(GROWTH, desc='growth', leave=False) for row in growth(*case, device))
        result['growth'] = print_table(('stage', 'doubled', 'time', 'growth', 'MiB', 'growth'), rows, growth_line)
    if 'precision' in names:
        rows = runs.precision_rows(device, *_step_size(device))
        result['precision'] = print_table(('train.precision', 'forward + backward', 'MiB', 'loss',
                                           'cosine of embeddings', 'cosine of gradients'), rows, precision_line)
    return result


def describe(device, rates):
    """Return what the figures depend on: machine, software, rates."""
    module = getattr(torch, device.type)
    name = module.get_device_name() if hasattr(module, 'get_device_name') else platform.processor() or 'CPU'
    return {'device': f'{name}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads',
            'software': f'Python {platform.python_version()}, PyTorch {torch.__version__}',
            'rates': f'{rates.operations / 1e9:,.0f} GFLOP/s in products, {rates.exponentials / 1e9:.2f} G '
                     f'exponentials/s, {rates.bytes / 1e9:.1f} GB/s in copies'}


def growth(build, sizes, device):
    """Return rows of time and memory of the fast version: at `sizes`, and with each of the numbers doubled in turn."""
    rows = []
    for doubled in (None, *(name for name, value in sizes.items() if isinstance(value, int))):
        changed = sizes if doubled is None else {**sizes, doubled: 2 * sizes[doubled]}
        case = build(device, **changed)
        seconds, _ = run_in_turn({'fast': case.fast}, {'fast': 9}, device)
        peak = peak_memory(build, changed, sizes, 'fast', device)
        first = rows[0] if rows else {'seconds': seconds['fast'], 'bytes': peak}
        rows.append({'title': case.title, 'doubled': doubled, 'seconds': seconds['fast'], 'bytes': peak,
                     'time_growth': seconds['fast'] / first['seconds'], 'memory_growth': peak / max(1, first['bytes'])})
    return rows


def _stage(name, device, rates, step):
    """Yield the rows of a stage; `step` remembers the row of the training step, which data loading is held against."""
    on_gpu = device.type != 'cpu'
    if name == 'crf':
        yield runs.crf_row(device, rates)
        yield runs.overlap_row(device) if on_gpu else _not_run(GPU_ROWS[name])
    elif name == 'pipeline':
        yield from runs.pipeline_rows(device, images=64 if on_gpu else 1, num_workers=16 if on_gpu else 0)
    elif name in ('step', 'loader'):
        images, side = _step_size(device)
        if not step:
            step.update(runs.step_row(device, rates, images, side))
        if name == 'loader':
            yield from runs.loader_rows(step['fast'] / images, crop=side)
            return
        yield step
        if not on_gpu:
            yield _not_run(GPU_ROWS[name])
    else:
        for build, sizes, small, bar, repeats in tensor_stages(on_gpu)[name]:
            build(device, **small).fast()
            row = measure(build(device, **sizes), bar, rates, device, repeats)
            for version in ('fast', 'direct'):
                row[f'{version}_bytes'] = peak_memory(build, sizes, small, version, device)
            yield {**row, 'memory_ratio': row['direct_bytes'] / max(1, row['fast_bytes'])}
            yield slowest_inputs(build, sizes, device, repeats[0])


def slowest_inputs(build, sizes, device, repeats):
    """Return the row of the kind of inputs on which the fast version takes longest, against that of all other rows."""
    cases = {inputs: build(device, **sizes, inputs=inputs) for inputs in INPUTS}
    seconds, _ = run_in_turn({inputs: case.fast for inputs, case in cases.items()}, dict.fromkeys(cases, repeats),
                             device)
    slowest = max(seconds, key=seconds.get)
    return {'title': f'slowest of {", ".join(INPUTS)} inputs: {slowest}', 'fast': seconds[slowest],
            'direct': seconds[INPUTS[0]], 'ratio': seconds[INPUTS[0]] / seconds[slowest], 'bar': Bar(0.5),
            'difference': None}


def _step_size(device):
    """Return images and side of the training step: the published ones on a GPU, one small image on a CPU."""
    return (1, 256) if device.type == 'cpu' else (4, 512)


def _not_run(title):
    return {'title': title, 'bar': None, 'difference': None, 'not_run': True}


def print_table(header, rows, line):
    """Print a table of `line(row)`, each when the iterator yields it; return the list of rows (none: no table)."""
    done = []
    for row in rows:
        if not done:
            tqdm.write(f'\n| {" | ".join(header)} |\n{"|---" * len(header)}|')
        tqdm.write(f'| {" | ".join(line(row))} |')
        sys.stdout.flush()
        done.append(row)
    return done


def stage_line(row):
    """Return the cells of a judged row."""
    verdict = 'not run' if row.get('not_run') else row['difference'] or ('met' if row['met'] else 'MISSED')
    return (row['title'], _time(row.get('direct')), _time(row.get('fast')), _ratio(row.get('ratio')),
            _time(row.get('floor')), _ratio(row.get('of_floor')), _mebibytes(row.get('direct_bytes')),
            _mebibytes(row.get('fast_bytes')), _ratio(row.get('memory_ratio')), row['bar'],
            verdict if row['bar'] or row.get('not_run') or row['difference'] else 'no bar')


def growth_line(row):
    """Return the cells of a row of `growth`."""
    return (row['title'], row['doubled'] or '', _time(row['seconds']), _ratio(row['time_growth']),
            _mebibytes(row['bytes']), _ratio(row['memory_growth']))


def precision_line(row):
    """Return the cells of a row of `runs.precision_rows`."""
    return (row['precision'], _time(row['seconds']), _mebibytes(row['bytes']), f'{100 * row["loss_change"]:+.3f} %',
            f'{row["embedding_cosine"]:.6f}', f'{row["gradient_cosine"]:.6f}')


def _time(seconds):
    if seconds is None:
        return ''
    return f'{seconds:.2f} s' if seconds >= 1 else f'{1000 * seconds:.3g} ms'


def _ratio(value):
    return '' if value is None else f'{value:.2f}x'


def _mebibytes(value):
    return '' if value is None else f'{value / MEBIBYTE:,.0f}'
