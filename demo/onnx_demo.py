"""Masks from an exported model, without this package: onnx_demo.py MODEL.onnx PHOTO SENTENCE ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer

path, photo, *sentences = sys.argv[1:]
session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
about = json.loads(session.get_modelmeta().custom_metadata_map['mmseg_aml'])
height, width = about['size']
picture = ImageOps.exif_transpose(Image.open(photo)).convert('RGB')
pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32)
encoded = Tokenizer.from_file(path.replace('.onnx', '.tokenizer.json')).encode_batch(sentences)
ids = np.array([one.ids for one in encoded], np.int64)
mask = np.array([one.attention_mask for one in encoded], bool)
feed = dict(image=pixels.transpose(2, 0, 1)[None], ids=ids, mask=mask)
for number, logits in enumerate(session.run(['logits'], feed)[0][:, 0], 1):
    large = np.asarray(Image.fromarray(logits).resize(picture.size, Image.Resampling.BILINEAR))
    inside = 1 / (1 + np.exp(-large)) > about['threshold']
    Image.fromarray(inside.astype(np.uint8) * 255).save(f'mask_{number}.png')
    print(f'mask_{number}.png: {sentences[number - 1]!r}, {100 * inside.mean():.1f} %')
