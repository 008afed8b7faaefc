"""What each stage reads, stated in one place.

Configuration keys that matter to the result, lists with the files that they name, files and folders given as
options: by content. All other options count as they are written, except those that only say where something is or
how it is launched.
"""
import pathlib

from spml.config import effective, load_config
from spml.data.lists import read_list
from spml.names import PRETRAINED_NAMES, RELATIONS
from spml.recipe import Recipe, bar_of_reading, combine
from spml.utils.model_files import model_path, weights_path

# The result of each script, as `config.effective` knows it.
RESULTS = {'train.py': 'embedding', 'train_classifier.py': 'classifier', 'prototype.py': 'prototypes',
         'inference.py': 'inference', 'pseudo_label.py': 'pseudo labels', 'benchmark_by_mIoU.py': 'classes',
         'benchmark_by_instance.py': 'classes', 'contact_sheet.py': 'classes', 'train_cam.py': 'cam', 'cam.py': 'cams',
         'prepare_cam.py': 'classes'}
# How many columns of its list a script reads: image, semantic, instance; and which read tags and kind as well.
_COLUMNS = {'train.py': 3, 'train_classifier.py': 2, 'prototype.py': 2, 'inference.py': 1, 'pseudo_label.py': 2,
            'train_cam.py': 2, 'cam.py': 2, 'prepare_cam.py': 2}
_READ_TAGS = 'train.py', 'pseudo_label.py', 'train_cam.py', 'cam.py', 'prepare_cam.py'
_BEFORE = {'prepare_cam.py': 'cam_label.py'}  # names in the records of runs that began before they changed
_LISTS = ('--data_list', '--gt_list', '--train_list', '--full_list', '--val_list')
_WITHOUT_EFFECT = frozenset((
    '--cfg_path', '--set', '--data_dir', '--gt_dir', '--save_dir', '--snapshot_dir', '--json', '--out', '--list_out',
    '--num_workers', '--num_processes', '--device', '--resume', '--overwrite', '--accept_changes', '--label_divisor',
    '--embedding'))


def configuration(stage):
    """Return the checked configuration of a stage, or None for one that takes none; ConfigError where it is wrong."""
    path = stage.path('--cfg_path')
    return load_config(path, stage.overrides) if path else None


def recipe_of(stage, digests, run_dir=None, processes=None):
    """Return the Recipe of a stage, as of now; SpmlError: the configuration or a list cannot be used.

    Args:
        stage, digests: plan.Stage, recipe.FileDigests.
        run_dir: folder of the run, which may be moved: files in it are known by their place in it.
        processes: of a training in which each takes `train.batch_size` images: their number. Else None.
    """
    script = pathlib.PurePath(stage.script).name
    values, files = {'script': _BEFORE.get(script, script)}, {}
    config = configuration(stage)
    if config is not None:
        values |= effective_keys(stage, config)
    if processes is not None:
        values['processes'] = processes
    for option, value in stage.options.items():
        path = stage.path(option)
        if option in _LISTS and path:
            files |= _listed(stage, option, path, _columns(stage, script, config), script in _READ_TAGS,
                             digests, run_dir)
        elif option not in _WITHOUT_EFFECT:
            if path and path.is_absolute():
                files[option] = digests(path)
            else:
                values[option] = value
    return Recipe(values, files | _weights(stage, config, digests))


def effective_keys(stage, config, **narrower):
    """Return the keys of a configuration that matter to a stage, as `config.effective` does with further `narrower`."""
    options, result = stage.options, RESULTS.get(pathlib.PurePath(stage.script).name, 'embedding')
    if not stage.trains:
        by_retrieval = 'retrieval' in (options.get('--source'), options.get('--predictor'))
        narrower |= {'multi_scale': '--multi_scale' in options or options.get('--source') == 'retrieval',
                     'whole_image': '--source' in options and not by_retrieval,
                     'clusters': '--kmeans_num_clusters' in options,
                     'head': 'softmax' in options.get('--source', options.get('--predictor', ''))}
    keys = effective(config, result, **narrower)
    if keys.get('network.pretrained', '') not in ('', *PRETRAINED_NAMES):
        del keys['network.pretrained']  # the content of the weights counts
    images = keys.pop('train.total_batch_size', None), keys.pop('train.batch_size', None)
    return {**keys, 'train.batch_size': images[0] or f'{images[1]} each'} if any(images) else keys


def as_known_today(before, now):
    """Return a recipe of an earlier start with the keys that today's has: versions differ in which keys there are.

    A key that only one of them has says nothing: what puts it in or out of use is another key or an option, which both
    have.
    """
    def is_key(name):
        return not name.startswith('--') and name != 'script'

    values = {name: value for name, value in before.values.items() if name in now.values or not is_key(name)}
    added = {name: value for name, value in now.values.items() if is_key(name) and name not in values}
    return Recipe(values | added, before.files)


def _columns(stage, script, config):
    if stage.options.get('--source') == 'densepose_random_walk':
        return 3
    if script == 'train.py' and all(config.train[f'{name}_loss_types'] == 'none' for name in RELATIONS):
        return 2  # without relations nothing is learned from regions
    return _COLUMNS.get(script, 2)


def _listed(stage, option, path, columns, with_tags, digests, run_dir):
    """Return the digests of a list's lines and of the files in its first columns, tags and kinds if they are read."""
    data_dir = stage.path('--data_dir') or stage.path('--gt_dir') or path.parent
    if not (path.is_file() and data_dir.is_dir()):
        return {f'lines of {option}': ''}

    def name(field):
        place = pathlib.PurePath(field)
        return str(place.relative_to(run_dir)) if run_dir and place.is_relative_to(run_dir) else field

    first = 1 if option == '--gt_list' else 0  # the images of a list of truths are not read
    kept = [([name(field) for field in (*entry.fields[first:columns], *entry.fields[3:] * with_tags)],
             (entry.image, entry.semantic, entry.regions)[first:columns])
            for entry in read_list(path, data_dir, unique_names=False)]
    files = {f'lines of {option}': combine(' '.join(fields) for fields, _ in kept)}
    return files | {field: digests(file) for fields, paths in bar_of_reading(kept)
                    for field, file in zip(fields, paths, strict=False) if file is not None}


def _weights(stage, config, digests):
    """Return the digest of the weights that a stage starts from or computes with; {} where there are none."""
    if config is None or RESULTS[pathlib.PurePath(stage.script).name] == 'classes':
        return {}
    if stage.trains:
        name = config.network.pretrained or str(stage.path('--embedding') or '')
        path = weights_path(name) if name not in ('', *PRETRAINED_NAMES) else None
        return {'weights': digests(path)} if path else {}
    if stage.path('--checkpoint'):
        return {}  # an option like any other
    path = model_path(stage.path('--snapshot_dir'), config.train.max_iteration - 1)
    return {'weights': digests(path)}
