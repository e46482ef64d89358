"""Test-time augmentation: a mean over views in which every sentence is true of its picture."""

import pytest
import torch
from mmseg.structures import SegDataSample

from mmseg_aml.models.segmentors.test_time import Views, average_views

SIZE = (32, 48)


def samples_of(*texts, width=SIZE[1]):
    return [
        SegDataSample(
            metainfo=dict(
                expression=text, image_index=0, img_shape=(SIZE[0], width), sent_id=number
            )
        )
        for number, text in enumerate(texts)
    ]


class Network:
    """Brightness is the object; of two it takes the side that the sentence names.

    It stands for a network that reads: ``asked`` keeps what it was asked, and at which size.
    """

    def __init__(self, channels=1):
        self.channels, self.asked = channels, []

    def __call__(self, inputs, samples):
        self.asked.append((tuple(inputs.shape[-2:]), [s.expression for s in samples]))
        columns = torch.linspace(-1, 1, inputs.shape[-1])
        rows = []
        for sample in samples:
            words = sample.expression.split()
            side = columns * (('right' in words) - 1.0 * ('left' in words))
            rows.append(inputs[sample.image_index].mean(0) * 8 - 4 + 4 * side)
        odds = torch.stack(rows)[:, None]
        return odds if self.channels == 1 else torch.cat((odds * 0, odds), 1)


@pytest.fixture
def picture():
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('channels', [1, 2])
def test_one_view_is_the_plain_prediction(picture, channels):
    network = Network(channels)
    found = average_views(network, picture, samples_of('left', 'x'), Views((1,), False))
    plain = network(picture, samples_of('left', 'x'))
    odds = [x if channels == 1 else x[:, 1:] - x[:, :1] for x in (found, plain)]
    torch.testing.assert_close(*odds, rtol=1e-4, atol=1e-4)
    assert found.shape == plain.shape


def test_a_mirrored_picture_with_its_sentence_gives_the_mirrored_prediction(picture):
    views = Views((0.5, 1.0, 1.5), True)
    found = average_views(Network(), picture, samples_of('the dog on the left'), views)
    other = average_views(Network(), picture.flip(-1), samples_of('the dog on the right'), views)
    torch.testing.assert_close(found, other.flip(-1), rtol=1e-4, atol=1e-5)
    # A plain flip, by contrast, pulls both sides towards each other.
    assert found[..., :10].mean() - found[..., -10:].mean() > 3


def test_sentences_are_mirrored_or_their_view_is_left_out(picture):
    network = Network()
    texts = ['the LEFT dog', 'second giraffe', 'a cup']
    average_views(network, picture, samples_of(*texts), Views((1.0, 0.5), True))
    assert network.asked == [
        (SIZE, texts),
        ((16, 32), texts),
        (SIZE, ['the RIGHT dog', 'a cup']),
        ((16, 32), ['the RIGHT dog', 'a cup']),
    ]
    network.asked.clear()
    average_views(network, picture, samples_of('second giraffe'), Views((1.0,), True))
    assert len(network.asked) == 1


def test_padding_stays_where_it_is(picture):
    picture[..., 30:] = 0
    seen = []

    def network(inputs, samples):
        seen.append(inputs)
        return inputs.mean(1, keepdim=True)

    average_views(network, picture, samples_of('a cup', width=30), Views((1.0,), True))
    assert torch.equal(seen[1][..., :30], picture[..., :30].flip(-1))
    assert torch.equal(seen[1][..., 30:], picture[..., 30:])


def test_sizes_are_multiples_that_patches_of_14_and_16_fit():
    network = Network()
    inputs = torch.rand(1, 3, 448, 448)
    average_views(network, inputs, samples_of('x'), Views((0.75, 1.0, 1.25), False))
    assert [size for size, _ in network.asked] == [(448, 448), (336, 336), (560, 560)]


@pytest.mark.parametrize('scales', [(0.5,), (1, 0), (1, -1)])
def test_wrong_sizes_are_refused(picture, scales):
    with pytest.raises(ValueError, match='with 1 among them'):
        average_views(Network(), picture, samples_of('x'), Views(scales))


def test_the_tool_and_the_inferencer_take_it(root):
    import runpy

    import numpy as np

    from mmseg_aml.apis import RISInferencer

    name = 'vipa_r18-mini_1xb8-8e_ref-shapes-64x64'
    load = runpy.run_path(str(root / 'tools/test.py'))
    config = load['load_config'](load['parse_args']([name, 'none.pth', '--tta']))
    assert Views(**config.model.test_cfg.tta) == Views()
    torch.manual_seed(0)
    segment = RISInferencer(name, device='cpu', cfg_options={'model.test_cfg.with_maps': True})
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    texts = ['leftmost circle', 'the second one', 'red']
    plain = segment(image, texts)
    segment.model.test_cfg = {**segment.model.test_cfg, 'tta': dict(scales=(0.75, 1, 1.25))}
    found = segment(image, texts)
    assert [one.mask.shape for one in found] == [(40, 60)] * 3
    assert all(not torch.equal(a.logits, b.logits) for a, b in zip(plain, found))
    # What the head shows is that of the picture as it is.
    for a, b in zip(plain, found):
        assert a.maps and all(np.array_equal(a.maps[key], b.maps[key]) for key in a.maps)
