"""The one path from pixels to label maps: what the Python interface says is what the scripts write."""
import numpy as np
import pytest
from PIL import Image

from spml.api import Segmenter
from spml.inference.outputs import CrfParameters

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize('image_size', [0, 23])
@pytest.mark.parametrize('multi_scale', [False, True])
@pytest.mark.parametrize('crf', [False, True])
def test_the_python_interface_says_what_a_job_writes(place, image_size, multi_scale, crf):
    if crf:
        pytest.importorskip('pydensecrf')
    colours = [[10, 20, 30], [200, 1, 99], [3, 250, 77]]
    overrides = f'test.image_size={image_size}', f'dataset.color_map={colours}'
    place.make('predictions', *overrides, multi_scale=multi_scale, crf=CrfParameters() if crf else None,
               num_workers=int(crf and multi_scale))
    segmenter = Segmenter(place.make_config(*overrides), place.embedder, place.head)
    paths = [place.data.folder / 'image' / f'{name}.png' for name in place.data.names]
    for name, result in zip(place.data.names, segmenter.predict(paths, multi_scale=multi_scale, crf=crf), strict=True):
        np.testing.assert_array_equal(result.labels, place.read('semantic_gray', name))
        np.testing.assert_array_equal(np.array(colours)[result.labels], place.read('semantic_color', name))
        np.testing.assert_array_equal(result.labels, result.probabilities.argmax(axis=0))
        assert (result.probabilities.shape, result.embedding.shape) == ((3, 40, 36), (8, 40, 36))
        np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(result.embedding, axis=0), 1, atol=1e-5)


def test_prototypes_of_images_without_a_class_are_written(place):
    Image.fromarray(np.full((40, 36), 255, np.uint8)).save(place.data.folder / 'semantic' / 'a.png')
    place.make('prototypes')
    with np.load(place.path('semantic_prototype', 'a')) as arrays:
        assert (arrays['prototype'].dtype, arrays['prototype_label'].dtype) == (np.float32, np.int64)
        assert arrays['prototype'].shape[1] == 8
        assert set(arrays['prototype_label']) == {255}
