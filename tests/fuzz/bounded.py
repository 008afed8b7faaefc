"""Reads files whose parts are valid and put together wrongly, in a process that may take 1 GiB more than it has.

    python bounded.py SEED NUMBER FOLDER

Prints how many files each reader has read and refused. It ends with a traceback where a reader fails in another way
than by one line, takes more memory than the limit allows, or is not done in time.
"""
import base64
import io
import json
import pathlib
import pickle
import resource
import struct
import sys
import time
import warnings
import zipfile
import zlib

import numpy as np
import safetensors.torch
import torch
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from raw_files import as_object, chunk, object_npy

from spml.config import load_config
from spml.data.lists import read_list
from spml.data.readers import image_size, read_cam, read_image, read_label, read_prototypes
from spml.errors import SpmlError
from spml.models.files import read_checkpoint
from spml.prepare import labelme
from spml.prepare.coco_masks import decode_mask, read_records
from spml.program import one_line
from spml.utils.formats import read_json

LIMIT = 1 << 30
SECONDS = 20  # for one file, on a machine that does other things too
OUT_OF_MEMORY = ('memory', 'allocate', 'memoryerror')


class Maker:
    """Random files of each format."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def size(self):
        return int(self.pick(0, 1, 3, 9, 255, 11_000, 65_500, 2 ** 20, 2 ** 31 - 1, 2 ** 32 - 1, 2 ** 40, 2 ** 62))

    def shuffled(self, parts):
        """Return parts of which some are doubled, left out or moved."""
        parts = list(parts)
        for _ in range(self.rng.integers(4)):
            at = int(self.rng.integers(len(parts)))
            how = self.pick('double', 'drop', 'move')
            if how == 'double':
                parts.insert(int(self.rng.integers(len(parts) + 1)), parts[at])
            elif how == 'drop' and len(parts) > 1:
                del parts[at]
            else:
                parts.insert(int(self.rng.integers(len(parts))), parts.pop(at))
        return parts

    def header(self):
        sides = (min(self.size(), 2 ** 32 - 1) for _ in range(2))
        return chunk(b'IHDR', struct.pack('>IIBBBBB', *sides, self.pick(1, 4, 8, 8, 16), self.pick(0, 2, 3, 4, 6), 0, 0,
                                          self.pick(0, 0, 1)))

    def png(self):
        rows = zlib.compress(bytes(self.pick(12, 90, 10_000)))
        first = chunk(b'IHDR', struct.pack('>IIBBBBB', 8, 9, 8, self.pick(0, 2), 0, 0, 0))
        extra = (lambda: self.header(), lambda: chunk(self.pick(b'zTXt', b'iCCP'), b'a\0\0' + zeros(1 << 28)),
                 lambda: chunk(b'IDAT', zeros(1 << 31)), lambda: chunk(b'PLTE', bytes(768)),
                 lambda: chunk(b'acTL', struct.pack('>II', self.size() % 2 ** 32, 0)),
                 lambda: chunk(b'fcTL', bytes(4) + struct.pack('>II', self.size() % 2 ** 32, 9) + bytes(14)),
                 lambda: struct.pack('>I', self.size() % 2 ** 32) + b'tEXt',
                 lambda: chunk(b'eXIf', b'MM\0*' + bytes(9)))
        parts = [self.pick(first, first, self.header()), *(self.pick(*extra)() for _ in range(self.rng.integers(3))),
                 chunk(b'IDAT', rows), chunk(b'IEND', b'')]
        return b'\x89PNG\r\n\x1a\n' + b''.join(self.shuffled(parts))

    def jpeg(self):
        out = io.BytesIO()
        Image.fromarray(self.rng.integers(0, 256, (24, 32, 3), np.uint8)).save(
            out, 'JPEG', progressive=self.pick(True, False), restart_marker_blocks=self.pick(0, 2))
        content = out.getvalue()
        cuts = [at for at in range(len(content) - 1)
                if content[at] == 255 and 0xC0 <= content[at + 1] <= 0xFE and content[at + 1] & 0xF8 != 0xD0]
        parts = [content[start:end] for start, end in zip(cuts, [*cuts[1:], len(content)], strict=True)]
        for number, part in enumerate(parts):
            if part[1] in (0xC0, 0xC2) and self.pick(True, False):  # the header: height, width, components
                sides = struct.pack('>HH', *(self.size() % 2 ** 16 for _ in range(2)))
                parts[number] = part[:5] + sides + part[9:]
            elif self.rng.random() < 0.05:
                parts[number] = part[:2] + struct.pack('>H', self.size() % 2 ** 16) + part[4:]
        return content[:cuts[0]] + b''.join(self.shuffled(parts))

    def label(self):
        return self.png()

    def image(self):
        return self.pick(self.png, self.jpeg)()

    def pickled(self):
        """Return opcodes that state sizes, that share, that nest, in front of or inside of a good file of CAMs."""
        number = self.size()
        cam = np.linspace(0, 1, 2500, dtype=np.float32).reshape(50, 50)
        good = pickle.dumps(as_object({number % 200: cam, 3: cam * 0}), self.pick(0, 2, 4, 5))
        sized = (b'\x96' + struct.pack('<Q', number), b'\x8e' + struct.pack('<Q', number),
                 b'\x95' + struct.pack('<Q', number), b'\x8b' + struct.pack('<i', number % 2 ** 31),
                 b'B' + struct.pack('<I', number % 2 ** 32), b'r' + struct.pack('<I', number % 2 ** 32),
                 b'p%d\n' % number, b'I%d\n' % number, b'L%dL\n' % 10 ** 4000)
        calls = (b'cbuiltins\nbytearray\n(I%d\ntR' % number, b'cnumpy\nndarray\n(I%d\ntR' % number,
                 b'c_codecs\nencode\n(I%d\nX\x06\0\0\0latin1tR' % number, b'cnumpy\ndtype\n(VV%d\ntR' % number)
        doubled = b'K\x01' + b''.join(b'q%c h%c\x86'.replace(b' ', b'') % (at, at) for at in range(60))
        nested = self.pick(b'(', b']', b'}', b'(l') * 100_000
        shared = (b'\x80\x04}q\x00' + b''.join(b'h\x00K%ch\x01s' % (at,) for at in range(200)) if number % 2 else b'')
        parts = [self.pick(*sized), self.pick(*calls), doubled, nested, b'}' + doubled + b'K\x01s', shared]
        start = good.find(b'\x80') + 2 if good.startswith(b'\x80') else 0
        return self.pick(good, good[:start] + self.pick(*parts) + good[start:], b'\x80\x04' + self.pick(*parts) + b'.',
                         good.replace(b'(M', b'(J').replace(struct.pack('<H', 50), struct.pack('<H', number % 2 ** 16)))

    def cam(self):
        return object_npy(self.pickled()) if self.pick(True, True, False) else self.array()

    def array(self):
        header = repr({'descr': self.pick('<f4', '<f8', '|O', '<U9'), 'fortran_order': False, 'shape': tuple(
            self.size() for _ in range(self.rng.integers(3)))}).encode()
        return b'\x93NUMPY\x01\0' + struct.pack('<H', len(header) + 1) + header + b'\n' + bytes(400)

    def prototypes(self):
        good = [(f'{name}.npy', npy(array)) for name, array in (
            ('prototype', np.ones((3, 8), np.float32)), ('prototype_label', np.arange(3)))]
        odd = [('prototype.npy', self.array()), ('prototype_label.npy', self.array()), ('more.npy', self.array())]
        return archive(self.shuffled(self.pick(good, [good[0], odd[1]], [odd[0], good[1]], [*good, odd[2]])),
                       grows=self.pick(None, None, 'prototype.npy', 'more.npy'), listed=self.pick(0, 0, 0, 200_000))

    def checkpoint(self):
        out = io.BytesIO()
        torch.save({'embedding_model': {'a': torch.zeros(30)}}, out)
        with zipfile.ZipFile(out) as source:
            members = [(name, source.read(name)) for name in source.namelist()]
        data = members[0][0]
        call = self.pick(b'c__builtin__\nbytearray\n(I%d\ntR', b'ctorch\nFloatTensor\n(I%d\ntR',
                         b'ctorch.storage\nUntypedStorage\n(I%d\ntR', b'I%d\n') % self.size()
        hostile = b'\x80\x02}X\x01\0\0\0a' + self.pick(call, b'(' * 100_000, b']' * 100_000) + b's.'
        if self.pick(True, False):
            members[0] = data, hostile
        if self.rng.random() < 0.2:
            return b''.join(pickle.dumps(value, 2) for value in (0x1950a86a20f9469cfc6c, 1001, {})) + hostile
        return archive(self.shuffled(members), grows=self.pick(None, None, data, data.replace('data.pkl', 'data/0')),
                       listed=self.pick(0, 0, 0, 200_000))

    def weights(self):
        """Return a `.safetensors`."""
        if self.rng.random() < 0.2:
            return safetensors.torch.save({'a': torch.zeros(20)})
        header = json.dumps({'a': {'dtype': self.pick('F32', 'I64', 'X'), 'shape': [self.size() for _ in range(2)],
                                   'data_offsets': [0, self.pick(400, self.size())]},
                             '__metadata__': {'parts': '[' * self.pick(1, 100_000), 'config': '{}'}}).encode()
        return struct.pack('<Q', self.pick(len(header), self.size())) + header + bytes(400)

    def deep(self):
        """Return a JSON value that is nested, long or large."""
        depth = int(self.pick(3, 200, 990, 2000, 100_000))
        return self.pick('[' * depth + ']' * depth, '{"a":' * depth + '1' + '}' * depth, '1' * 4000, '1e999', 'NaN',
                         '"x"', '[[1, 2], [3, 4]]', '[[4, 4], [23, 4], [23, 19]]', '-' + '9' * 400, 'null')

    def json(self):
        shape = {'label': '"cat"', 'points': self.deep(), 'shape_type': self.pick('"polygon"', '"mask"', self.deep()),
                 'mask': f'"{base64.b64encode(self.png()).decode()}"'}
        if self.pick(True, False):
            shape |= {'shape_type': '"mask"', 'points': '[[0, 0], [8, 9]]'}
        fields = ', '.join(f'"{name}": {value}' for name, value in shape.items())
        images = (f'[{{"id": {self.pick("1", self.deep())}, "file_name": "a.jpg", '
                  f'"width": {self.pick("30", self.deep())}}}]')
        notes = (f'[{{"id": 1, "image_id": {self.pick("1", self.deep())}, "category_id": 1, '
                 f'"segmentation": {self.deep()}}}]')
        return self.pick(f'{{"shapes": [{{{fields}}}], "imageHeight": {self.pick("20", self.deep())}}}', self.deep(),
                         f'{{"images": {images}, "annotations": {notes}, "categories": [{{"id": 1, "name": "cat"}}]}}'
                         ).encode()

    def yaml(self):
        laughs = 'a0: &a0 [x, x]\n' + ''.join(f'a{at}: &a{at} [*a{at - 1}, *a{at - 1}]\n' for at in range(1, 40))
        depth = int(self.pick(5, 300, 3000))
        return self.pick(laughs, laughs + 'train: {base_lr: *a39}\n', laughs + 'train: {crop_size: *a39}\n',
                         'train: ' + '[' * depth + ']' * depth, 'train: ' + '{a: ' * depth + '}' * depth,
                         'train:\n  max_iteration: ' + '9' * int(self.pick(30, 5000)), '!!int ' + '1:' * 3000 + '1'
                         ).encode()

    def list(self):
        if self.rng.random() < 0.2:
            return b'a.png b.png\n'
        return (self.pick('a', '../', '\0', '1,', 'mask ', '9' * 400) * int(self.pick(1, 30, 5000)) + ' a.png b.png '
                + self.pick('', '1,2 ', ',' * 9999, '9' * 9999)).encode()


def zeros(number):
    """Return zlib's compression of so many zeros, made from parts."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block + again * max(0, (number >> 20) - 1)


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def archive(members, grows, listed):
    """Return a zip; the member `grows` unpacks to 2 GiB of zeros, and the list has `listed` entries too many."""
    body, entries = b'', b''
    for name, data in members:
        size, method = len(data), 0
        if name == grows:
            data, size, method = zeros(1 << 31)[2:], 1 << 31, 8
        common = struct.pack('<HHHHHIIIHH', 20, 0, method, 0, 33, zlib.crc32(data), len(data), size, len(name), 0)
        entries += b'PK\x01\x02\x14\0' + common + struct.pack('<HHHII', 0, 0, 0, 0, len(body)) + name.encode()
        body += b'PK\x03\x04' + common + name.encode() + data
    number = min(len(members) + listed, 65535)
    if listed and members:
        last = entries[entries.rindex(b'PK\x01\x02'):]
        entries += last * listed
    return body + entries + b'PK\x05\x06' + struct.pack('<HHHHIIH', 0, 0, number, number, len(entries), len(body), 0)


def read_annotations(path):
    """Read a JSON as what it may be: a file of LabelMe, then one of COCO."""
    size = (20, 30)
    content = read_json(path, 'export it again')
    if isinstance(content, dict) and 'shapes' in content:
        return [labelme.area(shape, size) for shape in labelme.read_shapes(path, size, [])]
    return [decode_mask(record.get('segmentation'), size, category.where)
            for image in read_records(path) for record, category, *_ in map(_parts, image.annotations)]


def _parts(annotation):
    where, category, record = annotation
    return record, category, where


READERS = {'image': read_image, 'label': read_label, 'size': image_size, 'cam': read_cam,
           'prototypes': read_prototypes, 'checkpoint': read_checkpoint, 'weights': read_checkpoint,
           'json': read_annotations, 'yaml': load_config, 'list': lambda path: read_list(path, path.parent)}


def main(seed, number, folder):
    """Read and count."""
    warnings.simplefilter('ignore')
    maker = Maker(seed)
    with open('/proc/self/statm') as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT, resource.RLIM_INFINITY))
    for kind, read in READERS.items():
        path, counts = folder / f'file{".safetensors" if kind == "weights" else ".pth"}', [0, 0]
        for case in range(number):
            path.write_bytes(maker.image() if kind == 'size' else getattr(maker, kind)())
            began, state = time.monotonic(), f'{kind}, seed {seed}, case {case}'
            try:
                read(path)
            except SpmlError as error:
                counts[1] += 1
                text = one_line(error).lower()
                assert not any(word in text for word in OUT_OF_MEMORY), f'{state}: {text[:300]}'
                assert len(text) < 2000, f'{state}: {len(text)} letters'
            except BaseException as error:
                raise AssertionError(f'{state}: {type(error).__name__}: {str(error)[:300]}') from error
            else:
                counts[0] += 1
            assert time.monotonic() - began < SECONDS, f'{state}: {time.monotonic() - began:.0f} s'
        print(kind, *counts, flush=True)


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]))
