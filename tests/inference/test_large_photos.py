"""Photos of 12 megapixels: what takes memory by their size is bounded, and what is told to lower does lower it."""
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from spml import config as configuration
from spml.errors import ResourceError
from spml.inference import jobs, pseudo_labels
from spml.inference.jobs import Job, make_predictions, make_pseudo_labels
from spml.inference.predictors import Embedder, RetrievalPredictor, SoftmaxPredictor, image_prototypes, predict

GIBIBYTE = 1 << 30


class Light(torch.nn.Conv2d):
    """An embedding network of one layer and 64 channels."""

    embedding_dim = 64

    def forward(self, images, resize_as_input):
        return super().forward(images)


def work_at(folder, size, what, config):
    """Predict, or make pseudo labels of, an image of `size`; return how many bytes the process held at most."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / 'a.jpg')
    Image.fromarray(rng.choice([0, 2, 200], (size[0] // 100, size[1] // 100)).astype(np.uint8).repeat(
        100, axis=0).repeat(100, axis=1)).save(folder / 'label.png')
    (folder / 'list.txt').write_text('a.jpg label.png\n')
    job = Job(config, folder, folder / 'list.txt', folder / 'out')
    embedder = Embedder(Light(3, 64, 1), (512, 512), (512, 512), torch.device('cpu'))
    head = torch.nn.Conv2d(64, 3, 1)
    if what == 'predictions':
        make_predictions(job, SoftmaxPredictor(embedder, head), multi_scale=True)
    else:
        make_pseudo_labels(job, 'softmax_random_walk', {'embedder': embedder, 'classifier': head})
    assert Image.open(folder / 'out' / 'semantic_gray' / 'a.png').size == size[::-1]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
@pytest.mark.parametrize('what', ['predictions', 'pseudo labels'])
def test_a_photo_of_12_megapixels_takes_less_than_2_gib(tmp_path, small_config, what):
    """A transition between all cells of 8 x 8 pixels would take 131 GiB."""
    config = configuration.to_dict(small_config())
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        peak = pool.submit(work_at, tmp_path, (3000, 4000), what, configuration.resolve(config)).result()
    assert peak < 2 * GIBIBYTE


def copies_at(size, what):
    """Cluster an image of `size`; return how much memory that took, in copies of its embedding."""
    torch.set_num_threads(1)
    embedder = Embedder(Light(3, 64, 1), (256, 256), (256, 256), torch.device('cpu'))
    image = np.random.default_rng(0).normal(size=(*size, 3)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if what == 'prototypes':
        image_prototypes(embedder, image, np.zeros(size, np.uint8), (4, 4), 2, 0, multi_scale=False)
    else:
        prototypes = torch.nn.functional.normalize(torch.randn(50, 64), dim=1)
        predictor = RetrievalPredictor(embedder, prototypes, torch.arange(50) % 3, 3, (4, 4), 2)
        if what == 'retrieval':
            predict(image, predictor, 0)
        else:
            pseudo_labels.retrieval(predictor, image, np.ones(3, bool), max_pixels=size[0] * size[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * (peak - before) / (4 * 64 * size[0] * size[1])


@pytest.mark.parametrize('what', ['prototypes', 'retrieval', 'pseudo labels by retrieval'])
def test_clustering_needs_little_more_than_a_copy_of_the_embedding(what):
    """At 1.5 times its size, a photo of 2 million pixels has an embedding of more than a gigabyte; at twice, of two."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        assert pool.submit(copies_at, (1200, 1200), what).result() < 2.7


@pytest.mark.parametrize(('what', 'overrides', 'named', 'not_named'), [
    ('predictions', {'multi_scale': True}, ['test.max_pixels (now 2097152)', 'test.crop_size (now [32, 32])'],
     ['walk_cells', 'image_size']),
    ('predictions', {'image_size': 40}, ['test.image_size (now 40)', 'test.crop_size'], ['walk_cells', 'max_pixels']),
    ('pseudo_labels', {}, ['test.walk_cells (now 6400)', 'test.max_pixels', 'test.crop_size'], ['image_size']),
    ('pseudo_labels', {'source': 'retrieval'}, ['test.max_pixels', 'test.crop_size'], ['walk_cells', 'image_size']),
    ('prototypes', {'image_size': 40}, ['test.image_size (now 40)', 'test.crop_size'], ['walk_cells', 'max_pixels'])])
def test_what_to_lower_where_memory_runs_out_is_what_counts(place, monkeypatch, what, overrides, named, not_named):
    def run_out(*_):
        raise MemoryError

    monkeypatch.setattr(jobs, 'normalised_for_views' if what != 'predictions' else 'predict_pixels', run_out)
    image_size = overrides.pop('image_size', 0)
    with pytest.raises(ResourceError) as caught:
        place.make(what, f'test.image_size={image_size}', **overrides)
    text = str(caught.value)
    assert 'a.png: out of memory; lower ' in text
    assert [word for word in named if word not in text] == []
    assert [word for word in not_named if word in text] == []
