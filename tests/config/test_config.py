import copy
import logging
import pathlib
import pickle

import easydict
import pytest
import yaml

from spml.config import describe, dump, load_config, resolve, to_dict
from spml.config.__main__ import main as command_line
from spml.config.schema import SCHEMA
from spml.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
KITS = sorted((pathlib.Path(__file__).parent / 'data').glob('kit_*.yaml'))
SHIPPED = sorted(path for path in (ROOT / 'configs').rglob('*.yaml') if path.parent.name != 'sweeps')
MINIMAL = {'dataset': {'num_classes': 21}, 'network': {'backbone_types': 'panoptic_deeplab_50', 'embedding_dim': 8},
           'train': {'max_iteration': 100}}


def edited(name, value):
    """Return MINIMAL with `section.key` or a top-level key set to `value`."""
    config = copy.deepcopy(MINIMAL)
    section, _, leaf = name.rpartition('.')
    (config.setdefault(section, {}) if section else config)[leaf] = value
    return config


def value_of(config, name):
    for part in name.split('.'):
        config = config[part]
    return config


def written(folder, text):
    path = folder / 'some.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def flat_names(mapping):
    return {f'{section}.{key}' for section, values in mapping.items() if isinstance(values, dict) for key in values} | {
        key for key, value in mapping.items() if not isinstance(value, dict)}


def refusal(source, /, *overrides, **options):
    """Return the one-line message with which `source` (a path or a mapping) is refused."""
    load = resolve if isinstance(source, dict) else load_config
    with pytest.raises(ConfigError) as info:
        load(source, overrides, **options)
    message = str(info.value)
    assert '\n' not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize('path', KITS, ids=lambda path: path.stem)
def test_kit_files_load_as_they_are_and_keep_their_values(path):
    raw = yaml.safe_load(path.read_text())
    config = load_config(path)
    assert isinstance(config, easydict.EasyDict)
    for name in flat_names(raw) & set(SCHEMA):
        assert value_of(config, name) == value_of(raw, name)
    assert config.network.frozen_stages == ['stem', 'res2']
    assert config.network.bn_momentum == 3e-4
    assert config.dataset.class_names[-1] == 'tvmonitor'
    assert flat_names(config) == set(SCHEMA)


def test_obsolete_keys_are_named_in_one_warning(caplog):
    with caplog.at_level(logging.WARNING, 'spml.config'):
        config = load_config(KITS[0], ['dataset.data_dir=/elsewhere'])
    assert [record.name for record in caplog.records] == ['spml.config']
    obsolete = flat_names(yaml.safe_load(KITS[0].read_text())) - set(SCHEMA)
    assert len(obsolete) == 5
    assert all(name in caplog.text for name in obsolete)
    assert str(KITS[0]) in caplog.text
    caplog.clear()
    resolve(to_dict(config))
    load_config(SHIPPED[0])
    assert not caplog.records


@pytest.mark.parametrize('path', SHIPPED + KITS, ids=lambda path: f'{path.parent.name}-{path.stem}')
def test_files_round_trip(path, tmp_path):
    config = load_config(path)
    text = dump(config)
    again = load_config(written(tmp_path, text))
    assert again == config == resolve(to_dict(config)) == pickle.loads(pickle.dumps(config))
    assert dump(again) == text
    assert yaml.safe_load(text) == to_dict(config)
    assert list(yaml.safe_load(text)) == ['gpus', 'num_threads', 'seed', 'dataset', 'network', 'train', 'test']


def based(folder, base, own, name='base.yaml'):
    """Write a base and a file over it; return the paths of both."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(base))
    return folder / name, written(folder, yaml.safe_dump({'base': name, **own}))


@pytest.mark.parametrize('name', ['base.yaml', 'below/base.yaml'])
def test_a_file_over_its_base(tmp_path, monkeypatch, name):
    own = {'seed': 7, 'train': {'base_lr': 0.5}}
    base, path = based(tmp_path, edited('train.base_lr', 0.1) | {'num_threads': 1}, own, name)
    merged = edited('train.base_lr', 0.5) | {'num_threads': 1, 'seed': 7}
    assert load_config(path) == resolve(merged)
    assert load_config(path, ['seed=8']).seed == 8
    assert load_config(base).train.base_lr == 0.1
    monkeypatch.chdir(tmp_path.parent)
    assert load_config(f'{tmp_path.name}/{path.name}') == resolve(merged)


def test_messages_name_the_file_of_two_in_which_a_key_is(tmp_path):
    fine, base, path = {'seed': 7}, tmp_path / 'base.yaml', tmp_path / 'some.yaml'
    for below, above, message in (
            (edited('train.base_lrr', 0.1), fine, f'{base}: unknown key train.base_lrr;'),
            (MINIMAL, {'sed': 1}, f'{path}: unknown key sed;'),
            (edited('train.base_lr', 'fast'), fine, f'{base}: train.base_lr '),
            (MINIMAL, {'seed': -1}, f'{path}: seed '),
            (edited('test.stride', [900, 900]), fine, f'{base}: test.stride '),
            (MINIMAL, {'test': {'stride': [900, 900]}}, f'{path}: test.stride '),
            ({'train': {'max_iteration': 3}}, fine, f'{path}: missing dataset.num_classes')):
        based(tmp_path, below, above)
        assert refusal(path).startswith(message)
    # A layer above may put a value right.
    based(tmp_path, edited('train.base_lr', 'fast'), {'train': {'base_lr': 1}})
    assert load_config(path).train.base_lr == 1


def test_bases_that_cannot_be_used(tmp_path):
    base, path = based(tmp_path, MINIMAL | {'base': 'other.yaml'}, {})
    message = refusal(path)
    assert message.startswith(f'{path}: ')
    assert f'{base}, has a base' in message
    path.write_text('base: some.yaml\n')
    assert 'has a base' in refusal(path)
    path.write_text('base: none.yaml\n')
    assert refusal(path).startswith(f'{tmp_path}/none.yaml: No such file')
    assert str(path) in refusal(path)
    for text in ('base: 3\n', 'base:\n', "base: ''\n", 'base: [base.yaml]\n'):
        path.write_text(text)
        assert refusal(path).startswith(f'{path}: base is ')
    base.write_text('- a\n')
    path.write_text('base: base.yaml\n')
    assert refusal(path).startswith(f'{base}: expected a mapping')
    assert 'unknown key base' in refusal(MINIMAL | {'base': str(base)})
    assert 'unknown key base' in refusal(MINIMAL, 'base=x')
    assert refusal(tmp_path).startswith(f'{tmp_path}: Is a directory')


def batch(config):
    return config.train.total_batch_size, config.train.batch_size


def test_the_later_word_on_the_batch_counts(tmp_path):
    total, single, both = {'total_batch_size': 16}, {'batch_size': 2}, {'total_batch_size': 16, 'batch_size': 2}
    for below, above, expected in ((total, single, (0, 2)), (single, total, (16, 2)), (total, both, (16, 2)),
                                   (both, {}, (16, 2)), (both, {'batch_size': 3}, (0, 3))):
        path = based(tmp_path, edited('train', MINIMAL['train'] | below), {'train': above} if above else {})[1]
        assert batch(load_config(path)) == expected
    path = based(tmp_path, edited('train', MINIMAL['train'] | both), {})[1]
    assert batch(load_config(path, ['train.batch_size=5'])) == (0, 5)
    assert batch(load_config(path, ['train.total_batch_size=8', 'train.batch_size=5'])) == (0, 5)
    assert batch(load_config(path, ['train.batch_size=5', 'train.total_batch_size=8'])) == (8, 5)
    assert batch(load_config(path, ['train.batch_size=5', 'seed=1'])) == (0, 5)


def test_the_command_line(tmp_path, capsys):
    base, path = based(tmp_path, MINIMAL, {'train': {'base_lr': 0.5}})

    def printed(*args):
        command_line([str(arg) for arg in args])
        return capsys.readouterr().out

    assert printed().startswith('gpus\n    ')
    assert load_config(written(tmp_path, printed(path, '--set', 'seed=3'))) == load_config(path, ['seed=3'])
    path.write_text('base: base.yaml\ntrain: {base_lr: 0.5, max_iteration: 7}\n')
    assert printed('--diff', base, path).splitlines() == [
        'train.max_iteration: 100 -> 7', 'train.snapshot_step: 100 -> 7', 'train.base_lr: 0.003 -> 0.5']
    assert printed('--diff', base, base) == 'no difference\n'
    for wrong in (['--set', 'seed=3'], [path, '--diff', base, path]):
        with pytest.raises(SystemExit):
            printed(*wrong)


@pytest.mark.parametrize(('name', 'near'), [
    ('train.base_lrr', 'train.base_lr'), ('train.base-lr', 'train.base_lr'), ('base_lr', 'train.base_lr'),
    ('network.embeding_dim', 'network.embedding_dim'), ('dataset.stride', 'test.stride'), ('tarin', 'train'),
    ('num_thread', 'num_threads'), ('train.sem_ann_weight', 'train.sem_ann_loss_weight'),
    ('network.qqqq', 'network.embedding_dim'), ('qqqq', 'network')])
def test_unknown_keys_name_file_key_and_near_misses(tmp_path, name, near):
    path = written(tmp_path, yaml.safe_dump(edited(name, 1)))
    message = refusal(path)
    assert message.startswith(f'{path}: unknown key {name};')
    assert near in message
    override = refusal(MINIMAL, f'{name}=1')
    assert override.startswith('--set')
    assert f'unknown key {name};' in override
    assert near in override


WRONG = [
    *[(name, value) for name in ('num_threads', 'seed', 'dataset.num_classes', 'network.embedding_dim',
                                 'train.max_iteration', 'train.batch_size', 'test.image_size')
      for value in (True, '3', 3.0, None, [3], {'a': 3}, -1)],
    *[(name, value) for name in ('train.shuffle', 'train.resume', 'network.use_syncbn')
      for value in (1, 0, 'true', None)],
    *[(name, value) for name in ('train.base_lr', 'train.momentum', 'network.bn_momentum', 'network.head_dropout',
                                 'train.sem_ann_loss_weight')
      for value in (True, 'fast', '0.1', None, [0.1], float('nan'), float('inf'), -0.5, 10**400, '1e999')],
    *[(name, value) for name in ('train.crop_size', 'test.stride', 'network.kmeans_num_clusters')
      for value in (4, '4,4', [4], [4, 4, 4], [4.0, 4], [True, 4], [0, 4], ['4', '4'])],
    *[(name, value) for name in ('network.backbone_types', 'dataset.dataset', 'train.lr_policy',
                                 'train.sem_occ_loss_types', 'network.prediction_types')
      for value in ('other', 1, None, ['segsort'], '')],
    *[('gpus', value) for value in ('', 'a', -1, '0,0', '0,', [0, True], True, 1.0, [], None)],
    *[('network.pretrained', value) for value in (1, None, False, ['a'])],
    *[('dataset.semantic_ignore_index', value) for value in (254, 0, '255', True)],
    *[('dataset.class_names', value) for value in ('a', [1] * 21, [True], ['a'] * 21, [''], ['a', 'b'])],
    *[('dataset.color_map', value) for value in (
        'red', [], [0, 0, 0], [[0, 0]], [[0, 0, 256]], [[0, -1, 0]], [[0, 0, 0.5]], [[True, 0, 0]], ['#ffffff'],
        [[0, 0, 0]] * 20)],
    *[('network.frozen_stages', value) for value in ('stem', ['res1'], ['stem', 'stem'], [2], [['stem']], None)],
    *[('network.pixel_means', value) for value in (0.5, [0.5, 0.5], [0.5, 0.5, '0.5'], [True, 0.5, 0.5])],
    *[('train.decay_iterations', value) for value in (5, [5, 5], [9, 5], [0], [1.5], [True], '5')],
    ('dataset.num_classes', 1), ('dataset.num_classes', 255), ('train.base_lr', 0), ('train.momentum', 1),
    ('network.bn_momentum', 0), ('network.bn_momentum', 1.1), ('train.max_iteration', 0), ('train.batch_size', 0),
    ('network.head_dropout', 1),
    ('network.label_divisor', 0), ('train.snapshot_step', 0), ('network.pixel_stds', [0.1, 0, 0.1]), ('seed', 2**32),
    ('train.begin_iteration', 100), ('train.sem_ann_concentration', 0), ('test.stride', [512, 513]),
]


@pytest.mark.parametrize(('name', 'value'), WRONG, ids=lambda item: str(item)[:20])
def test_wrong_types_and_impossible_values_name_source_and_key(name, value):
    message = refusal(edited(name, value), source='my.yaml')
    assert message.startswith(f'my.yaml: {name} ')


def test_allowed_choices_and_near_misses_of_a_choice_are_listed():
    message = refusal(edited('network.backbone_types', 'panoptic_deplab_101'))
    assert 'did you mean panoptic_deeplab_101' in message
    assert 'panoptic_pspnet_14' in message
    assert "'quick'" in refusal(edited('train.lr_policy', 'quick'))
    assert 'did you mean res2' in refusal(edited('network.frozen_stages', ['stem', 'ress2']))
    assert 'void' in refusal(edited('dataset.semantic_ignore_index', 0))


def test_missing_required_keys_are_all_named():
    message = refusal({'train': {}}, source='my.yaml')
    assert message.startswith('my.yaml: missing ')
    assert all(name in message for name in flat_names(MINIMAL))


@pytest.mark.parametrize(('text', 'fragment'), [
    ('', 'empty'), ('- a\n', 'mapping'), ('word', 'mapping'), ('train: 3\n', 'train is 3'),
    ('train:\n', 'train is null'),
    ('seed: 1\ntrain:\n  base_lr: 1\n  base_lr: 2\n', "line 4: not valid YAML: key 'base_lr' is given twice"),
    ('seed: 1\nseed: 1\n', "line 2: not valid YAML: key 'seed' is given twice"),
    ('seed: 010\n', 'line 1: not valid YAML: 010 would be 8'), ('seed: 1:30\n', '1:30 would be 90'),
    ('train: {base_lr: 1:30.5}\n', '1:30.5 would be 90.5'), ('seed: -010\n', '-010 would be -8'),
    ('train: [1, 2\nseed: 1\n', 'line 2: not valid YAML'), ('a: 1\n---\nb: 2\n', 'not valid YAML'),
    ('x: !!python/object/apply:os.getcwd []\n', 'line 1: not valid YAML'), ('seed: 2024-99-99\n', 'not valid YAML'),
    ('[' * 5000, 'nested too deeply'), (b'\xff\xfe\x00', 'UTF-8'), ('a: \x00\n', 'not valid YAML'),
    ('&a [*a]', 'mapping'), ('seed: &a [*a]', 'missing'), ('1: 2\n', 'unknown key 1'),
    ('? [a]\n: 2\n', 'not valid YAML'), (None, 'No such file')])
def test_files_that_are_no_configuration(tmp_path, text, fragment):
    path = tmp_path / 'some.yaml' if text is None else written(tmp_path, text)
    message = refusal(path)
    assert message.startswith(f'{path}: ')
    assert fragment in message


def test_numbers_with_a_0_in_front():
    config = resolve(MINIMAL, ['seed=07', 'network.pretrained=010'])
    assert (config.seed, config.network.pretrained) == (7, '010')
    for override, words in (('seed=010', '010 would be 8'), ('train.base_lr=1:30.5', '1:30.5 would be 90.5')):
        assert f'--set {override}: {words}' in refusal(MINIMAL, override)


def test_merges_and_a_byte_order_mark_are_fine(tmp_path):
    text = """\ufeff
test: &t {crop_size: [64, 64], stride: [32, 32]}
train: {<<: *t, stride: 3, max_iteration: 5}
dataset: {num_classes: 5}
network: {embedding_dim: 4, backbone_types: panoptic_pspnet_14}
"""
    assert 'unknown key train.stride' in refusal(written(tmp_path, text))
    text = text.replace('<<: *t, stride: 3, ', '')
    assert load_config(written(tmp_path, text)).test.stride == [32, 32]


@pytest.mark.parametrize(('override', 'expected'), [
    ('train.base_lr=3e-3', 0.003), ('train.base_lr=2', 2.0), ('train.base_lr=1e2', 100.0),
    (' train.base_lr = 0.5 ', 0.5),
    ('train.crop_size=4,5', [4, 5]), ('train.crop_size=[4, 5]', [4, 5]), ('train.shuffle=false', False),
    ('network.frozen_stages=[]', []), ('network.frozen_stages=', []),
    ('network.frozen_stages=res2,stem', ['stem', 'res2']),
    ('network.frozen_stages=res5', ['res5']), ('train.decay_iterations=10', [10]),
    ('train.decay_iterations=10,20', [10, 20]),
    ('network.pixel_means=0,1e-1,0.5', [0.0, 0.1, 0.5]), ('gpus=0,1', '0,1'), ('gpus=2', '2'), ('gpus=[0, 1]', '0,1'),
    ('network.pretrained=', ''), ('network.pretrained=123', '123'), ("network.pretrained=''", ''),
    ('network.pretrained=a=b: c/m.pth', 'a=b: c/m.pth'), ('network.pretrained={x}', '{x}'),
    ('train.sem_occ_loss_types=none', 'none'), ('dataset.num_classes=254', 254)])
def test_overrides(override, expected):
    config = resolve(MINIMAL, [override])
    actual = value_of(config, override.partition('=')[0].strip())
    assert actual == expected
    assert type(actual) is type(expected)


def test_the_last_override_wins_and_replaces_what_the_mapping_has_wrong():
    assert resolve(edited('train.base_lr', 'fast'), ['train.base_lr=1', 'train.base_lr=2']).train.base_lr == 2.0


@pytest.mark.parametrize(('override', 'fragment'), [
    ('train.base_lr', 'section.key=value'), ('=3', 'section.key=value'), ('', 'section.key=value'),
    ('train=3', 'section'),
    ('train.base_lr=', 'train.base_lr is null'), ('train.base_lr=fast', "train.base_lr is 'fast'"),
    ('train.batch_size=2.0', 'train.batch_size'), ('train.shuffle=1', 'train.shuffle'),
    ('train.crop_size=4', 'train.crop_size'),
    ('train.crop_size=4,[', 'train.crop_size'), ('train.base_lr={', 'train.base_lr'),
    ('train.lr_policy=3', 'poly, step'),
    ('train.begin_iteration=500', 'train.max_iteration'), ('test.stride=600,600', 'test.crop_size'),
    ('train.max_iteration=null', 'train.max_iteration is null')])
def test_bad_overrides_name_themselves(override, fragment):
    message = refusal(MINIMAL, override, source='my.yaml')
    assert message.startswith(f'--set {override}: ')
    assert fragment in message


def test_defaults_that_follow_other_keys():
    config = resolve(MINIMAL)
    assert (config.train.snapshot_step, config.test.stride) == (100, [512, 512])
    assert resolve(MINIMAL, ['test.crop_size=96,64']).test.stride == [96, 64]
    assert resolve(MINIMAL, ['dataset.num_classes=3']).dataset.class_names == ['class_0', 'class_1', 'class_2']
    densepose = resolve(MINIMAL, ['dataset.num_classes=15', 'dataset.dataset=Densepose'])
    assert densepose.dataset.class_names[2:4] == ['right hand', 'left hand']
    assert len(densepose.dataset.class_names) == 15
    for family, expected in ((config, (False, False, True, 1.0)), (densepose, (True, True, False, 0.1))):
        assert (family.dataset.swap_parts, family.network.colour_features, family.train.img_sim_with_location,
                family.train.embedding_scale) == expected
    assert not resolve(MINIMAL, ['dataset.dataset=Densepose', 'network.colour_features=false']).network.colour_features
    names = resolve(config, ['dataset.num_classes=2', 'dataset.class_names=null']).dataset.class_names
    assert names == ['class_0', 'class_1']
    message = refusal(to_dict(config), 'dataset.num_classes=2')
    assert message.startswith('configuration: dataset.class_names has 21 names')
    assert config.dataset.color_map is None
    assert '.color_map has 1 colours but dataset.num_classes is 21' in refusal(config, 'dataset.color_map=[[0, 0, 0]]')


def test_results_are_independent_copies_and_inputs_stay_as_they_were():
    before = copy.deepcopy(MINIMAL)
    first = resolve(MINIMAL, ['train.base_lr=1'])
    first.network.frozen_stages.append('res5')
    first.test.stride[0] = 7
    first.train.crop_size[0] = 7
    assert before == MINIMAL
    second = resolve(MINIMAL)
    assert second.network.frozen_stages == ['stem', 'res2']
    assert second.test.stride == second.test.crop_size == second.train.crop_size == [512, 512]


def test_awkward_values_round_trip(tmp_path):
    config = resolve(edited('network.pretrained', 'yes'), [
        'dataset.num_classes=3', 'dataset.class_names=["no", "1e-3", "ä: b, \'c\'"]',
        'dataset.color_map=[[0, 0, 0], [1, 2, 3], [255, 255, 255]]', 'train.base_lr=1e-20'])
    assert load_config(written(tmp_path, dump(config))) == config
    assert {type(value) for value in (to_dict(config), *to_dict(config).values())} == {dict, str, int}


def test_every_key_is_described():
    assert all(key.doc and f'{name}\n    {key.doc}\n' in describe() for name, key in SCHEMA.items())


@pytest.mark.parametrize('value', [
    3, [], ['point'], {'points': {}}, {'point': 3}, {'point': {'loss_weight': 1}},
    {'point': {'sem_occ_loss_types': 'none'}}, {'point': {'sem_occ_concentration': 0}}, {3: {}},
    {'point': {'sem_occ_loss_weight': -1}}, {'point': {'sem_occ_loss_weight': None}}])
def test_settings_of_kinds_that_are_none(value):
    message = refusal(edited('train.kinds', value))
    assert 'train.kinds' in message
    assert 'expected {kind: {key: number}}' in message


def test_settings_of_kinds_are_canonical_and_round_trip(tmp_path):
    given = {'tag': {'sem_occ_loss_weight': '1e-1', 'sem_ann_loss_weight': 0}, 'mask': {}}
    config = resolve(edited('train.kinds', given))
    assert to_dict(config.train.kinds) == {'mask': {}, 'tag': {'sem_ann_loss_weight': 0.0, 'sem_occ_loss_weight': 0.1}}
    assert [*config.train.kinds] == ['mask', 'tag']
    assert load_config(written(tmp_path, dump(config))) == config
    assert resolve(MINIMAL, ['train.kinds={tag: {img_sim_concentration: 3}}']).train.kinds.tag == {
        'img_sim_concentration': 3.0}
    assert resolve(config, ['train.kinds={}']).train.kinds == {}
