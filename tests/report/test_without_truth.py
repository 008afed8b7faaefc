"""A run of own data without any truth, as bashscripts/custom/train_spml.sh leaves it without a VAL_LIST."""
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from test_page import Page, sections

from spml.pipeline.record import Recorder
from spml.report.run_folder import read_runs

WEAK = ['t0', 't1', 't2', 't3', 't4']  # t4 has tags alone
OTHERS = ['v0', 'v1', 'v2', 'v3']


@pytest.fixture
def run(made, rng):
    """The folder of such a run, whose final predictions are of all images."""
    run, data = made.runs[0], made.data
    for name in ('scores', 'prototypes'):
        shutil.rmtree(run / name)
    (data / 'full.txt').unlink()
    (data / 'val.txt').unlink()
    shutil.rmtree(data / 'truth')
    lines = [f'image/{name}.png {f"weak/{name}.png" if name != "t4" else "-"} weak/{name}.png 1 '
             f'{"scribble" if name != "t4" else "tag"}' for name in WEAK]
    (data / 'train.txt').write_text('\n'.join(lines))
    (data / 'all.txt').write_text('\n'.join(f'image/{name}.png' for name in WEAK + OTHERS))
    for name in WEAK:
        Image.fromarray(rng.integers(0, 3, (40, 36), dtype=np.uint8)).save(
            run / f'predicted/semantic_gray/{name}.png')
    (run / 'run.jsonl').unlink()
    recorder = Recorder(run)
    recorder.write('run', run_dir=str(run), script='train_spml.sh', version='1.2', torch='3.4',
                   settings={'DATAROOT': str(data), 'VAL_LIST': '', 'FULL_LIST': '', 'TRAIN_LIST': 'x'})
    for name, script, output, data_list in (
            ('train_embedding', 'train/train.py', 'stage1', 'train'),
            ('pseudo_labels', 'inference/pseudo_label.py', 'labelled', 'train'),
            ('train_classifier', 'train/train_classifier.py', 'classifier', 'train'),
            ('inference_final', 'inference/inference.py', 'predicted', 'all')):
        recorder.write('stage', stage=name, title='', script=f'pyscripts/{script}', output=output, status='done',
                       arguments=['--data_dir', str(data), '--data_list', str(data / f'{data_list}.txt')],
                       seconds=1, memory=1 << 20, gpu_memory=0)
    return run


def test_the_report_shows_the_training_images_and_says_that_there_is_no_truth(run, made, works):
    works('report', run, '--no-predict')
    page = Page(run / 'report.html')
    assert sections(page) == ['images', 'curves', 'costs', 'settings']
    assert 'there is no truth to score against (VAL_LIST and FULL_LIST are empty)' in page.text
    # Image and prediction of 4 others; image, weak label, pseudo label and prediction of 5, of which one has no label.
    assert len(page.all('img')) == 4 * 2 + 5 * 4 - 1
    assert page.text.count('none weak label') == 1
    assert 'truth' not in page.text.partition('Other images')[2].partition('Curves')[0]
    for part, names in (('Other images', OTHERS), ('Training images', WEAK)):
        text = page.text.partition(part)[2]
        assert text.startswith(f' Not ranked, for they are not scored; {len(names)} images.')
        assert all(f' {name} ' in text for name in names)


def test_several_runs_side_by_side(run, made, works):
    works('report', run, made.runs[1], '--no-predict', '--num_images', 1)
    page = Page(run / 'report.html')
    assert page.text.count('no score') == 1
    assert len(page.all('img')) == 3 * 3 + 3 * 6 - page.text.count('none weak') - page.text.count('none prediction')


def test_pseudo_labels_without_truth_beside_scores(made, works):
    """Own scribbles with masks of other photos: the validation images are scored, the pseudo labels are not."""
    record = made.runs[0] / 'run.jsonl'
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    record.write_text(''.join(f'{json.dumps(row)}\n' for row in rows if row.get('stage') != 'score_pseudo'))
    found, = read_runs(made.runs[:1])
    assert (found.predictions.title, found.predictions.truth_list) == ('the end', made.data / 'val.txt')
    assert found.pseudo_labels.folder == made.runs[0] / 'labelled/semantic_gray'
    assert (found.pseudo_labels.image_list, found.pseudo_labels.truth_list) == (made.data / 'train.txt', None)
    assert not found.has_no_truth
    works('report', made.runs[0], '--no-predict')
    scored, _, others = Page(made.runs[0] / 'report.html').text.partition('Training images')
    assert scored.count(' truth') >= 4
    assert ' truth' not in others.partition('Curves')[0]


def test_results_of_stages_that_did_not_end_are_left_out(run):
    record = run / 'run.jsonl'
    record.write_text(record.read_text().replace('"status": "done"', '"status": "failed"'))
    found, = read_runs([run])
    assert (found.predictions, found.pseudo_labels) == (None, None)


def test_the_contact_sheet_has_every_column_but_the_truth(run, made, works):
    out = run / 'contact_sheet.png'
    works('contact_sheet', '--data_dir', made.data, '--train_list', made.data / 'train.txt', '--pseudo_dir',
          run / 'labelled/semantic_gray', '--pred_dir', run / 'predicted/semantic_gray', '--num_classes', 3, '--out',
          out, '--num_images', 9)
    sheet = np.array(Image.open(out))
    empty, (cell, height, gap, text) = (228, 228, 228), (200, 222, 6, 20)  # 200 * 40 / 36
    assert sheet.shape[1] == gap + 4 * (cell + gap)
    for row, name in enumerate(WEAK):
        top = text + row * (height + text + gap)
        for column, folder in enumerate((made.data / 'weak', run / 'labelled/semantic_gray',
                                         run / 'predicted/semantic_gray'), 1):
            found = sheet[top:top + height, gap + column * (cell + gap):][:, :cell]
            if column == 1 and name == 't4':
                assert (found == empty).all()
                continue
            label = np.array(Image.open(folder / f'{name}.png'))
            colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(72, 72, 72)] * 252, (224, 224, 192)])
            # Where cells and label maps have their pixels in the same place: at the centres of 40 x 36 blocks.
            rows, columns = ((np.arange(size) * 2 + 1) * side // (2 * size)
                             for size, side in zip(label.shape, (height, cell), strict=True))
            np.testing.assert_array_equal(found[np.ix_(rows, columns)], colours[label])


def test_the_summary_says_so(run, fails):
    fails('summary', '--run_dir', run, naming=['no scores', 'VAL_LIST and FULL_LIST are empty'])
