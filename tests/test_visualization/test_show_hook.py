"""ShowHook: all pictures of a test, some, or the worst, also over several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_aml.visualization import show_hook
from mmseg_aml.visualization.show_hook import ShowHook, iou_of

# Of the images 0 ... 3 with two sentences each: covered pixels of 8, of which the truth has 4.
OVERLAPS = {0: (4, 0), 1: (3, 1), 2: (2, 0), 3: (4, 4)}
IMAGES = len(OVERLAPS)


class FakeLoader:
    batch_size = 1
    dataset = range(IMAGES)


class FakeRunner:
    test_dataloader = FakeLoader()


def samples(folder: Path, image: int, place: int = 0) -> list[SegDataSample]:
    found = []
    for k, pixels in enumerate(OVERLAPS[image]):
        sample = SegDataSample(metainfo=dict(expression='it', sent_id=2 * image + k))
        path = str(folder / f'{image}.png')
        sample.set_metainfo(dict(img_path=path, ori_shape=(2, 4), image_index=place))
        truth, guess = torch.zeros(2, 1, 8, dtype=torch.uint8)
        truth[:, :4] = 1
        guess[:, :pixels] = 1
        sample.gt_sem_seg = PixelData(data=truth.view(1, 2, 4))
        sample.pred_sem_seg = PixelData(data=guess.view(1, 2, 4))
        found.append(sample)
    return found


@pytest.fixture()
def images(tmp_path) -> Path:
    for i in range(IMAGES):
        Image.new('RGB', (4, 2), (50 * i, 0, 0)).save(tmp_path / f'{i}.png')
    return tmp_path


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.png'))


def show(images: Path, hook: ShowHook, rank: int = 0, world: int = 1) -> None:
    runner = FakeRunner()
    hook.before_test_epoch(runner)
    for step, image in enumerate(range(rank, IMAGES, world)):
        hook.after_test_iter(runner, step, outputs=samples(images, image))


def test_all_some_and_how_many(images, monkeypatch):
    said = []
    monkeypatch.setattr(show_hook, 'print_log', lambda text, **_: said.append(text))
    for name, options in (('all', {}), ('some', dict(number=3))):
        hook = ShowHook(str(images / name), **options)
        show(images, hook)
        hook.after_test_epoch(FakeRunner())
    assert pictures(images / 'all') == [f'{i}.png' for i in range(8)]
    assert pictures(images / 'some') == ['0.png', '4.png', '7.png']
    assert said == [
        f'pictures of 8 of 8 sentences are in {images / "all"}',
        f'pictures of 3 of 8 sentences are in {images / "some"}',
    ]


@pytest.mark.parametrize('world', [1, 2])
def test_the_worst_of_all_processes(images, monkeypatch, world):
    hooks = [ShowHook(str(images / 'worst'), worst=3) for _ in range(world)]
    ranks = list(enumerate(hooks))
    monkeypatch.setattr(show_hook, 'get_world_size', lambda: world)
    for rank, hook in ranks:
        monkeypatch.setattr(show_hook, 'get_rank', lambda rank=rank: rank)
        show(images, hook, rank, world)
    heaps = [[(*key[:3], -rank) for *key, _ in hook._worst] for rank, hook in ranks]

    def gather(value):
        return heaps if isinstance(value, list) else [value]

    monkeypatch.setattr(show_hook, 'all_gather_object', gather)
    for rank, hook in ranks:
        monkeypatch.setattr(show_hook, 'get_rank', lambda rank=rank: rank)
        hook.after_test_epoch(FakeRunner())
    # IoU 0 of the sentences 1 and 5, a quarter of 3; the first of equal ones comes first.
    assert pictures(images / 'worst') == [
        '0001_iou0_1.png',
        '0002_iou0_5.png',
        '0003_iou25_3.png',
    ]


def test_a_share_of_the_even_choice(images, monkeypatch):
    for rank in range(2):
        monkeypatch.setattr(show_hook, 'get_world_size', lambda: 2)
        monkeypatch.setattr(show_hook, 'get_rank', lambda rank=rank: rank)
        show(images, ShowHook(str(images / 'some'), number=4), rank, 2)
    assert len(pictures(images / 'some')) == 4


def test_ious_and_faults(images):
    full, empty = samples(images, 0)
    assert (iou_of(full), iou_of(empty)) == (1.0, 0.0)
    nothing = samples(images, 0)[1]
    nothing.gt_sem_seg.data = torch.zeros(1, 2, 4, dtype=torch.uint8)
    assert iou_of(nothing) == 1.0
    del full.gt_sem_seg
    with pytest.raises(KeyError, match='LoadRefMasks'):
        iou_of(full)
    with pytest.raises(ValueError, match='worst of pictures must be positive, got 0'):
        ShowHook('x', worst=0)
