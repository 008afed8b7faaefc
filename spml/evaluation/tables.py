"""Tables of results as CSV and Markdown, and the mean and the spread that they show."""
import csv
import io
import statistics


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
