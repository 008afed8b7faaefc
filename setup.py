"""Install with `pip install -e .`; `pip install -e '.[test]'` adds what the tests need."""
from setuptools import find_packages, setup

setup(
    name='spml',
    version='0.1.0',
    description='Universal weakly supervised segmentation by pixel-to-segment contrastive learning (ICLR 2021)',
    license='MIT',
    packages=find_packages(include=['spml', 'spml.*']),
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.2',
        'torchvision>=0.17',
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
    extras_require={'test': ['pytest>=7.4', 'ruff>=0.5', 'hypothesis>=6.80']},
)
