import shutil
import stat
import sys
import zipfile

import pytest
import torch

from spml.errors import DataError
from spml.models.backbones.resnet import ResNetBackbone
from spml.models.heads import SoftmaxClassifier
from spml.models.networks import EmbeddingNetwork
from spml.prepare.weights import ARCHIVES, Architecture, unpack

SMALL = Architecture('deeplab', 4, 3, False)


def zip_of(path, members):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def small_networks(tmp_path, monkeypatch):
    """Networks of depth 14 wherever one of 101 is asked for, so that checks take no seconds."""
    monkeypatch.setattr('spml.models.backbones.resnet.STAGE_BLOCKS', {14: (1, 1, 1, 1), 101: (1, 1, 1, 1)})
    monkeypatch.setattr('spml.prepare.weights.ARCHIVES', {'voc12_scribble': SMALL, 'densepose_point': SMALL})
    yield
    # Tens of megabytes each, which pytest would keep for three runs.
    shutil.rmtree(tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that plays the hub: `hf_hub_download` copies from it, and raises as if offline for what is not there."""
    folder = tmp_path / 'hub'
    folder.mkdir()
    folder_asked = []

    def download(repository, name, local_dir):
        assert repository == 'twke/SPML'
        folder_asked.append(name)
        if not (folder / name).is_file():
            raise ValueError('cannot reach the hub. Try again.\nmore')
        local_dir.mkdir(parents=True, exist_ok=True)
        return shutil.copy(folder / name, local_dir)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    return folder, folder_asked


def save_checkpoint(path, architecture=SMALL, with_head=True):
    head, dim, classes, colour = architecture
    content = {'embedding_model': EmbeddingNetwork(ResNetBackbone(14), head, dim, colour).state_dict(),
               'prediction_model': SoftmaxClassifier(dim, classes, 0.5).state_dict() if with_head else {}}
    torch.save(content, path)
    return path


def save_imagenet(path, without=None):
    state = ResNetBackbone(101).state_dict()
    flat = {key.removeprefix('conv1.') if key.startswith('conv1.') else
            f'layer{int(key[3]) - 1}{key[4:]}': value for key, value in state.items()}
    flat.pop(without, None)
    torch.save(flat, path)


def test_weights_are_fetched_unpacked_and_checked(tmp_path, hub, small_networks, works):
    folder, asked = hub
    stage1 = save_checkpoint(tmp_path / 'a.pth').read_bytes()
    zip_of(folder / 'voc12_scribble.zip', {
        'voc12_scribble/stage1/model-29999.pth': stage1, 'voc12_scribble/stage1/model-29999.state.pth': b'other',
        'voc12_scribble/stage2/': b'', 'voc12_scribble/notes.pth': b'no weights',
        'voc12_scribble/stage2/model-3999.pth': save_checkpoint(tmp_path / 'b.pth', with_head=False).read_bytes()})
    save_imagenet(folder / 'resnet-101-cuhk.pth')
    out = tmp_path / 'snapshots'
    arguments = ['--out', out, '--num_workers', 0, '--files', 'resnet-101-cuhk', 'voc12_scribble']
    printed = works('fetch_weights', *arguments)
    released = out / 'released/voc12_scribble/voc12_scribble'
    lines = printed.splitlines()
    assert lines[0] == f'{out}/imagenet/trained/resnet-101-cuhk.pth: ImageNet backbone'
    assert lines[1].startswith(f'not usable here: {released}/notes.pth: ')
    assert lines[2:] == [f'{released}/stage1/model-29999.pth: embedding and softmax head',
                         f'{released}/stage2/model-3999.pth: embedding']
    assert (released / 'stage1/model-29999.pth').read_bytes() == stage1
    assert asked == ['resnet-101-cuhk.pth', 'voc12_scribble.zip']
    assert works('fetch_weights', *arguments) == printed
    assert len(asked) == 2


def test_offline_one_line_says_which_file_to_put_where(tmp_path, hub, small_networks, fails, works):
    out = tmp_path / 'snapshots'
    place = out / 'released/archives/densepose_point.zip'
    arguments = ['--out', out, '--num_workers', 0, '--files', 'densepose_point']
    fails('fetch_weights', *arguments, naming=[
        f'{place}: cannot be fetched (cannot reach the hub)',
        'put the file https://huggingface.co/twke/SPML/resolve/main/densepose_point.zip there'])
    fails('fetch_weights', '--out', out, '--files', 'resnet-101-cuhk', naming=[
        f'{out}/imagenet/trained/resnet-101-cuhk.pth: cannot', '/resnet-101-cuhk.pth there'])
    place.parent.mkdir(parents=True)
    zip_of(place, {'model-44999.pth': save_checkpoint(tmp_path / 'a.pth').read_bytes()})
    assert works('fetch_weights', *arguments) == (
        f'{out}/released/densepose_point/model-44999.pth: embedding and softmax head\n')


def test_without_the_hubs_library_one_line_says_what_to_install(tmp_path, monkeypatch, fails):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    fails('fetch_weights', '--out', tmp_path, naming=["pip install -e '.[data]'"])


def test_what_does_not_fit_is_named(tmp_path, hub, small_networks, fails):
    folder, _ = hub
    out = tmp_path / 'snapshots'
    arguments = ['--out', out, '--num_workers', 0, '--files']
    other = save_checkpoint(tmp_path / 'a.pth', Architecture('deeplab', 6, 3, False)).read_bytes()
    for members, naming in (({'model-9.pth': other}, 'aspp.aspp_1.0.weight'), ({'model-9.pth': b'text'}, 'model-9.pth'),
                            ({'readme.txt': b'text'}, 'no .pth file')):
        zip_of(folder / 'voc12_scribble.zip', members)
        shutil.rmtree(out, ignore_errors=True)
        fails('fetch_weights', *arguments, 'voc12_scribble', naming=[out / 'released/voc12_scribble', naming])
    save_imagenet(folder / 'resnet-101-cuhk.pth', without='layer3.0.conv2.weight')
    fails('fetch_weights', *arguments, 'resnet-101-cuhk', naming=[
        out / 'imagenet/trained/resnet-101-cuhk.pth', 'res4.0.conv2.weight is missing'])
    shutil.rmtree(out)
    (folder / 'voc12_scribble.zip').write_bytes(b'no archive')
    fails('fetch_weights', *arguments, 'voc12_scribble', naming=[out / 'released/archives/voc12_scribble.zip'])


@pytest.mark.parametrize('name', ['../out.txt', '/tmp/out.txt', 'a/../../out.txt', 'a\\..\\..\\out.txt', 'c:/out.txt'])
def test_nothing_is_unpacked_outside_the_folder(tmp_path, name):
    archive = tmp_path / 'a.zip'
    zip_of(archive, {'good.txt': b'1', name: b'2'})
    with pytest.raises(DataError, match=r'a\.zip: the member .*outside'):
        unpack(archive, tmp_path / 'deep' / 'folder')
    assert {path.name for path in tmp_path.rglob('*')} <= {'a.zip', 'deep'}


def test_links_and_bombs_are_refused(tmp_path, monkeypatch):
    archive = tmp_path / 'a.zip'
    link = zipfile.ZipInfo('link')
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, 'w') as writer:
        writer.writestr(link, '/etc')
    with pytest.raises(DataError, match='link'):
        unpack(archive, tmp_path / 'folder')
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as writer:
        writer.writestr('zeros', bytes(2000))
    monkeypatch.setattr('spml.prepare.weights.MAX_UNPACKED', 1999)
    with pytest.raises(DataError, match='more than'):
        unpack(archive, tmp_path / 'folder')
    monkeypatch.setattr('spml.prepare.weights.MAX_UNPACKED', 2000)
    unpack(archive, tmp_path / 'folder')
    assert (tmp_path / 'folder/zeros').read_bytes() == bytes(2000)


@pytest.mark.parametrize('share', [0.3, 0.9])
def test_a_damaged_archive_leaves_nothing_behind(tmp_path, share):
    archive = tmp_path / 'a.zip'
    zip_of(archive, {'a.txt': bytes(range(256)) * 20, 'b.txt': b'2'})
    content = bytearray(archive.read_bytes())
    if share < 0.5:
        content[200] ^= 1  # of the first member's content
    else:
        del content[int(share * len(content)):]
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r'a\.zip: not a readable archive'):
        unpack(archive, tmp_path / 'folder')
    assert [path.name for path in tmp_path.iterdir()] == ['a.zip']


def test_the_released_architectures():
    """METHOD.md, "Checkpoint keys": 64 channels and 21 classes on VOC, 32 and 15 with colour on DensePose."""
    names = ('voc12_tag', 'voc12_box', 'voc12_scribble', 'voc12_point')
    want = dict.fromkeys(names, Architecture('deeplab', 64, 21, False))
    assert {**want, 'densepose_point': Architecture('pspnet', 32, 15, True)} == ARCHIVES
