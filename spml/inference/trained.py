"""A checkpoint with the configuration that it is used with: what stages 2 to 7 and the Python interface start from."""
import functools
import pathlib
from collections.abc import Mapping

from spml.config import load_config, resolve
from spml.errors import CheckpointError, ConfigError, SpmlError
from spml.inference.cams import CamPredictor
from spml.inference.predictors import RetrievalPredictor, build_embedder, load_prototypes
from spml.models.build import build_cam_network, build_classifier, build_embedding, first_tag
from spml.models.precision import ready_to_predict
from spml.models.weights import load_classifier, load_embedding, read_checkpoint
from spml.utils.files import model_path, newest_model


class Trained:
    """Weights and their configuration: a YAML file, a dict of sections, or None.

    None takes what the checkpoint holds, or else the `config.yaml` beside it. The checkpoint, at `path`, is read when
    it is needed; None where nothing names one. CheckpointError: it is asked for the configuration, and has none or
    cannot be read. ConfigError: the configuration or an override cannot be used.
    """

    def __init__(self, path, config=None, overrides=()):
        self.path = path and pathlib.Path(path)
        if config is None:
            self.config = self._own_configuration(overrides)
        else:
            self.config = (resolve if isinstance(config, Mapping) else load_config)(config, overrides)

    @classmethod
    def from_options(cls, args):
        """Return what the options ask for: of `--snapshot_dir` the newest model, with `--cfg_path` the last planned."""
        path, config = args.checkpoint, args.cfg_path and load_config(args.cfg_path, args.overrides)
        if path is None and args.snapshot_dir is not None:
            path = model_path(args.snapshot_dir, config.train.max_iteration - 1) if config else newest_model(
                args.snapshot_dir)
            if path is None:
                raise CheckpointError(f'{args.snapshot_dir}: holds no model-*.pth; train first, or name a file with '
                                      '--checkpoint')
        return cls(path, config, () if config else args.overrides)

    @functools.cached_property
    def content(self):
        """What the checkpoint holds."""
        if self.path is None:
            raise SpmlError('name the weights: --snapshot_dir FOLDER or --checkpoint FILE')
        return read_checkpoint(self.path)

    def embedder(self, device):
        """Return the Embedder, on `device`."""
        network = build_embedding(self.config)
        load_embedding(network, self.path, content=self.content)
        return build_embedder(network, self.config, device)

    def classifier(self, device):
        """Return the softmax head in eval mode, on `device`."""
        classifier = build_classifier(self.config)
        load_classifier(classifier, self.path, self.content)
        return ready_to_predict(classifier.to(device), self.config.test.precision)

    def cam_predictor(self, device):
        """Return the CamPredictor, on `device`; ConfigError unless the weights are those of a tag classifier."""
        trained = self.config.network.prediction_types
        if trained != 'cam':
            raise ConfigError(f'{self.path}: network.prediction_types is {trained}, class activation maps need cam; '
                              'name the training of train_cam.py')
        features, head = build_cam_network(self.config)
        load_embedding(features, self.path, content=self.content)
        load_classifier(head, self.path, self.content)
        return CamPredictor(features.to(device).eval(), head.to(device).eval(), first_tag(self.config), device)

    def retrieval(self, embedder, prototype_dir, grid):
        """Return the RetrievalPredictor over the prototypes in a folder; `grid` is (ky, kx) initial clusters."""
        config = self.config
        prototypes, labels = load_prototypes(prototype_dir, config.network.embedding_dim, config.dataset.num_classes)
        return RetrievalPredictor(embedder, prototypes.to(embedder.device), labels.to(embedder.device),
                                  config.dataset.num_classes, grid, config.network.kmeans_iterations)

    def _own_configuration(self, overrides):
        if 'config' in self.content:
            return resolve(self.content['config'], overrides, source=f'{self.path}: config')
        beside = self.path.with_name('config.yaml')
        if not beside.is_file():
            raise CheckpointError(f'{self.path}: carries no configuration; give the YAML file that it was trained '
                                  'with (--cfg_path), such as one of configs/')
        return load_config(beside, overrides)
