"""The page as a file: what it holds, and what it does with runs that do not have everything."""
import html.parser
import re
import shutil
import sys

import pytest

pytestmark = pytest.mark.usefixtures('one_thread')


class Page(html.parser.HTMLParser):
    """The tags of a page with their attributes, the text outside of scripts and styles, and balanced ends."""

    VOID = ('meta', 'link', 'img', 'br')

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(path.read_text(encoding='utf-8'))
        assert self.open == []
        self.text = ' '.join(' '.join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {'script', 'style'} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def sections(page):
    return [attributes['id'] for attributes in page.all('h2')]


def test_a_run_alone(works, made):
    out = works('report', made.runs[0], '--no-predict')
    assert out == f'report: {made.runs[0] / "report.html"}\n'
    page = Page(made.runs[0] / 'report.html')
    assert sections(page) == ['scores', 'confusion', 'images', 'curves', 'prototypes', 'costs', 'settings']
    assert [link['href'] for link in page.all('a')] == [f'#{name}' for name in sections(page)]
    assert 'SPML 1.2, PyTorch 3.4' in page.text
    assert 'stage1: train.base_lr 0.01 0.003' in page.text  # not the default
    # Four validation images of three pictures, five training images of four (no prediction, the cell is empty).
    assert len(page.all('img')) == 4 * 3 + 5 * 4
    assert page.text.count('none prediction') == 5
    assert all(image['alt'] for image in page.all('img'))
    charts = [attributes for attributes in page.all('div') if attributes.get('role') == 'img']
    assert all(len(chart['aria-label']) > 20 for chart in charts)
    assert len(charts) >= 10


def test_nothing_is_fetched_and_names_stay_text(works, made):
    works('report', made.runs[0], '--no-predict')
    page = Page(made.runs[0] / 'report.html')
    for _, attributes in page.tags:
        for name in ('src', 'href', 'srcset', 'action', 'data'):
            assert re.match(r'(#|data:|$)', attributes.get(name) or ''), attributes
    assert not page.all('script') or not any('src' in script for script in page.all('script'))
    assert not re.search(r'@import|url\(', ' '.join(re.findall(
        r'<style>(.*?)</style>', (made.runs[0] / 'report.html').read_text(), re.DOTALL)))
    assert page.all('b') == [{}] * 4  # the headings of the groups of images, and no class's name
    assert made.class_names[2] in page.text


def test_runs_side_by_side(works, made, tmp_path):
    works('report', *made.runs, '--no-predict', '--out', tmp_path / 'new' / 'page.html', '--num_images', 1)
    page = Page(tmp_path / 'new' / 'page.html')
    assert 'SPML: a/run and b/run' in page.text
    differences = page.text.partition('What differs')[2].partition('All settings')[0]
    assert 'stage1: train.base_lr 0.01 0.02' in differences
    assert 'train.momentum' not in differences
    # Image, two predictions and truth of three images; next to them two pseudo labels and a weak label of three.
    assert len(page.all('img')) == 3 * 4 + 3 * 5


def test_training_images_are_predicted_with_the_runs_weights(works, made, small_config, save_model):
    save_model(made.runs[0] / 'classifier' / 'model-3.pth', small_config())
    works('report', *made.runs, '--device', 'cpu')
    page = Page(made.runs[0] / 'report.html')
    assert page.text.count('none prediction, a/run') == 0
    assert page.text.count('none prediction, b/run') == 5


def test_what_a_run_lacks_is_left_out(works, made):
    run = made.runs[0]
    for name in ('prototypes', 'predicted', 'labelled', 'stage1', 'classifier'):
        shutil.rmtree(run / name)
    record = run / 'run.jsonl'
    record.write_text(record.read_text().replace('"seconds": 9.5', '"seconds": 0'))
    works('report', run)
    assert sections(Page(run / 'report.html')) == ['scores', 'confusion', 'settings']
    works('report', made.runs[1] / 'stage1')
    assert sections(Page(made.runs[1] / 'stage1' / 'report.html')) == ['curves', 'settings']


def test_moved_data_are_found_by_an_option(works, made):
    moved = made.data.rename(made.data.with_name('moved'))
    run = made.runs[0]
    (run / 'lists').mkdir()
    for name in ('train', 'full', 'val'):
        shutil.copy(moved / f'{name}.txt', run / 'lists' / f'input_{name}.txt')
    assert works('report', run, '--no-predict').startswith(f'note: {run}: ')
    assert 'images' not in sections(Page(run / 'report.html'))
    works('report', run, '--no-predict', '--data_dir', moved)
    assert 'images' in sections(Page(run / 'report.html'))


def test_mistakes_are_one_line_and_leave_no_page(fails, made, monkeypatch):
    (made.data / 'image' / 'v1.png').write_bytes(b'no image')
    for arguments, named in (([made.data], made.data), ([made.runs[0]], 'v1.png'), ([made.runs[0]] * 2, 'twice')):
        fails('report', *arguments, '--no-predict', naming=[named])
    assert not list(made.runs[0].glob('*.html'))
    monkeypatch.setitem(sys.modules, 'plotly', None)
    for name in [name for name in sys.modules if name.startswith(('spml.report.', 'plotly.'))]:
        monkeypatch.delitem(sys.modules, name)
    fails('report', made.runs[1], naming=['pip install'])


def test_images_of_one_name_in_both_lists_are_compared_with_their_own_truth(works, made):
    run = made.runs[0]
    for name in made.parts['train']:  # the pseudo labels of this run are right
        shutil.copy(made.data / f'truth/{name}.png', run / f'labelled/semantic_gray/{name}.png')
    for folder in ('image', 'truth'):
        (made.data / f'other_{folder}').mkdir()
        shutil.move(made.data / f'{folder}/v0.png', made.data / f'other_{folder}/t0.png')
    shutil.move(run / 'predicted/semantic_gray/v0.png', run / 'predicted/semantic_gray/t0.png')
    lines = (made.data / 'val.txt').read_text()
    (made.data / 'val.txt').write_text(lines.replace('image/v0.png', 'other_image/t0.png').replace(
        'truth/v0.png', 'other_truth/t0.png'))
    works('report', run, '--no-predict', '--num_images', 9)
    text = Page(run / 'report.html').text
    training = text[text.index('Training images'):]
    assert all(f'{name}: 100.0 %' in training for name in made.parts['train'])
    assert training.count('none prediction') == 5  # not even of t0, of which there is a prediction, of the other image
