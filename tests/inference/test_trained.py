"""The options of the scripts of inference, and which weights and which configuration they mean."""
import argparse

import pytest
import torch

from spml import config as configuration
from spml.errors import CheckpointError, SpmlError
from spml.inference import command
from spml.inference.outputs import CrfParameters
from spml.inference.trained import Trained


@pytest.fixture
def folder(tmp_path, small_config):
    """The folder of a training: models 3, 9 and 10, of which the last carries a configuration."""
    for iteration in (3, 9, 10):
        content = {'config': configuration.to_dict(small_config('test.image_size=77'))} if iteration == 10 else {}
        torch.save(content, tmp_path / f'model-{iteration}.pth')
    torch.save({}, tmp_path / 'model-11.state.pth')
    return tmp_path


def options(checkpoint=None, snapshot_dir=None, cfg_path=None, overrides=()):
    return argparse.Namespace(checkpoint=checkpoint, snapshot_dir=snapshot_dir, cfg_path=cfg_path, overrides=overrides)


def test_without_a_file_the_newest_model_and_its_configuration_count(folder):
    trained = Trained.from_options(options(snapshot_dir=folder, overrides=['test.stride=8,8']))
    assert trained.path == folder / 'model-10.pth'
    assert (trained.config.test.image_size, trained.config.test.stride) == (77, [8, 8])


def test_a_file_wins_and_names_the_model_of_its_last_iteration(folder, small_config):
    (folder / 'mine.yaml').write_text(configuration.dump(small_config('test.image_size=55')))
    given = {'cfg_path': folder / 'mine.yaml', 'overrides': ['test.stride=8,8']}
    trained = Trained.from_options(options(snapshot_dir=folder, **given))
    assert trained.path == folder / 'model-3.pth'
    assert (trained.config.test.image_size, trained.config.test.stride) == (55, [8, 8])
    trained = Trained.from_options(options(checkpoint=folder / 'model-10.pth', snapshot_dir=folder, **given))
    assert trained.path == folder / 'model-10.pth'
    assert trained.config.test.image_size == 55


def test_weights_without_a_configuration_take_the_one_beside_them(folder, small_config):
    given = options(checkpoint=folder / 'model-9.pth', overrides=['test.stride=8,8'])
    with pytest.raises(CheckpointError, match=r'model-9\.pth: carries no configuration; .*--cfg_path'):
        Trained.from_options(given)
    (folder / 'config.yaml').write_text(configuration.dump(small_config('test.image_size=66')))
    config = Trained.from_options(given).config
    assert (config.test.image_size, config.test.stride) == (66, [8, 8])


def test_what_names_no_weights_is_refused(folder):
    (folder / 'empty').mkdir()
    for given in (options(), options(cfg_path='configs/voc12/scribble.yaml')):
        with pytest.raises(SpmlError, match=r'--snapshot_dir .* --checkpoint'):
            Trained.from_options(given).content  # noqa: B018
    for missing in ('empty', 'absent'):
        with pytest.raises(CheckpointError, match=rf'{missing}: holds no model-\*\.pth; .*--checkpoint'):
            Trained.from_options(options(snapshot_dir=folder / missing))


def test_cluster_grids():
    assert command.cluster_grid('12,8') == (12, 8)
    for text in ('12', '12,', '1,2,3', '0,4', 'a,b', '-1,2', ''):
        with pytest.raises(argparse.ArgumentTypeError):
            command.cluster_grid(text)


def test_crf_options_default_to_the_published_values():
    parser = argparse.ArgumentParser()
    command.add_crf_arguments(parser)
    assert command.crf_parameters(parser.parse_args([])) == CrfParameters(10, 1, 3, 67, 3, 4)
    given = {'iter_max': 5, 'pos_xy_std': 2.5, 'pos_w': 1, 'bi_xy_std': 40, 'bi_w': 7, 'bi_rgb_std': 9}
    args = parser.parse_args([*(f'--crf_{name}={value}' for name, value in given.items()), '--num_workers=0'])
    assert command.crf_parameters(args) == CrfParameters(**given)
    assert args.num_workers == 0


def test_pseudo_labels_compute_absent_classes_as_one_unless_told_not_to():
    parser = argparse.ArgumentParser()
    command.add_crf_arguments(parser, merge_below=1e-5)
    for words, bound in (([], 1e-5), (['--crf_merge_below=0'], 0), (['--crf_merge_below=0.01'], 0.01)):
        assert command.crf_parameters(parser.parse_args(words)).merge_below == bound
    for value in ('-1', '2', 'x'):
        with pytest.raises(SystemExit):
            parser.parse_args([f'--crf_merge_below={value}'])
