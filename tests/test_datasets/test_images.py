"""Image files of every form, against their known colours."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from mmseg_aml.apis.inferencer import read_image
from mmseg_aml.datasets.transforms.images import ImageFormError, read_rgb, to_rgb
from mmseg_aml.datasets.transforms.loading import LoadRefImage

RED = (200, 40, 40)


def grey16(value, white=65535):
    values = np.full((4, 6), value, np.uint16)
    values[0, 0] = white
    return Image.fromarray(values)


def transparent_palette():
    image = Image.new('P', (6, 4), 1)
    image.putpalette([0, 0, 0, *RED] + [0] * 762)
    image.putpixel((5, 3), 0)
    image.info['transparency'] = 0
    return image


def alpha(mode):
    image = Image.new('RGBA', (6, 4), (*RED, 255))
    image.putpixel((5, 3), (0, 0, 0, 0))
    return image.convert(mode)


YCBCR = Image.new('RGB', (6, 4), RED).convert('YCbCr')
YCBCR.info['compression'] = 'tiff_lzw'  # Pillow 12 does not read uncompressed ones
FORMS = {
    'rgb.png': (Image.new('RGB', (6, 4), RED), RED),
    'rgb.jpg': (Image.new('RGB', (6, 4), RED), RED),
    'rgb.webp': (Image.new('RGB', (6, 4), RED), RED),
    'rgb.bmp': (Image.new('RGB', (6, 4), RED), RED),
    'grey.png': (Image.new('L', (6, 4), 90), (90,) * 3),
    'bits.png': (Image.new('1', (6, 4), 1), (255,) * 3),
    'grey16.png': (grey16(30000), (117,) * 3),
    'grey16.tiff': (grey16(30000), (117,) * 3),
    'float.tiff': (Image.fromarray(np.full((4, 6), 0.5, np.float32)), (128,) * 3),
    'cmyk.tiff': (Image.new('RGB', (6, 4), RED).convert('CMYK'), RED),
    'cmyk.jpg': (Image.new('RGB', (6, 4), RED).convert('CMYK'), RED),
    'ycbcr.tiff': (YCBCR, RED),
    'lab.tiff': (Image.new('LAB', (6, 4), (128, 128, 128)), (119,) * 3),
    'palette.gif': (Image.new('RGB', (6, 4), RED).quantize(4), RED),
    'palette.png': (transparent_palette(), RED),
    'alpha.png': (alpha('RGBA'), RED),
    'grey_alpha.png': (alpha('LA'), (88,) * 3),
}


@pytest.mark.parametrize('name', FORMS)
def test_every_form_alike_in_training_and_use(tmp_path, name):
    image, colour = FORMS[name]
    image.save(tmp_path / name)
    pixels = read_rgb(tmp_path / name)
    assert pixels.shape == (4, 6, 3) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[2, 2].astype(int), colour, atol=3)
    if 'alpha' in name or name == 'palette.png':
        np.testing.assert_array_equal(pixels[3, 5], 255)
    loaded = LoadRefImage()(dict(img_path=str(tmp_path / name), height=4, width=6))['img']
    with Image.open(tmp_path / name) as opened:
        for other in (loaded, read_image(tmp_path / name), read_image(opened)):
            np.testing.assert_array_equal(other, pixels)


REFUSED = {
    'int.tiff': (Image.fromarray(np.full((4, 6), 9, np.int32)), "mode 'I'.*no known white"),
    'twelve.png': (grey16(900, 4000), 'uses 0 to 4000 of 65535'),
    'hdr.tiff': (Image.fromarray(np.full((4, 6), 3.5, np.float32)), 'floats from 3.5 to 3.5'),
    'nan.tiff': (Image.fromarray(np.full((4, 6), np.nan, np.float32)), 'floats from nan'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused_by_name(tmp_path, name):
    image, message = REFUSED[name]
    image.save(tmp_path / name)
    with pytest.raises(ImageFormError, match=f'{name}: .*{message}'):
        read_rgb(tmp_path / name)
    with pytest.raises(ImageFormError, match=message):
        read_image(Image.open(tmp_path / name))


def test_other_files_are_refused(tmp_path, monkeypatch):
    pages = [Image.new('L', (6, 4))] * 3
    pages[0].save(tmp_path / 'pages.tiff', save_all=True, append_images=pages[1:])
    with pytest.raises(ImageFormError, match='pages.tiff: it has 3 pages'):
        read_rgb(tmp_path / 'pages.tiff')
    (tmp_path / 'photo.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(40))
    with pytest.raises(OSError, match='photo.heic cannot be decoded.*save it there as JPEG'):
        read_rgb(tmp_path / 'photo.heic')
    Image.new('L', (60, 60)).save(tmp_path / 'huge.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(ImageFormError, match='huge.png is too large'):
        read_rgb(tmp_path / 'huge.png')


@pytest.mark.parametrize('orientation', range(2, 9))
def test_orientation(tmp_path, orientation):
    upright = np.zeros((4, 8, 3), np.uint8)
    upright[:2, :4] = 255  # the upper left quarter
    stored = Image.fromarray(upright)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Transpose members
    stored = stored.transpose(Image.Transpose(undo))
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / 'a.png', exif=exif)
    path = tmp_path / 'a.png'
    np.testing.assert_array_equal(read_rgb(path), upright)
    with Image.open(path) as image:
        np.testing.assert_array_equal(to_rgb(image), upright)
    # Annotations of the stored pixels (COCO), and of the upright picture.
    np.testing.assert_array_equal(read_rgb(path, stored.size[::-1]), np.array(stored))
    if orientation >= 5:
        np.testing.assert_array_equal(read_rgb(path, (4, 8)), upright)


def test_colours_of_another_space_become_srgb(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()
    image = Image.new('RGB', (6, 4), RED)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    for name, profile in (('srgb', srgb), ('broken', b'no profile'), ('misplaced', lab)):
        image.save(tmp_path / f'{name}.png', icc_profile=profile)
        np.testing.assert_array_equal(read_rgb(tmp_path / f'{name}.png')[0, 0], RED)

    # A space whose red and green lights are exchanged.
    entries = [srgb[128 + 4 + 12 * i :][:12] for i in range(int.from_bytes(srgb[128:132], 'big'))]
    at = {entry[:4]: entry[4:] for entry in entries}
    swapped = srgb.replace(b'rXYZ' + at[b'rXYZ'], b'rXYZ' + at[b'gXYZ'], 1)
    swapped = swapped.replace(b'gXYZ' + at[b'gXYZ'], b'gXYZ' + at[b'rXYZ'], 1)
    swapped = swapped.replace('sRGB'.encode('utf-16-be'), 'other'[:4].encode('utf-16-be'))
    swapped = swapped.replace(b'sRGB', b'othr')
    image.save(tmp_path / 'swapped.png', icc_profile=swapped)
    np.testing.assert_allclose(read_rgb(tmp_path / 'swapped.png')[0, 0], (40, 200, 40), atol=3)
