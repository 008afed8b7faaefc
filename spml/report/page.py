"""Putting a page together: what each section shows of the runs, and the template it is written with."""
import jinja2
import numpy as np
import plotly.offline
from tqdm import tqdm

from spml.config.schema import REQUIRED, SCHEMA, Derived
from spml.data.lists import read_list
from spml.names import __version__
from spml.pipeline.record import NO_TRUTH
from spml.report import charts, pictures
from spml.report.prototypes import prototype_statistics
from spml.utils.formats import write_text
from spml.utils.maps import evenly
from spml.visualization.legend import shown_names
from spml.visualization.palette import legend_entries

_SECTIONS = {'scores': 'Scores', 'confusion': 'Confusion', 'images': 'Images', 'curves': 'Curves',
             'prototypes': 'Segments and prototypes', 'costs': 'Time and memory', 'settings': 'Settings'}
# Characters; beyond it, the number of runs is shown instead of their names.
_LONGEST_TITLE = 60
# Shown first, if they are there; every other metric follows.
_METRICS = ('loss', 'accuracy')


def write_page(runs, path, data_dir=None, num_images=3, segmenters=None):
    """Write the page of `run_folder.Run`s, at least one, as an HTML file.

    `data_dir` is the folder that the paths in the lists start from, None the one each run names. It shows `num_images`
    of the best, of the worst and of the other images. `segmenters` is a dict from the names of some runs to a
    `spml.api.Segmenter` for the training images shown.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader('spml.report', ''), autoescape=True,
                                     undefined=jinja2.StrictUndefined)
    content = _contents(runs, data_dir, num_images, segmenters or {})
    names = ' and '.join(run.name for run in runs)
    if len(runs) > 1 and len(names) > _LONGEST_TITLE:
        names = f'{len(runs)} runs'
    text = environment.get_template('page.html').render(
        title=f'SPML: {names}', runs=runs, draw=_draw, version=__version__, plotly=plotly.offline.get_plotlyjs(),
        no_truth=NO_TRUTH, sections=[(key, name) for key, name in _SECTIONS.items() if content.get(key)],
        **content)
    write_text(path, text)


def _draw(chart):
    # Without the library, which the page holds once.
    return chart.figure.to_html(full_html=False, include_plotlyjs=False,
                                config={'responsive': True, 'displayModeBar': False})


def _contents(runs, data_dir, num_images, segmenters):
    scored = [run for run in runs if run.scores]
    names = runs[0].class_names
    truths = [_truths(run, data_dir) for run in runs]
    statistics = [(run, found) for run, truth in zip(runs, truths, strict=True)
                  if (found := _statistics(run, truth['predictions'] | truth['pseudo_labels']))]
    settings = _settings(runs)
    return {
        'scores': [charts.score_bars(scored), charts.class_bars(scored, names)] if scored else [],
        'confusion': [charts.confusion_matrix(run, np.array(run.scores[-1].summary['confusion']), run.class_names)
                      for run in scored if 'confusion' in run.scores[-1].summary],
        'images': _images(runs, truths[0], data_dir or runs[0].data_dir, num_images, segmenters),
        'legend': [('rgb({},{},{})'.format(*colour), name)
                   for colour, name in legend_entries(_as_in_pictures(names), runs[0].color_map)],
        'curves': _curves(runs),
        'prototypes': statistics, 'prototype_table': _prototype_table(statistics),
        'planes': [charts.prototype_plane(run, found, run.class_names) for run, found in statistics],
        'class_tables': [(run.name, charts.Table(
            ['class', 'prototypes', 'cosine to class mean', 'nearest'],
            [[run.class_names[index], number, f'{cosine:.3f}', f'{100 * nearest:.1f} %']
             for index, number, cosine, nearest in found.classes])) for run, found in statistics],
        'costs': charts.cost_bars(runs), 'settings': settings, 'differences': _differences(runs, settings)}


def _as_in_pictures(names):
    """Return names of classes; those that pictures cannot show have what these show in their place behind them."""
    return [name if name == shown else f'{name} ({shown})'
            for name, shown in zip(names, shown_names(names), strict=True)]


def _curves(runs):
    """Return (training, charts) for each training of any run."""
    result = []
    for training in dict.fromkeys(training for run in runs for training in run.metrics):
        metrics = dict.fromkeys([*_METRICS, *(key for run in runs for row in run.metrics.get(training, [])
                                              for key in row if key != 'iteration')])
        found = [chart for metric in metrics if (chart := charts.curves(runs, training, metric))]
        if found:
            result.append((training, found))
    return result


def _truths(run, data_dir):
    """Return for `predictions` and `pseudo_labels` a dict from the names of the images to their truth.

    Two images of one name may be in the two lists; prototypes are those of training images.
    """
    folder = data_dir or run.data_dir
    return {what: pictures.read_truths(maps.truth_list, folder) if (maps := getattr(run, what)) and folder else {}
            for what in ('predictions', 'pseudo_labels')}


def _images(runs, truths, folder, num_images, segmenters):
    """Return (heading, note, {group: rows}) for the validation and the training images of the first run."""
    first, images, shown = runs[0], [], set()
    if folder is None:
        print(f'note: {first.path}: the folder of its data is not there, so no images are shown; give --data_dir')
        return []
    if first.pseudo_labels is not None:  # what is predicted of these without truth is shown beside them
        shown = {entry.name for entry in read_list(first.pseudo_labels.image_list, folder, unique_names=False)}
    predicted = {entry.name: entry.image.resolve() for entry in read_list(
        first.predictions.image_list, folder, unique_names=False)} if first.predictions is not None else {}
    for maps in (first.predictions, first.pseudo_labels):
        if maps is None:
            continue
        is_training = maps is first.pseudo_labels
        entries = {entry.name: entry for entry in read_list(maps.image_list, folder, unique_names=False)}
        if not is_training and maps.truth_list is None:
            entries = {name: entry for name, entry in entries.items() if name not in shown}
        part = 'Training images' if is_training else 'Other images' if maps.truth_list is None else 'Validation images'
        of_these = truths['pseudo_labels' if is_training else 'predictions']
        known = {name: of_these[name] for name in entries.keys() & of_these.keys()}
        note, chosen = _choose(first, maps, entries.values(), known, num_images)
        flat = [(group, *pair) for group, pairs in chosen for pair in pairs]
        groups = {group: [] for group, _, _ in flat}
        for group, entry, value in tqdm(flat, desc=part.lower(), unit='image', dynamic_ncols=True):
            image = entry.image.resolve()
            is_predicted = predicted.get(entry.name, image) == image  # two images may have one name
            groups[group].append(_row(runs, entry, value, known, is_training, is_predicted, segmenters))
        if is_training and segmenters:
            note += ' Predictions are those of the last weights at a single scale.'
        if groups or maps.truth_list is not None:
            images.append((part, note, groups))
    return images


def _choose(run, maps, entries, truths, count):
    """Return a note and (group, [(entry, value)]) of the images to show, `count` a group.

    The value is the image's mean IoU; of maps that are not scored it is None, and there is one group of `3 * count`.
    """
    ranked = pictures.scored_images(entries, truths, maps.folder, len(run.class_names))
    if ranked or maps.truth_list is not None:
        note = (f'Ranked by the mean IoU of {run.name}, {maps.title}, over the classes that occur in an image; '
                f'{len(ranked)} images.')
        return note, list(zip(('Best', 'Worst', 'Random'), pictures.choose(ranked, count), strict=True))
    there = [entry for entry in entries if (maps.folder / f'{entry.name}.png').is_file()]
    chosen = [(there[index], None) for index in evenly(len(there), 3 * count)] if count else []
    return f'Not ranked, for they are not scored; {len(there)} images.', [('Some', chosen)]


def _row(runs, entry, value, truths, is_training, is_predicted, segmenters):
    labels = [('weak label', entry.semantic)] if is_training else []
    for run in runs:
        suffix = f', {run.name}' if len(runs) > 1 else ''
        if is_training:
            labels.append((f'pseudo label{suffix}', _map_of(run.pseudo_labels, entry)))
        label = _map_of(run.predictions, entry) if is_predicted else None
        if is_training and run.name in segmenters:
            label = segmenters[run.name].predict(entry.image).labels
        labels.append((f'prediction{suffix}', label))
    if truths:
        labels.append(('truth', truths.get(entry.name)))
    heading = entry.name if value is None else f'{entry.name}: {100 * value:.1f} %'
    return pictures.make_row(heading, entry, labels, runs[0].class_names, runs[0].color_map)


def _map_of(maps, entry):
    return maps and maps.folder / f'{entry.name}.png'


def _statistics(run, truths):
    """Return the statistics of a run's first prototypes, the oracle's where there is one; None without any."""
    found = (prototype_statistics(folder, truths, len(run.class_names)) for folder in run.prototypes)
    return next((statistics for statistics in found if statistics is not None), None)


def _prototype_table(statistics):
    rows = []
    for run, found in statistics:
        count = sum(number for _, number, _, _ in found.classes)
        mean = [sum(figures[column] * figures[1] for figures in found.classes) / max(count, 1) for column in (2, 3)]
        low, middle, high = found.per_image
        rows.append([run.name, f'{found.num_images} of {found.of_images}', found.num_prototypes, found.dimension,
                     f'{low} / {middle:.1f} / {high}',
                     ' / '.join(f'{value:.0f}' for value in found.pixels) if found.pixels else '-',
                     '-' if found.purity is None else f'{100 * found.purity:.1f} %', f'{mean[0]:.3f}',
                     f'{100 * mean[1]:.1f} %'])
    return charts.Table(['run', 'images', 'segments', 'D', 'per image: least / mean / most',
                         'pixels: 10 % / 50 % / 90 %', 'purity', 'cosine to class mean', 'nearest'], rows)


def _settings(runs):
    described = [run.described() for run in runs]
    keys = dict.fromkeys(key for settings in described for key in settings)
    return charts.Table(['', *(run.name for run in runs)],
                        [[key, *(_show(settings.get(key)) for settings in described)] for key in keys])


def _differences(runs, settings):
    """Return the rows in which runs differ or, of one run alone, the configuration keys that are not the default."""
    if len(runs) > 1:
        return settings._replace(rows=[row for row in settings.rows if len(set(row[1:])) > 1])
    rows = []
    for training, config in runs[0].configs.items():
        for key, value in config.items():
            default = SCHEMA[key].default if key in SCHEMA else REQUIRED
            if default is not REQUIRED and not isinstance(default, Derived) and value != default:
                rows.append([f'{training}: {key}', _show(value), _show(default)])
    return charts.Table(['', runs[0].name, 'default'], rows)


def _show(value):
    return '-' if value is None or value == '' else str(value)
