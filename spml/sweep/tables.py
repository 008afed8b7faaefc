"""The results of a sweep's runs, and their tables: mean and spread over the seeds, and every single run."""
import contextlib
import csv
import io
import itertools
import statistics

from spml.errors import DataError
from spml.evaluation.scores import read_score
from spml.pipeline.record import read_record
from spml.utils.formats import read_json_lines, write_text


def mean_and_spread(values):
    """Return the mean of some numbers and their sample standard deviation (n - 1); None where there is none."""
    return statistics.fmean(values) if values else None, statistics.stdev(values) if len(values) > 1 else None


def plus_minus(mean, spread, digits=2):
    """Return `46.50 ± 1.20`; without the spread if it is None, `-` without a mean."""
    return ' ± '.join(f'{value:.{digits}f}' for value in (mean, spread) if value is not None) or '-'


def to_csv(header, rows):
    """Return a table as CSV text; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator='\n').writerows([header, *rows])
    return out.getvalue()


def to_markdown(header, rows):
    """Return a table as Markdown text, its columns padded so that it reads as plain text too."""
    cells = [[str(cell).replace('|', '\\|') for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + ' |'
             for row in cells]
    return '\n'.join([lines[0], '|' + '|'.join('-' * (width + 2) for width in widths) + '|', *lines[1:]]) + '\n'


def read_results(sweep, run):
    """Return a dict from a score's name to its value: mean IoU in % of a pipeline, the last metrics of a training.

    DataError: a file of the run is damaged, or the run does not have the scores that the sweep is to show.
    """
    folder = sweep.out / run.name
    if sweep.train:
        rows = read_json_lines(folder / 'metrics.jsonl')
        results = {key: value for key, value in (rows[-1] if rows else {}).items() if key not in ('iteration', 'lr')}
    else:
        stages = []
        with contextlib.suppress(DataError):  # without a record, the order of the pipeline is not known
            stages = [stage.name for stage in read_record(folder).stages]
        files = sorted(sorted((folder / 'scores').glob('*.json')),
                       key=lambda file: stages.index(file.stem) if file.stem in stages else -1)
        results = {file.stem: 100 * read_score(file)['mean_iou'] for file in files}
    missing = [name for name in sweep.scores or [] if name not in results]
    if missing or not results:
        raise DataError(f'{folder}: has no score {missing[0] if missing else "at all"}; it has '
                        f'{", ".join(results) or "none"}')
    return {name: results[name] for name in sweep.scores or results}


def write_tables(sweep, results):
    """Write `table.csv`, `table.md` and `runs.csv`, and return the Markdown; `results`: of the finished runs, by name.

    It has a row for the runs that differ in the seed alone: what they are, how many seeds are done, unless all are, and
    each score's mean ± spread over them.
    """
    columns = list(sweep.runs[0].values)
    names = list(dict.fromkeys(name for values in results.values() for name in values))
    titles = [(sweep.scores or {}).get(name, name.removeprefix('score_')) for name in names]
    digits = 2 if sweep.train else 1
    exact, shown, complete = [], [], True
    for values, group in itertools.groupby(sweep.runs, key=lambda run: run.values):
        group = list(group)
        done = [results[run.name] for run in group if run.name in results]
        figures = [mean_and_spread([result[name] for result in done if name in result]) for name in names]
        exact.append([*values.values(), len(done), *(number for pair in figures for number in pair)])
        shown.append([*values.values(), len(done), *(plus_minus(*pair, digits) for pair in figures)])
        complete = complete and len(done) == len(group)
    write_text(sweep.out / 'table.csv', to_csv(
        [*columns, 'seeds', *(f'{name}_{figure}' for name in names for figure in ('mean', 'std'))], exact))
    header = [*columns, 'seeds', *titles]
    if header[0] == 'title':
        header[0] = 'run' if sweep.train else 'mean IoU in %'
    if complete:
        header, *shown = ([*row[:len(columns)], *row[len(columns) + 1:]] for row in (header, *shown))
    text = to_markdown(header, shown)
    write_text(sweep.out / 'table.md', text)
    write_text(sweep.out / 'runs.csv', to_csv(['run', *columns, 'seed', *names], [
        [run.name, *run.values.values(), run.seed, *(results.get(run.name, {}).get(name) for name in names)]
        for run in sweep.runs]))
    return text
