"""The options of the scripts of inference."""
import argparse

import pytest

from spml.inference import command
from spml.inference.outputs import CrfParameters


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
