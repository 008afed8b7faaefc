"""What `spml.load_segmenter` says of the classes of a run on own data: what prepare_custom.py was told."""
import numpy as np
import pytest
from own_photos import BLOCK, Photos
from PIL import Image

import spml
from spml.config import load_config

TINY = ['num_threads=0', 'network.backbone_types=panoptic_deeplab_14', 'network.embedding_dim=8',
        'network.frozen_stages=[]', 'network.bn_momentum=0.1', 'network.kmeans_iterations=2',
        'network.kmeans_num_clusters=[2,2]']
VOC_COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0))

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize(('lines', 'options', 'names', 'colours', 'has_background'), [
    ('background\nbig cat\ndog\n', [], ['background', 'big cat', 'dog'], VOC_COLOURS, True),
    ('sky 9 8 7\nbig cat 250 0 0\ndog 0 0 250\nvoid 255 255 255\n', ['--background', 'none'],
     ['sky', 'big cat', 'dog'], ((9, 8, 7), (250, 0, 0), (0, 0, 250)), False),
    ('sky 9 8 7\nbig cat 250 0 0\ndog 0 0 250\nvoid 255 255 255\n', ['--background', 'first'],
     ['sky', 'big cat', 'dog'], ((9, 8, 7), (250, 0, 0), (0, 0, 250)), True)])
def test_names_colours_and_void_are_as_prepared(tmp_path, works, save_model, lines, options, names, colours,
                                                has_background):
    own = Photos(tmp_path)
    own.classes(lines)
    ids = BLOCK.copy()
    ids[30:, :32], ids[30:, 32:] = 2, 255
    in_colour = dict(enumerate(colours)) | {255: (255, 255, 255)}
    drawn = ids if colours == VOC_COLOURS else np.array([[in_colour[value] for value in row] for row in ids.tolist()])
    for name in own.names:
        own.save(f'masks/{name}.png', drawn)
    works('prepare_custom', *own.arguments('masks', more=['--cfg_dir', tmp_path / 'configs', *options]))

    run = tmp_path / 'snapshots' / 'mine' / 'spml'
    for folder, name in (('stage1', 'spml_joint'), ('classifier', 'classifier')):
        save_model(run / folder / 'model-3.pth', load_config(tmp_path / f'configs/{name}.yaml', TINY))
        segmenter = spml.load_segmenter(run, 'cpu')
        assert segmenter.class_names == tuple(names)
        assert segmenter.colours == colours
        assert segmenter.has_background is has_background
        labels = segmenter.predict(own.out / 'VOC2012/JPEGImages/00.png').labels
        assert set(np.unique(labels)) <= {0, 1, 2}
        assert ((own.label('00') == segmenter.void) == (ids == 255)).all()

    works('segment', own.folder / 'photos/00.png', '--run', run, '--device', 'cpu', '--opacity', 1)
    picture = np.array(Image.open(run / 'overlays/00.png'))[:48, :64]
    for index in range(int(has_background), 3):
        assert (picture[labels == index] == colours[index]).all()
