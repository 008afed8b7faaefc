"""Mistakes that can be found before the first stage of a pipeline: a typo found on the third day costs three days."""
import contextlib
import io
import os
import runpy
import subprocess
import sys

from spml.errors import SpmlError
from spml.names import LITE0
from spml.pipeline.plan import OPTIONS, embedding_keys
from spml.pipeline.recipes import configuration
from spml.utils.files import PROJECT, has_weights, weights_path

# The variable that a pipeline derives a key from.
_VARIABLES = {'network.pretrained': 'PRETRAINED', 'network.stem': 'PRETRAINED',
              'network.backbone_types': 'PRETRAINED', 'train.total_batch_size': 'BATCH'}
_FOLDERS = ('--data_dir', '--gt_dir')
# Scripts that take a setting's words as they are, and whose turn may come after days.
_FREE_OPTIONS = {'pseudo_label.py': 'PSEUDO_LABELS', 'prepare_cam.py': 'CAM_LABELS'}


def check_plan(plan):
    """Check configurations and inputs of all stages; return dict from a stage's name to its configuration.

    SpmlError: a configuration is wrong, or a file is missing that no earlier stage makes.
    """
    configs, made = {}, []
    for stage in plan.stages:
        configs[stage.name] = configuration(stage)
        _require_known_options(plan, stage)
        for option in stage.options:
            path = stage.path(option)
            unused = option == '--snapshot_dir' and '--checkpoint' in stage.options
            if path is not None and path.is_absolute() and path not in stage.outputs and not unused:
                _require(plan, stage, option, path, made)
        if stage.trains:
            _require_weights(plan, stage, configs[stage.name].network.pretrained, made)
        made += stage.outputs
    if plan.settings.get('CHECKPOINT'):
        _require_readable(plan)
    return configs


def overruled(plan):
    """Return a line for each word of the user that another of his words replaces, or that no stage reads."""
    lines, settings = {}, plan.settings
    for word in settings.get('SET_EMBEDDING', '').split():
        name = OPTIONS.get(word.partition('=')[0], '')
        if settings.get(name):
            lines[f'note: {word} overrules {name}={settings[name]}'] = None
    scripts = [stage.script for stage in plan.stages]
    for name, wanted, what in (('SET_CLASSIFIER', 'train_classifier.py', 'a classifier'),
                               ('SET_CAM', 'train_cam.py', 'a classifier of tags (CAM_DIR is not empty)')):
        if settings.get(name) and not any(script.endswith(wanted) for script in scripts):
            lines[f'note: {name} changes nothing: no stage trains {what}'] = None
    for stage in plan.stages:
        given = {}
        for override in stage.overrides:
            key, _, value = override.partition('=')
            if key == 'train.batch_size' and given.get('train.total_batch_size', value) != value:
                key, value = 'train.total_batch_size', f'{value} (train.batch_size)'
            if key in _VARIABLES and given.get(key, value) != value:
                lines[f'note: {stage.name}: {key}={value} overrules {_VARIABLES[key]}={given[key]}'] = None
            given[key] = value
    return list(lines)


def _require_known_options(plan, stage):
    """Raise SpmlError where the parser of one of _FREE_OPTIONS' scripts refuses the options of a stage."""
    script = PROJECT / stage.script
    name = _FREE_OPTIONS.get(script.name)
    # Neither script imports torch.
    build_parser = runpy.run_path(str(script)).get('build_parser') if name and script.is_file() else None
    if build_parser is None:
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            build_parser().parse_args(stage.arguments)
    except SystemExit:
        words = f'{name}={plan.settings[name]}' if plan.settings.get(name) else stage.name
        raise SpmlError(f'{words}: {said.getvalue().strip().rpartition("error: ")[2]}; options: {stage.script} '
                        '--help') from None


def _require(plan, stage, option, path, made):
    if path.exists() or any(path.is_relative_to(output) or output.is_relative_to(path) for output in made):
        return
    name = next((name for name, value in plan.settings.items() if value == str(path)), None)
    what = f'{name}={path}' if name else f'{stage.name}: {option} {path}'
    place = 'DATAROOT' if option in _FOLDERS or option.endswith('_list') else 'the setting'
    raise SpmlError(f'{what}: no such file or folder; set {name or place}'
                    + (', or DATAROOT for all lists,' if name and name.endswith('_LIST') else '') + ' to where it is')


# Torch takes seconds to import, so this is left to another process.
_LOAD = """
import sys
from spml.inference.trained import Trained
from spml.program import execute

execute(lambda: Trained(sys.argv[1], sys.argv[2] or None, sys.argv[3:]).embedder('cpu') and None)
"""


def _require_readable(plan):
    """Raise SpmlError unless CHECKPOINT holds the weights of the embedding network that its first stage describes."""
    path = plan.settings['CHECKPOINT']
    stage = next((stage for stage in plan.stages if str(stage.path('--checkpoint')) == path), None)
    if stage is None:
        return
    words = [path, str(stage.path('--cfg_path') or ''), *stage.overrides]
    ended = subprocess.run([sys.executable, '-c', _LOAD, *words], capture_output=True, text=True, check=False)  # noqa: S603
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f'it cannot be read (status {ended.returncode})']
        raise SpmlError(f'CHECKPOINT={path}: {lines[-1].removeprefix("error: ").removeprefix(f"{path}: ")}')


def _require_weights(plan, stage, pretrained, made):
    if has_weights(pretrained) or any(weights_path(pretrained).is_relative_to(output) for output in made):
        return
    source = 'PRETRAINED' if plan.settings.get('PRETRAINED') == pretrained else 'network.pretrained'
    raise SpmlError(f'{source}={pretrained}: no such weights for {stage.name}; fetch them with '
                    f'pyscripts/data/fetch_weights.py, or set PRETRAINED={LITE0} for those that pip brings, or '
                    'PRETRAINED= for random ones')


def count_processes(settings, configs):
    """Return how many processes run the network: by GPUS and PROCESSES of a pipeline's settings, or the key `gpus`.

    `configs` is a dict from a stage's name to its configuration or None, of which the first one counts. SpmlError: GPUS
    or PROCESSES ask for more GPUs than can be used.
    """
    config = next((config for config in configs.values() if config is not None), None)
    gpus = (settings.get('GPUS') if 'gpus' not in embedding_keys(settings) else '') or (config.gpus if config else '0')
    asked = bool(settings.get('GPUS') or settings.get('PROCESSES'))
    wanted = int(settings.get('PROCESSES') or len(gpus.split(',')))
    if wanted == 1 and not settings.get('GPUS'):
        return 1
    visible = _visible_gpus(settings.get('GPUS'))
    if visible == 0:
        return int(settings.get('PROCESSES') or 1)
    if visible < wanted and asked:
        raise SpmlError(f'GPUS={gpus}: only {visible} of these GPUs can be used, but {wanted} processes are to run; '
                        'name others')
    if visible < wanted:
        print(f'note: gpus={gpus}, but {visible} can be used here: {visible} '
              f'{"process works" if visible == 1 else "processes work"}')
    return min(visible, wanted)


def _visible_gpus(gpus):
    """Return how many GPUs PyTorch can use, asked in a separate process: this one does not import torch."""
    environment = {**os.environ, **({'CUDA_VISIBLE_DEVICES': gpus} if gpus else {})}
    found = subprocess.run([sys.executable, '-c', 'import torch; print(torch.cuda.device_count())'], env=environment,
                           capture_output=True, text=True, check=False)
    return int(found.stdout) if found.returncode == 0 else 0
