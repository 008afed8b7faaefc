"""Bytes to read: noise, valid files that were damaged, and files put together from valid and invalid parts."""
import io
import math
import pickle
import pickletools
import struct
import zipfile

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image
from raw_files import as_object, object_npy, png

from spml.config.schema import OBSOLETE, SCHEMA

NOISE = st.binary(max_size=400)


def damaged(*files):
    """Files of which some bytes are replaced, removed or added, or whose end is cut off."""
    edit = st.tuples(st.sampled_from(('replace', 'remove', 'insert', 'cut')), st.floats(0, 1), st.binary(max_size=6))

    def apply(content, edits):
        content = bytearray(content)
        for kind, place, data in edits:
            at = int(place * len(content))
            if kind == 'replace':
                content[at:at + len(data)] = data
            elif kind == 'remove':
                del content[at:at + len(data)]
            elif kind == 'insert':
                content[at:at] = data
            else:
                del content[at:]
        return bytes(content)
    return st.builds(apply, st.sampled_from(files), st.lists(edit, max_size=4))


def saved(save):
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


# Pictures

def _png(width, height, depth, kind, rows, interlace, extra):
    if rows is None:  # as many bytes as there should be
        channels = {2: 3, 4: 2, 6: 4}.get(kind, 1)
        rows = bytes(min(height, 20) * (1 + -(-min(width, 20) * channels * depth // 8)))
    return png(width, height, depth, kind, rows, interlace, extra)


_sides = st.one_of(st.integers(0, 20), st.sampled_from((2 ** 16, 2 ** 31 - 1, 2 ** 32 - 1)))
_chunk_names = st.sampled_from((b'PLTE', b'tRNS', b'zTXt', b'iTXt', b'tEXt', b'iCCP', b'gAMA', b'eXIf', b'IDAT',
                                b'acTL', b'fcTL', b'fdAT', b'IHDR', b'abcd'))
_rgb = Image.fromarray(np.arange(540, dtype=np.uint8).reshape(12, 15, 3))
_grey = Image.fromarray(np.arange(180, dtype=np.uint8).reshape(12, 15))
PNG_FILES = [saved(lambda out, image=image: image.save(out, 'PNG'))
             for image in (_grey, _rgb, _grey.convert('P'), _grey.convert('1'), _grey.convert('LA'))]
BUILT_PNG = st.builds(_png, _sides, _sides, st.sampled_from((1, 2, 4, 8, 8, 8, 16, 3)),
                      st.sampled_from((0, 0, 0, 2, 3, 4, 6, 5)), st.one_of(st.none(), st.binary(max_size=300)),
                      st.integers(0, 2),
                      st.lists(st.tuples(_chunk_names, st.binary(max_size=40)), max_size=3))
JPEG_FILES = [saved(lambda out, options=options: _rgb.save(out, 'JPEG', **options))
              for options in ({}, {'progressive': True}, {'quality': 5})] + [saved(lambda out: _grey.save(out, 'JPEG'))]
PICTURES = st.one_of(NOISE, damaged(*PNG_FILES, *JPEG_FILES), BUILT_PNG)
LABELS = st.one_of(NOISE, damaged(*PNG_FILES[:2]), BUILT_PNG)


# Arrays

_cam = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
_objects = [as_object(value) for value in ({0: _cam, 3: _cam}, {}, {np.int64(2): _cam.astype('>f8')}, {0: {1: [_cam]}})]
CAM_FILES = [object_npy(pickle.dumps(value, protocol)) for value in _objects for protocol in (0, 2, 4, 5)]
# What a pickle may be put together from: every opcode, with short arguments, and the names that numpy writes.
_opcodes = st.builds(lambda opcode, data: opcode.code.encode('latin1') + data,
                     st.sampled_from(pickletools.opcodes), st.binary(max_size=5))
_names = st.sampled_from((b'cnumpy.core.multiarray\n_reconstruct\n', b'cnumpy\nndarray\n', b'cnumpy\ndtype\n',
                          b'cnumpy.core.multiarray\nscalar\n', b'c_codecs\nencode\n', b'cos\nsystem\n',
                          b'cbuiltins\neval\n', b'(I0\ntR', b'(K\x00tR', b"S'x'\n", b'}', b'b', b's'))
_soup = st.lists(st.one_of(_names, _opcodes), max_size=25).map(lambda parts: object_npy(b''.join(parts) + b'.'))
_maps = st.builds(lambda shape, dtype, value: np.full(shape, value).astype(dtype),
                  st.lists(st.integers(0, 4), max_size=3), st.sampled_from(('<f4', '>f8', '<f2', '<i4', '|b1', '<U2')),
                  st.one_of(st.floats(0, 1), st.floats(-2, 2), st.just(math.nan)))
_cam_keys = st.one_of(st.integers(-1, 20), st.booleans(), st.text(max_size=2), st.tuples(st.integers(), st.integers()),
                      st.integers(0, 255).map(np.uint8))
_dicts = st.builds(lambda cams, protocol: object_npy(pickle.dumps(as_object(cams), protocol)),
                   st.dictionaries(_cam_keys, st.one_of(_maps, st.none(), st.just(_cam)), max_size=3),
                   st.integers(0, 5))
CAMS = st.one_of(NOISE, damaged(*CAM_FILES), _soup, _dicts)


def _npz(members, compress):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


_dtypes = st.sampled_from(('<f4', '<f8', '>f4', '<f2', '<i8', '|u1', '<u8', '|b1', '|O', '<U3', '|S2', '<c8', '<M8[s]',
                           [('a', '<f4')], '|V4', 'nonsense'))
_shapes = st.lists(st.one_of(st.integers(-1, 6), st.just(10 ** 12)), max_size=3).map(tuple)


def _npy(dtype, shape, fortran, data):
    header = repr({'descr': dtype, 'fortran_order': fortran, 'shape': shape}).encode('latin1')
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header) + 1) + header + b'\n' + data


_npy_files = st.builds(_npy, _dtypes, _shapes, st.booleans(), st.binary(max_size=200))
_good_npy = st.sampled_from([saved(lambda out, array=array: np.save(out, array)) for array in (
    np.ones((3, 8), np.float32), np.arange(3), np.full((3, 8), 1e300), np.arange(3).astype(np.uint8))])
_members = st.lists(st.tuples(st.sampled_from(('prototype.npy', 'prototype_label.npy', 'prototype', '../x.npy')),
                              st.one_of(_npy_files, _good_npy, NOISE)), max_size=4)
PROTOTYPE_FILES = [saved(lambda out, save=save: save(out, prototype=np.ones((3, 8), np.float32),
                                                     prototype_label=np.arange(3)))
                   for save in (np.savez, np.savez_compressed)]
_pairs = st.builds(
    lambda shape, dtype, label, kind: saved(lambda out: np.savez(
        out, prototype=np.full(shape, 0.5).astype(dtype), prototype_label=np.full(shape[:1], label).astype(kind))),
    st.lists(st.integers(0, 5), min_size=1, max_size=3), st.sampled_from(('<f4', '<f8', '>f2', '<i8', '<U3')),
    st.integers(-2, 300), st.sampled_from(('<i8', '|u1', '<u8', '<f4', '|b1')))
PROTOTYPES = st.one_of(NOISE, damaged(*PROTOTYPE_FILES), st.builds(_npz, _members, st.booleans()), _npy_files, _pairs)

_state = {'embedding_model': {'a': torch.zeros(3), 'b': torch.ones(2, 2)}, 'config': {'seed': 3}}
CHECKPOINT_FILES = [saved(lambda out, new=new: torch.save(_state, out, _use_new_zipfile_serialization=new))
                    for new in (True, False)]
CHECKPOINTS = st.one_of(NOISE, damaged(*CHECKPOINT_FILES), _soup)


# Text

_words = st.one_of(st.sampled_from(('a.jpg', 'deep/b.png', '..', '../x', 'x/../..', '/etc/passwd', './', '.', '\ufeff',
                                    '\0', 'x' * 300, '-')), st.text(max_size=8))
_tags = st.sampled_from(('-', '1,15', '0', '253', '254', '1,', '٣', '9' * 300, 'tag', 'mask'))
_lines = st.lists(st.one_of(st.lists(_words, max_size=4),
                            st.tuples(st.just('a.jpg'), _words, _words, _tags, _tags)).map(' '.join),
                  max_size=6).map('\n'.join)
LISTS = st.one_of(NOISE, _lines.map(lambda text: text.encode('utf-8', 'surrogatepass')))

_keys = st.one_of(st.sampled_from((*SCHEMA, *OBSOLETE, 'train', 'dataset', 'x.y')), st.text(max_size=6))
_leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.dates(),
                    st.sampled_from(('1e3', 'none', 'segsort', '0,1', '3e-3', 'VOC2012', 'stem')))
_values = st.recursive(_leaves, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.one_of(_leaves, _keys), inner, max_size=3)), max_leaves=6)
_required = {'dataset.num_classes': 4, 'network.backbone_types': 'panoptic_deeplab_14', 'network.embedding_dim': 8,
             'train.max_iteration': 9}


def _nested(flat):
    mapping = {}
    for name, value in flat.items():
        section, dot, key = str(name).rpartition('.')
        if dot and isinstance(mapping.setdefault(section, {}), dict):
            mapping[section][key] = value
        else:
            mapping[name] = value
    return mapping


CONFIGURATIONS = st.dictionaries(_keys, _values, max_size=5).map(lambda drawn: _nested({**_required, **drawn}))
GOOD_YAML = yaml.safe_dump(_nested(_required)).encode()
_tags = st.sampled_from((b'!!bool x', b"!!int ''", b'!!float []', b'&a [*a]', b'!!binary =', b'!!timestamp 1',
                         b'!!set {a, a}', b'!!python/object/apply:os.system [ls]', b'<<: *x', b'? [a]\n: b', b'- - - -',
                         b'%YAML 9.9', b'---\n---'))
YAML_FILES = st.one_of(
    NOISE, damaged(GOOD_YAML), CONFIGURATIONS.map(lambda mapping: yaml.safe_dump(mapping).encode()),
    st.lists(st.one_of(_tags, st.sampled_from((b'\n', b'train:', b' ', b'  seed: ', GOOD_YAML)), st.binary(max_size=5)),
             max_size=6).map(b''.join))
OVERRIDES = st.lists(st.one_of(st.text(max_size=12), st.builds('{}={}'.format, _keys, st.one_of(
    st.text(max_size=8), _values))), max_size=4)
