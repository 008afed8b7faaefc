"""Charts of runs, drawn by Plotly: each with a text that says what it shows and, mostly, a table of its numbers.

Backgrounds are transparent, and the colours of the series can be told from white and from near-black alike (a contrast
of at least 3.8); the page's style sheet colours axes and text for light and dark.
"""
import textwrap
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from spml.visualization.palette import class_colours

SERIES = ('#2f7fd1', '#d1591f', '#1f9470', '#b65fa8', '#a67c00', '#6a7bd6')
_DASHES = ('solid', 'dash', 'dot', 'dashdot')
_SYMBOLS = ('circle', 'square', 'diamond', 'cross', 'x', 'triangle-up', 'triangle-down', 'pentagon', 'star')
_OUTLINE = '#8a8f98'
_CLEAR = 'rgba(0,0,0,0)'
# Steps over which a noisy curve is averaged, as a share of its length.
_SMOOTHING = 0.05
# Characters of a line; on a phone, longer ones would leave no room for the chart.
_LABEL_WIDTH = 26


class Table(NamedTuple):
    """Text cells under a header."""

    header: list
    rows: list


class Chart(NamedTuple):
    """A Plotly figure with its title, a text that replaces it, and the table of its numbers (or None)."""

    title: str
    figure: go.Figure
    text: str
    table: Table | None = None


def score_bars(runs):
    """Bars of every score of every run, in the order of the pipeline."""
    titles = {}
    for run in runs:
        for score in run.scores:
            titles.setdefault(score.name, score.title)
    values = [{titles[score.name]: 100 * score.summary['mean_iou'] for score in run.scores} for run in runs]
    categories = list(dict.fromkeys(titles.values()))
    return _bars('Mean IoU of each stage, in %', [run.name for run in runs], categories, values)


def class_bars(runs, class_names):
    """Bars of the last score's IoU by class, of the runs that have these classes."""
    # By place: a score that was told no names calls the classes 0, 1, ...
    scores = [list(run.scores[-1].summary.get('iou', {}).values()) for run in runs]
    values = [{name: 100 * value for name, value in zip(class_names, score, strict=True)}
              if len(score) == len(class_names) else {} for score in scores]
    titles = sorted({run.scores[-1].title for run in runs})
    return _bars(f'IoU by class, in %: {" and ".join(titles)}', [run.name for run in runs], class_names, values)


def _bars(title, names, categories, values):
    """Return horizontal bars: for each named series a dict from category to number; what is missing has no bar."""
    labels = [_in_lines(category) for category in categories]
    figure = go.Figure()
    for index, (name, numbers) in enumerate(zip(names, values, strict=True)):
        figure.add_bar(x=[numbers.get(category) for category in categories], y=labels, name=_in_lines(name),
                       orientation='h', marker_color=SERIES[index % len(SERIES)],
                       hovertemplate='%{y}: %{x:.1f}<extra>%{fullData.name}</extra>')
    most_lines = max(label.count('<br>') + 1 for label in labels)
    height = 70 + len(labels) * (12 + 14 * max(len(names), most_lines)) + (24 * len(names) if len(names) > 1 else 0)
    _style(figure, height, legend=len(names) > 1)
    # Plotly stacks from below; the page reads from above.
    figure.update_yaxes(autorange='reversed', automargin=True)
    figure.update_xaxes(rangemode='tozero')
    texts = []
    for name, numbers in zip(names, values, strict=True):
        known = {category: numbers[category] for category in categories if category in numbers}
        if known:
            low, high = min(known, key=known.get), max(known, key=known.get)
            texts.append(f'{name}: from {known[low]:.1f} ({low}) to {known[high]:.1f} ({high})')
    rows = [[category, *(_number(numbers.get(category)) for numbers in values)] for category in categories]
    return Chart(title, figure, f'Bars of {title}. {"; ".join(texts)}.', Table(['', *names], rows))


def curves(runs, training, metric):
    """Return one metric of a training over its iterations, a line per run; None where no run has it."""
    figure, texts = go.Figure(), []
    for index, run in enumerate(runs):
        points = [(row['iteration'], row[metric]) for row in run.metrics.get(training, [])
                  if isinstance(row.get(metric), (int, float))]
        if not points:
            continue
        x, y = (np.array(values, float) for values in zip(*points, strict=True))
        smooth = running_mean(y, max(1, round(_SMOOTHING * len(y))))
        colour = SERIES[index % len(SERIES)]
        if metric != 'lr':
            figure.add_scatter(x=x, y=y, mode='lines', line={'color': colour, 'width': 1}, opacity=0.45,
                               showlegend=False, hoverinfo='skip')
        figure.add_scatter(x=x, y=smooth, mode='lines', name=_in_lines(run.name), hovertemplate='%{x}: %{y:.4g}',
                           line={'color': colour, 'width': 2, 'dash': _DASHES[index % len(_DASHES)]})
        texts.append(f'{run.name}: {smooth[0]:.3g} at iteration {x[0]:.0f}, {smooth[-1]:.3g} at {x[-1]:.0f}')
    if not texts:
        return None
    _style(figure, 230, legend=len(texts) > 1)
    figure.update_xaxes(title_text='iteration')
    title = {'lr': 'learning rate', 'loss': 'loss (all together)'}.get(metric, metric)
    return Chart(title, figure, f'Curve of {training}, {title}. {"; ".join(texts)}.')


def running_mean(values, width):
    """Return the mean of the last `width` values at each place, of fewer at the start."""
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.float64)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def confusion_matrix(run, matrix, class_names):
    """Return the heat map of an (C, C + 1) confusion matrix, each row as shares of its true class."""
    # What is predicted but no class gets its column only where it occurs.
    columns = [*class_names, 'no class'] if matrix[:, -1].any() else list(class_names)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = 100 * matrix[:, :len(columns)] / np.maximum(totals, 1)
    few = len(columns) <= 10
    figure = go.Figure(go.Heatmap(
        z=shares, x=columns, y=list(class_names), zmin=0, zmax=100, showscale=not few, xgap=1, ygap=1,
        colorscale=[[0, 'rgba(47,127,209,0.04)'], [1, 'rgba(47,127,209,1)']], texttemplate='%{z:.0f}' if few else None,
        hovertemplate='true %{y}, predicted %{x}: %{z:.1f} %<extra></extra>'))
    _style(figure, 130 + 26 * len(class_names), legend=False)
    figure.update_yaxes(autorange='reversed', automargin=True, title_text='truth', showgrid=False)
    figure.update_xaxes(automargin=True, title_text='prediction', tickangle=-60, showgrid=False)
    right, wrong = np.diagonal(shares), shares[:, :len(class_names)].copy()
    np.fill_diagonal(wrong, -1)
    truth, prediction = np.unravel_index(wrong.argmax(), wrong.shape)
    text = (f'Confusion matrix of {run.name}, rows in % of the true class. Right most often: '
            f'{class_names[right.argmax()]} ({right.max():.0f} %); least often: {class_names[right.argmin()]} '
            f'({right.min():.0f} %). Most frequent mistake: {wrong[truth, prediction]:.0f} % of {class_names[truth]} '
            f'taken for {class_names[prediction]}.')
    rows = [[name, *(f'{value:.1f}' for value in row)] for name, row in zip(class_names, shares, strict=True)]
    return Chart(f'{run.name}: {run.scores[-1].title}', figure, text, Table(['truth \\ prediction, %', *columns], rows))


def prototype_plane(run, statistics, class_names):
    """Return the scatter of prototypes in the plane of their first two principal components, coloured by class."""
    figure, colours = go.Figure(), class_colours(len(class_names), run.color_map)
    for index in np.unique(statistics.labels):
        points = statistics.plane[statistics.labels == index]
        figure.add_scatter(
            x=points[:, 0], y=points[:, 1], mode='markers', name=class_names[index],
            hovertemplate=f'{class_names[index]}<extra></extra>',
            marker={'color': 'rgb({},{},{})'.format(*colours[index]), 'symbol': _SYMBOLS[index % len(_SYMBOLS)],
                    'size': 7, 'line': {'color': _OUTLINE, 'width': 1}})
    _style(figure, 420, legend=True)
    figure.update_xaxes(title_text=f'first component ({100 * statistics.explained[0]:.0f} % of the variance)')
    figure.update_yaxes(title_text=f'second ({100 * statistics.explained[1]:.0f} %)')
    text = (f'Scatter plot of {len(statistics.labels)} prototypes of {run.name} in the plane of their first two '
            f'principal components, which hold {100 * sum(statistics.explained):.0f} % of the variance, in the colours '
            'of their classes.')
    return Chart(f'{run.name}: prototypes, first two principal components', figure, text)


def cost_bars(runs):
    """Return the seconds of each stage as bars, with memory in the table; None where no run recorded them."""
    names = list(dict.fromkeys(stage for run in runs for stage in run.costs))
    if not names:
        return None
    values = [{name: stage.seconds for name, stage in run.costs.items()} for run in runs]
    chart = _bars('Seconds of each stage', [run.name for run in runs], names, values)
    # Seconds, MiB and, where a GPU was used, its MiB: a row a stage, then all together.
    columns = [('s', lambda stages: sum(stage.seconds for stage in stages)),
               ('MiB', lambda stages: max(stage.memory for stage in stages) / 2**20)]
    if any(stage.gpu_memory for run in runs for stage in run.costs.values()):
        columns.append(('GPU MiB', lambda stages: max(stage.gpu_memory for stage in stages) / 2**20))
    groups = [(name, [[run.costs[name]] if name in run.costs else [] for run in runs]) for name in names]
    groups.append(('all', [list(run.costs.values()) for run in runs]))
    rows = [[name, *(_number(compute(stages) if stages else None) for stages in group for _, compute in columns)]
            for name, group in groups]
    header = ['stage', *(f'{run.name}: {title}' for run in runs for title, _ in columns)]
    return chart._replace(table=Table(header, rows))


def _style(figure, height, legend):
    figure.update_layout(
        height=height, margin={'l': 10, 'r': 10, 't': 10, 'b': 10}, paper_bgcolor=_CLEAR, plot_bgcolor=_CLEAR,
        showlegend=legend, legend={'orientation': 'h', 'y': 1.0, 'yanchor': 'bottom', 'x': 0}, dragmode=False,
        font={'family': 'system-ui, sans-serif', 'size': 12},
        hoverlabel={'bgcolor': '#22272e', 'bordercolor': _OUTLINE, 'font': {'color': '#ffffff'}})
    figure.update_xaxes(automargin=True, fixedrange=True, zeroline=False)
    figure.update_yaxes(automargin=True, fixedrange=True, zeroline=False)


def _in_lines(text):
    return '<br>'.join(textwrap.wrap(text, _LABEL_WIDTH))


def _number(value):
    return '-' if value is None else f'{value:.1f}'
