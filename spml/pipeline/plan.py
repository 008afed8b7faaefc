"""What a pipeline's bash script lists, its settings and its stages in order, and what the stages are told by settings.

The list comes as words that end in NUL: first the number of words of an item, then these words, `setting NAME VALUE`,
`configurations FOLDER CLASSIFIER PUBLISHED [JOINT]` or `stage TITLE NAME OUTPUT SCRIPT ARGUMENT...`, in any order. Each
stage is a plain call of a script. A word that begins with @ stands for the words that its settings decide, and is
replaced here, so that a command line is complete where it is checked, run, printed and recorded. An edited script may
use any of them, or write the words out:

    @list        --data_dir with DATAROOT, and --data_list, whose file follows
    @embedding   --cfg_path with the embedding's configuration, and --set: PRETRAINED, BATCH, SET_EMBEDDING
    @stage1      @embedding, and where its weights are: CHECKPOINT, or stage1 in the folder of the run
    @classes     @embedding, NUM_CLASSES and CLASS_NAMES: number, names and colours of the classes
    @classifier  as @embedding, of the classifier: what PRETRAINED says of the network, SET_CLASSIFIER
    @cam         as @embedding, of the classifier of tags: PRETRAINED, BATCH, SET_CAM
    @clusters    CLUSTERS
    @cam_labels  CAM_LABELS
    @demo        DEMO_OPTIONS
    @output      what the stage writes

SET_EMBEDDING, SET_CLASSIFIER and SET_CAM come last in each, so the user's word is the last one.
"""
import dataclasses
import os
import pathlib
import re

from spml.config import load_config
from spml.errors import SpmlError
from spml.names import BACKBONES, LITE0, PRETRAINED_NAMES, TORCHVISION, split_architecture
from spml.pipeline.record import options_of

# Variables that become options of scripts, unless SET_EMBEDDING gives the key.
OPTIONS = {'gpus': 'GPUS', 'dataset.num_classes': 'NUM_CLASSES', 'dataset.class_names': 'CLASS_NAMES'}
_POSITIVE = r'[1-9]\d*'
# What settings that no configuration checks may be, where they are given.
_VALUES = {'BATCH': (_POSITIVE, 'a positive integer'), 'PROCESSES': (_POSITIVE, 'a positive integer'),
           'NUM_WORKERS': (r'\d+', 'an integer of at least 0'), 'NUM_CLASSES': (_POSITIVE, 'a positive integer'),
           'CLUSTERS': (f'{_POSITIVE},{_POSITIVE}', 'two numbers such as 12,12'), 'OVERWRITE': ('1', '1 or empty'),
           'GPUS': (r'\d+(,\d+)*', 'numbers such as 0,1'), 'RECIPE': ('joint|published', 'joint or published')}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage as listed."""

    name: str  # of the stage, of its log and of its files
    title: str  # of its line in the closing table, '' for a stage that is not a score
    output: pathlib.Path  # file or folder that it writes
    script: str  # of the project, relative to its folder, or absolute
    arguments: list  # of words

    @property
    def options(self):
        """Dict from option to value, list of values, or True for a flag."""
        return options_of(self.arguments)

    def path(self, option):
        """Return the path that an option names, or None."""
        value = self.options.get(option)
        return pathlib.Path(value) if isinstance(value, str) else None

    @property
    def overrides(self):
        """The `section.key=value` of its `--set` options, in order."""
        value = self.options.get('--set', [])
        return [value] if isinstance(value, str) else list(value)

    @property
    def outputs(self):
        """Every path that it writes."""
        return [self.output, *filter(None, map(self.path, ('--list_out', '--json', '--out', '--save_dir',
                                                           '--snapshot_dir' if self.trains else None)))]

    @property
    def trains(self):
        """Whether it is a training: resumed rather than begun again, and never discarded."""
        return pathlib.PurePath(self.script).name in ('train.py', 'train_classifier.py', 'train_cam.py')

    @property
    def is_costly(self):
        """Whether its result is made again only if the user says so: weights, and data that all else is made from."""
        return self.trains or pathlib.PurePath(self.script).name == 'make_synthetic.py'

    def reads_from(self, paths):
        """Whether one of its options names something at or below one of these paths."""
        own = set(self.outputs)
        return any(value not in own and any(value.is_relative_to(path) or path.is_relative_to(value) for path in paths)
                   for option in self.options if (value := self.path(option)) is not None and value.is_absolute()
                   and option not in ('--data_dir', '--gt_dir', '--cfg_path'))


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings of a run, dict from name to text, and its list of Stage."""

    settings: dict
    stages: list

    @property
    def forced(self):
        """The stages that FORCE asks to run again, the one it names and all after it; SpmlError: there is none such."""
        wanted, names = self.settings.get('FORCE'), [stage.name for stage in self.stages]
        if not wanted:
            return []
        if wanted not in names:
            raise SpmlError(f'FORCE={wanted}: no such stage; stages: {" ".join(names)}')
        return self.stages[names.index(wanted):]


def read_plan(stream):
    """Return the Plan that a binary stream holds; SpmlError where a setting or a word in it cannot be used."""
    words = stream.read().decode(errors='surrogateescape').split('\0')[:-1]
    items = {'setting': [], 'configurations': [], 'stage': []}
    while words:
        count = int(words[0])
        items[words[1]].append(words[2:count + 1])
        words = words[count + 1:]
    settings, meanings = dict(items['setting']), {}
    for name, (pattern, expected) in _VALUES.items():
        if (value := settings.get(name)) and not re.fullmatch(pattern, value):
            raise SpmlError(f'{name}={value}: must be {expected}')
    for names in items['configurations']:
        settings, meanings = resolve_settings(settings, *names)
    return Plan(settings, [Stage(name, title, pathlib.Path(output), script, expand(arguments, meanings, output))
                           for title, name, output, script, *arguments in items['stage']])


def embedding_keys(settings):
    """Return the keys that SET_EMBEDDING gives, a set."""
    return {word.partition('=')[0] for word in settings.get('SET_EMBEDDING', '').split()}


def resolve_settings(settings, configs, classifier, published, joint=None):
    """Return a pipeline's settings with RECIPE and PRETRAINED resolved, and dict from each @word to a list of words.

    `settings` is a dict from name to text, as the script gives them, with PRETRAINED only where the user has set it;
    `configs` the folder of the configurations; the others are names of such without `.yaml`, of the classifier, and of
    the embedding for each RECIPE; without `joint`, there is only one. SpmlError: a setting cannot be used, or there is
    no such configuration.
    """
    configs, settings = pathlib.Path(configs), dict(settings)
    if joint:
        # Own data that an earlier version has prepared have the published recipe alone.
        published_alone = settings['DATASET'] in ('voc12', 'densepose') or not (configs / f'{joint}.yaml').is_file()
        settings['RECIPE'] = settings['RECIPE'] or ('published' if published_alone else 'joint')
    name = joint if joint and settings['RECIPE'] == 'joint' else published
    embedding = configs / f'{name}.yaml'
    if not embedding.is_file():
        raise SpmlError(f'DATASET={settings["DATASET"]}: there is no {embedding}; choose another or demo')
    if not settings['DATAROOT']:
        raise SpmlError('DATAROOT is not set; set it to the folder that holds the data, or set DATASET=demo')
    run_dir = f'{settings["SNAPSHOT_ROOT"]}/{settings["RUN_NAME"]}'
    # Lists of pseudo labels name files below it, and blanks separate the fields of a list.
    if re.search('[ \t]', run_dir):
        raise SpmlError(f'{run_dir}: results cannot go to a path with blanks; set SNAPSHOT_ROOT')

    network, training = [], []
    if 'PRETRAINED' in settings:
        weights = settings['PRETRAINED']
        if weights not in ('', *PRETRAINED_NAMES):
            weights = settings['PRETRAINED'] = os.path.join(os.getcwd(), weights)
        network, training = _network_for(weights, embedding), [f'network.pretrained={weights}']
    if settings['BATCH']:
        training.append(f'train.total_batch_size={settings["BATCH"]}')

    words = {
        '@list': ['--data_dir', settings['DATAROOT'], '--data_list'],
        '@embedding': _configuration(embedding, network, training, settings['SET_EMBEDDING'].split()),
        '@classifier': _configuration(*_of_classifier(configs, classifier, name), network,
                                      settings['SET_CLASSIFIER'].split()),
        '@cam': _configuration(*_of_tags(configs, embedding), network, training, settings['SET_CAM'].split()),
        '@clusters': ['--kmeans_num_clusters', settings['CLUSTERS'], '--label_divisor', '2048'],
        '@cam_labels': settings.get('CAM_LABELS', '').split(), '@demo': settings['DEMO_OPTIONS'].split()}
    given = ['--checkpoint', settings['CHECKPOINT']] if settings['CHECKPOINT'] else []
    words['@stage1'] = [*words['@embedding'], '--snapshot_dir', f'{run_dir}/stage1', *given]
    names = [OPTIONS[key] for key in ('dataset.num_classes', 'dataset.class_names')
             if key not in embedding_keys(settings)]
    words['@classes'] = [*words['@embedding'], *(word for name in names if settings[name]
                                                 for word in (f'--{name.lower()}', settings[name]))]
    return settings, words


def expand(words, meanings, output):
    """Return the words of a stage, a list, with those that begin with @ replaced; SpmlError: there is no such word.

    `meanings` is the dict of `resolve_settings`, `output` the path of what the stage writes.
    """
    meanings = {**meanings, '@output': [output]}
    unknown = [word for word in words if word.startswith('@') and word not in meanings]
    if unknown:
        raise SpmlError(f'{unknown[0]}: stands for nothing; in the list of stages, use {", ".join(sorted(meanings))}')
    return [part for word in words for part in meanings.get(word, [word])]


def _configuration(path, *overrides):
    return ['--cfg_path', str(path), *(word for part in overrides for override in part for word in ('--set', override))]


def _network_for(weights, embedding):
    """Return the overrides that choose the network for weights that are known by name; [] for all others."""
    if weights == TORCHVISION:
        return ['network.stem=7x7']
    if weights == LITE0:
        head, _ = split_architecture(load_config(embedding).network.backbone_types)
        backbone = next(name for name, known in BACKBONES.items() if known.pretrained == weights)
        return [f'network.backbone_types=panoptic_{head}_{backbone}']
    return []


def _of_classifier(configs, classifier, embedding):
    """Return path and overrides of the classifier's configuration.

    An earlier version wrote that of own data under another name, with the path of weights that nobody has.
    """
    path = configs / f'{classifier}.yaml'
    return (path, []) if path.is_file() else (configs / f'{embedding}_classifier.yaml', ['network.pretrained='])


def _of_tags(configs, embedding):
    """Return path and overrides of the tag classifier's configuration: `cam.yaml`, else the embedding's."""
    path = configs / 'cam.yaml'
    return (path, []) if path.is_file() else (embedding, ['network.prediction_types=cam'])
