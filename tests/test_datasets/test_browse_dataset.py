"""Pictures of a data set."""

import numpy as np
from PIL import Image

CONFIG = 'configs/_base_/datasets/minirefcoco-template_448x448.py'


def test_pictures(run_tool, root, mini, monkeypatch, tmp_path):
    monkeypatch.setenv('MINIREFCOCO', str(mini))
    options = ['--num', 2, '--out-dir', tmp_path, '--seed', 3]
    path = 'analysis_tools/browse_dataset.py'
    run_tool(path, root / CONFIG, '--dataloader', 'test', '--split', 'testB', *options)
    code, output = run_tool(path, root / CONFIG, *options)
    assert code == 0 and '2 of 720 items' in output
    files = sorted(tmp_path.iterdir())
    assert [file.name.split('_')[0] for file in files] == ['testB', 'testB', 'train', 'train']
    for file in files:
        picture = np.array(Image.open(file))
        plain, tinted = picture[-448:, :448], picture[-448:, 452:900]
        changed = (plain != tinted).any(2)
        assert picture.shape[1] % 452 == 448 and 0 < changed.mean() < 1
