"""RISVisualizationHook in real loops of a Runner with a fake model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch.utils.data import Dataset

from mmseg_aml.visualization import RISVisualizationHook
from mmseg_aml.visualization.hook import spread

IMAGES, EXPRESSIONS = 5, 3


class Images(Dataset):
    """Five images; only their index goes into the model."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor(index))


class Model(BaseModel):
    """Three empty predictions an image, flattened as the real data preprocessor does."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            return dict(loss=self.weight.sum())
        samples = []
        for row, index in enumerate(inputs):
            for k in range(EXPRESSIONS):
                sent_id = int(index) * EXPRESSIONS + k
                meta = dict(expression=str(sent_id), sent_id=sent_id, image_index=row)
                meta['img_path'] = str(self.folder / f'{int(index)}.png')
                sample = SegDataSample(metainfo=meta)
                sample.pred_sem_seg = PixelData(data=torch.zeros(1, 8, 8, dtype=torch.uint8))
                samples.append(sample)
        return samples


class Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [0] * len(data_batch['inputs'])

    def compute_metrics(self, results):
        return {}


def make_runner(tmp_path: Path, visualizer: str = 'mmseg_aml.RISVisualizer', **hook) -> Runner:
    for i in range(IMAGES):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / f'{i}.png')

    def loader() -> dict:
        sampler = dict(type=DefaultSampler, shuffle=False)
        return dict(batch_size=2, num_workers=0, sampler=sampler, dataset=Images())

    return Runner(
        model=Model(tmp_path),
        work_dir=str(tmp_path / 'work'),
        train_dataloader=loader(),
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader(),
        val_cfg=dict(),
        val_evaluator=Evaluator(Nothing()),
        test_dataloader=loader(),
        test_cfg=dict(),
        test_evaluator=Evaluator(Nothing()),
        custom_hooks=[RISVisualizationHook(**hook)],
        visualizer=dict(type=visualizer, vis_backends=[dict(type='LocalVisBackend')]),
        default_hooks=dict(checkpoint=None),
        experiment_name=tmp_path.name,
    )


def pictures(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / 'work').rglob('*.png'))


@pytest.mark.parametrize(
    ('samples', 'images', 'expected'),
    [(3, 5, {0: 1, 2: 1, 4: 1}), (1, 5, {0: 1}), (5, 2, {0: 3, 1: 2}), (2, 1, {0: 2})],
)
def test_spread(samples, images, expected):
    assert spread(samples, images) == expected


def test_samples_are_spread_over_the_set(tmp_path):
    make_runner(tmp_path, num_samples=3).test()
    # Images 0, 2 and 4, and of image i its sentence number i modulo 3.
    assert pictures(tmp_path) == ['test_0_0.png', 'test_13_0.png', 'test_8_0.png']


def test_more_samples_than_images(tmp_path):
    make_runner(tmp_path, num_samples=10).val()
    assert len(pictures(tmp_path)) == 10


def test_chosen_sentences_and_a_warning_for_absent_ones(tmp_path):
    runner = make_runner(tmp_path, sent_ids=[4, 5, 99])
    runner.test()
    assert pictures(tmp_path) == ['test_4_0.png', 'test_5_0.png']
    log = next((tmp_path / 'work').rglob('*.log')).read_text()
    assert 'sent_ids [99] did not occur' in log


def test_interval_counts_validations_of_training(tmp_path):
    make_runner(tmp_path, sent_ids=[0], interval=2).train()
    steps = 3  # iterations an epoch
    assert pictures(tmp_path) == [f'val_0_{4 * steps}.png', f'val_0_{2 * steps}.png']


def test_a_plain_visualizer_is_refused(tmp_path):
    with pytest.raises(TypeError, match='mmseg_aml.RISVisualizer.*visualizer.type'):
        make_runner(tmp_path, visualizer='Visualizer').val()


def test_bad_numbers():
    with pytest.raises(ValueError, match='must be positive, got 0 and 1'):
        RISVisualizationHook(num_samples=0)
