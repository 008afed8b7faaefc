"""Sweeps read from YAML files that the tests write."""
import pytest
import yaml

from spml.sweep.grid import read_sweep


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'pipeline.sh'
    path.write_text('exit 0\n')
    return path


@pytest.fixture
def sweep(tmp_path, script):
    """A function from keys of the YAML file, besides `out` and `pipeline`, to the sweep."""
    def make(**keys):
        content = {'out': str(tmp_path / 'out'), 'pipeline': str(script), **keys}
        path = tmp_path / 'sweep.yaml'
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None},
                                       sort_keys=False))
        return read_sweep(path)
    return make
