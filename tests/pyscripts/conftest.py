"""A place in which the scripts run inside this process, on small data with small networks of random weights."""
import numpy as np
import pytest
import torch
from PIL import Image

from spml import config as configuration
from spml.models.build import build_cam_network, build_classifier, build_embedding


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """A function from overrides to a checkpoint of such networks with random weights, each made once."""
    made = {}

    def make(config, *parts):
        network = config.network
        key = (network.backbone_types, network.embedding_dim, network.prediction_types, config.dataset.num_classes,
               parts)
        if key not in made:
            networks = (build_cam_network(config) if network.prediction_types == 'cam'
                        else (build_embedding(config), build_classifier(config)))
            content = {name: network.state_dict() for name, network in
                       zip(('embedding_model', 'prediction_model'), networks, strict=True)}
            made[key] = tmp_path_factory.mktemp('weights') / 'model-3.pth'
            torch.save({name: content[name] for name in parts or content}, made[key])
        return made[key]
    return make


class Workplace:
    """The small data set, a configuration file and weights, and a way to run the scripts in this process."""

    def __init__(self, folder, data, config, weights, scripts):
        self.folder, self.data, self.make_config, self.make_weights = folder, data, config, weights
        self.call_script, self.script_works, self.script_fails = scripts
        self.config = folder / 'config.yaml'
        self.config.write_text(configuration.dump(config()))
        self.classifier_config = folder / 'config_classifier.yaml'
        self.classifier_config.write_text(
            configuration.dump(config('network.prediction_types=softmax_classifier')))
        self.cam_config = folder / 'config_cam.yaml'
        self.cam_config.write_text(configuration.dump(config('network.prediction_types=cam')))
        self.out = folder / 'out'

    def config_of(self, script):
        return {'train_classifier': self.classifier_config, 'train_cam': self.cam_config,
                'cam': self.cam_config}.get(script, self.config)

    def arguments(self, script, *more, fields=3, **options):
        config = self.config_of(script)
        given = {'cfg_path': config, 'data_dir': self.data.folder, 'data_list': self.data.lists[fields],
                 'device': 'cpu'}
        if script.startswith('train'):
            given['snapshot_dir'] = self.out
        else:
            kind = ('network.prediction_types=cam',) if script == 'cam' else ()
            given |= {'checkpoint': self.make_weights(self.make_config(*kind)), 'save_dir': self.out}
        if script == 'prototype':
            given['kmeans_num_clusters'] = '2,2'
        given |= options
        return [*(text for name, value in given.items() if value is not None for text in (f'--{name}', str(value))),
                *map(str, more)]

    def run(self, script, *more, **options):
        """Run a script and return its exit status and standard error; `printed` keeps its standard output."""
        status, self.printed, err = self.call_script(script, *self.arguments(script, *more, **options))
        return status, err

    def works(self, script, *more, **options):
        self.printed = self.script_works(script, *self.arguments(script, *more, **options))

    def fails(self, script, *more, naming, **options):
        self.script_fails(script, *self.arguments(script, *more, **options), naming=naming)

    def label(self, name, kind='semantic'):
        return self.data.folder / kind / f'{name}.png'

    def gray(self, name):
        return np.array(Image.open(self.out / 'semantic_gray' / f'{name}.png'))


@pytest.fixture
def place(tmp_path, small_data, small_config, weights, call_script, works, fails):
    return Workplace(tmp_path, small_data, small_config, weights, (call_script, works, fails))
