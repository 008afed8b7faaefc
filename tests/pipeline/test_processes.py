"""How many processes run the network: YAML < GPUS and PROCESSES < SET_EMBEDDING."""
import pytest

from spml.config import resolve
from spml.errors import SpmlError
from spml.pipeline import checks as processes


@pytest.fixture
def count(monkeypatch):
    """A function from settings, the key `gpus` and the GPUs that can be used to the number of processes."""
    def call(settings, gpus, visible):
        asked = []
        monkeypatch.setattr(processes, '_visible_gpus', lambda ids: asked.append(ids) or visible)
        config = resolve({'gpus': gpus, 'dataset': {'num_classes': 2}, 'train': {'max_iteration': 1},
                          'network': {'backbone_types': 'panoptic_deeplab_14', 'embedding_dim': 8}})
        return processes.count_processes(settings, {'demo_data': None, 'train_embedding': config}), asked
    return call


@pytest.mark.parametrize(('settings', 'gpus', 'visible', 'expected'), [
    ({}, '0', 8, 1), ({}, '0,1,2,3', 8, 4), ({}, '0,1,2,3', 2, 2), ({}, '0,1,2,3', 0, 1),
    ({'GPUS': '4,5'}, '0,1,2,3', 2, 2), ({'GPUS': '4'}, '0,1,2,3', 1, 1), ({'GPUS': '4,5'}, '0', 0, 1),
    ({'PROCESSES': '3'}, '0', 0, 3), ({'PROCESSES': '3'}, '0', 4, 3), ({'GPUS': '4,5', 'PROCESSES': '1'}, '0', 2, 1),
    ({'GPUS': '4,5', 'SET_EMBEDDING': 'seed=1 gpus=0'}, '0', 2, 1)])
def test_the_number_of_processes(count, settings, gpus, visible, expected):
    found, asked = count(settings, gpus, visible)
    assert found == expected
    assert all(ids == settings.get('GPUS') for ids in asked)


@pytest.mark.parametrize('settings', [{'GPUS': '0,1'}, {'PROCESSES': '2'}])
def test_gpus_that_are_not_there_are_an_error(count, settings):
    with pytest.raises(SpmlError, match='only 1 of these GPUs'):
        count(settings, '0,1', 1)


def test_fewer_gpus_than_the_configuration_names_are_a_note(count, capsys):
    count({}, '0,1,2,3', 2)
    assert 'note: gpus=0,1,2,3, but 2 can be used here' in capsys.readouterr().out
