"""The colours of a configuration's classes reach every picture."""
import io

import numpy as np
import pytest
from PIL import Image

from spml import config as configuration

COLOURS = [[10, 20, 30], [200, 1, 99], [3, 250, 77]]
NOT_OF_INFERENCE = dict.fromkeys(('data_list', 'device', 'checkpoint', 'save_dir'))


@pytest.fixture
def own_classes(place):
    place.config.write_text(configuration.dump(place.make_config(f'dataset.color_map={COLOURS}')))
    return place


def test_contact_sheet(own_classes):
    place = own_classes
    place.works('inference', '--predictor', 'softmax')
    sheet = place.folder / 'sheet.png'
    place.works('contact_sheet', '--val_list', place.data.list, '--pred_dir', place.out / 'semantic_gray', '--out',
                sheet, **NOT_OF_INFERENCE)
    right_of_images = np.array(Image.open(sheet))[:, 212:]
    pixels = {tuple(pixel) for pixel in right_of_images.reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in COLOURS} <= pixels
    assert not {(128, 0, 0), (0, 128, 0)} & pixels


def test_training_pictures(own_classes):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    place = own_classes
    place.works('train', '--set', 'train.random_scale=false')
    events = accumulator.EventAccumulator(str(place.out / 'tensorboard'))
    events.Reload()
    picture = Image.open(io.BytesIO(events.Images('images/weak_label')[0].encoded_image_string))
    pixels = {tuple(pixel) for pixel in np.array(picture).reshape(-1, 3).tolist()}
    unlabelled, void = (72, 72, 72), (224, 224, 192)
    assert pixels - {unlabelled, void} <= {tuple(colour) for colour in COLOURS}
    assert pixels - {unlabelled, void}
