"""Build script: the package, plus the folder ``mmseg_aml/.mim`` that ``mim`` looks into.

``.mim`` holds ``tools/``, ``configs/`` and ``model-index.yml``: as copies inside a wheel, as
links in the checkout after ``pip install -e .``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmseg_aml'
MIM_PARTS = ('tools', 'configs', 'model-index.yml')


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _place(source: Path, target: Path, link: bool) -> None:
    _remove(target)
    if link:
        target.symlink_to(source)
    elif source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
    else:
        shutil.copy2(source, target)


class BuildWithMim(build_py):
    """``build_py`` is what every way of installing runs, also PEP 660's ``editable_wheel``."""

    def run(self) -> None:
        super().run()
        link = bool(self.editable_mode)
        folder = (ROOT if link else Path(self.build_lib)) / PACKAGE / '.mim'
        folder.mkdir(parents=True, exist_ok=True)
        for part in MIM_PARTS:
            _place(ROOT / part, folder / part, link)


def _version() -> str:
    names: dict[str, str] = {}
    exec((ROOT / PACKAGE / 'version.py').read_text(), names)
    return names['__version__']


def _requirements(name: str) -> list[str]:
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    stripped = [line.split('#')[0].strip() for line in lines]
    return [line for line in stripped if line and not line.startswith('-')]


def _description() -> str:
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.exists() else ''


setup(
    name=PACKAGE,  # as the module: mim joins site-packages with this name
    version=_version(),
    description='Referring image segmentation and alignment-aware masked learning for '
    'MMSegmentation',
    long_description=_description(),
    long_description_content_type='text/markdown',
    author='the mmseg_aml authors',
    license='Apache-2.0',
    keywords='referring image segmentation, OpenMMLab, MMSegmentation, AML, MaskRIS, VIPA',
    project_urls={
        'AML': 'https://arxiv.org/abs/2602.22740',
        'MaskRIS': 'https://arxiv.org/abs/2411.19067',
        'VIPA': 'https://arxiv.org/abs/2602.14788',
    },
    classifiers=[
        'Intended Audience :: Science/Research',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(9, 14)),
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.9,<3.14',  # pkgutil.find_loader, which mmengine uses, left in 3.14
    packages=find_packages(include=(PACKAGE, f'{PACKAGE}.*')),
    package_data={PACKAGE: ['py.typed', 'assets/*', 'assets/**/*']},
    cmdclass={'build_py': BuildWithMim},
    install_requires=_requirements('runtime'),
    extras_require={
        'lite': _requirements('lite'),
        'onedl': _requirements('onedl'),
        'mim': _requirements('mminstall'),
        'mmpretrain': _requirements('optional'),
        'docs': _requirements('docs'),
        'peft': _requirements('peft'),
        'timm': _requirements('timm'),
        'tests': _requirements('tests'),
        'onnx': _requirements('onnx'),
        'web': _requirements('web'),
    },
    zip_safe=False,
)
