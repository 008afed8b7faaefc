"""Runs the stages of `benchmark_speed.py` and prints their tables (Markdown, as `misc/BENCHMARKS.md` has them)."""
import os
import platform

import speed_runs
import torch
from speed_stages import GROWTH, tensor_stages
from tqdm import tqdm

from spml.evaluation.speed import MEBIBYTE, judge, measure, measure_memory, measure_rates, median_times, peak_memory

# What a GPU is needed for; elsewhere a row says so.
GPU_ROWS = {'crf': 'multi scale + CRF of 64 images within 15 % of the slower of network and CRF alone',
            'step': 'training step: deeplab-101, 4 x 512 x 512, within 1.15x of its networks alone'}


def run(device, names):
    """Measure the named stages on a torch.device, print them, and return all figures as JSON can hold them."""
    rates = measure_rates(device)
    machine = describe(device, rates)
    print('\n'.join(f'{key}: {value}' for key, value in machine.items()), end='\n\n')
    rows, step = [], {}
    for name in tqdm([name for name in names if name not in ('growth', 'precision')], desc='stages', leave=False):
        rows += [judge(row) for row in _stage(name, device, rates, step)]
    result = {'machine': machine, 'stages': rows}
    if rows:
        print(stage_table(rows), end='\n\n')
    if 'growth' in names:
        result['growth'] = [row for build, sizes in tqdm(GROWTH, desc='growth', leave=False)
                            for row in growth(build, sizes, device)]
        print(growth_table(result['growth']), end='\n\n')
    if 'precision' in names:
        result['precision'] = speed_runs.precision_rows(device, *_step_size(device))
        print(precision_table(result['precision']), end='\n\n')
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
        seconds, _ = median_times({'fast': case.fast}, {'fast': 5}, device)
        peak = peak_memory(build, changed, sizes, 'fast', device)
        first = rows[0] if rows else {'seconds': seconds['fast'], 'bytes': peak}
        rows.append({'title': case.title, 'doubled': doubled, 'seconds': seconds['fast'], 'bytes': peak,
                     'time_growth': seconds['fast'] / first['seconds'], 'memory_growth': peak / max(1, first['bytes'])})
    return rows


def _stage(name, device, rates, step):
    """Yield the rows of a stage; `step` remembers the row of the training step, which data loading is held against."""
    on_gpu = device.type != 'cpu'
    if name == 'crf':
        yield speed_runs.crf_row(device, rates)
        yield speed_runs.overlap_row(device, rates) if on_gpu else _not_run(GPU_ROWS[name])
    elif name in ('step', 'loader'):
        images, side = _step_size(device)
        if not step:
            step.update(speed_runs.step_row(device, rates, images, side))
        if name == 'loader':
            yield from speed_runs.loader_rows(step['fast'] / images)
            return
        yield step
        if not on_gpu:
            yield _not_run(GPU_ROWS[name])
    else:
        for build, sizes, small, bar, repeats in tensor_stages(on_gpu)[name]:
            build(device, **small).fast()
            row = measure(build(device, **sizes), bar, rates, device, repeats)
            measure_memory(row, build, sizes, small, device)
            yield row


def _step_size(device):
    """Return images and side of the training step: the published ones on a GPU, one image on a CPU."""
    return (1 if device.type == 'cpu' else 4), 512


def _not_run(title):
    return {'title': title, 'bar': None, 'difference': None, 'not_run': True}


def stage_table(rows):
    """Return the table of judged rows."""
    lines = [('stage', 'direct', 'this', 'ratio', 'floor', 'of floor', 'direct MiB', 'this MiB', 'ratio', 'bar', '')]
    for row in rows:
        verdict = 'not run' if row.get('not_run') else row['difference'] or ('met' if row['met'] else 'MISSED')
        lines.append((row['title'], _time(row.get('direct')), _time(row.get('fast')), _ratio(row.get('ratio')),
                      _time(row.get('floor')), _ratio(row.get('of_floor')), _mebibytes(row.get('direct_bytes')),
                      _mebibytes(row.get('fast_bytes')), _ratio(row.get('memory_ratio')), row['bar'],
                      verdict if row['bar'] or row.get('not_run') or row['difference'] else ''))
    return _table(lines)


def growth_table(rows):
    """Return the table of `growth`."""
    return _table([('stage', 'doubled', 'time', 'growth', 'MiB', 'growth'),
                   *((row['title'], row['doubled'] or '', _time(row['seconds']), _ratio(row['time_growth']),
                      _mebibytes(row['bytes']), _ratio(row['memory_growth'])) for row in rows)])


def precision_table(rows):
    """Return the table of `speed_runs.precision_rows`."""
    return _table([('train.precision', 'forward + backward', 'MiB', 'loss', 'cosine of embeddings',
                    'cosine of gradients'),
                   *((row['precision'], _time(row['seconds']), _mebibytes(row['bytes']),
                      f'{100 * row["loss_change"]:+.3f} %', f'{row["embedding_cosine"]:.6f}',
                      f'{row["gradient_cosine"]:.6f}') for row in rows)])


def _table(lines):
    return '\n'.join(['| ' + ' | '.join(lines[0]) + ' |', '|---' * len(lines[0]) + '|',
                      *('| ' + ' | '.join(line) + ' |' for line in lines[1:])])


def _time(seconds):
    if seconds is None:
        return ''
    return f'{seconds:.2f} s' if seconds >= 1 else f'{1000 * seconds:.3g} ms'


def _ratio(value):
    return '' if value is None else f'{value:.2f}x'


def _mebibytes(value):
    return '' if value is None else f'{value / MEBIBYTE:,.0f}'
