"""A model as an ONNX file that runs without this package: one picture, any number of sentences.

Writes TARGET and, beside it, the tokenizer. ``demo/onnx_demo.py`` uses both. What cannot be
exported is said. Needs ``pip install "mmseg_aml[onnx]"``.

Example:
    python tools/model_converters/to_onnx.py CONFIG WEIGHTS model.onnx
"""

from __future__ import annotations

from pathlib import Path

from mmseg_aml.apis import RISInferencer
from mmseg_aml.apis.onnx import export_onnx
from mmseg_aml.command_line import ToolParser, read_config, run


def main(arguments: list[str] | None = None) -> None:
    parser = ToolParser(__doc__)
    parser.add_config()
    parser.add_weights()
    parser.add_argument('target', type=Path, help='file to write, *.onnx')
    parser.add_argument(
        '--dynamic-size', action='store_true', help='height and width may vary, too'
    )
    args = parser.parse_args(arguments)
    segment = RISInferencer(read_config(args), args.weights, device='cpu')
    model, tokenizer = export_onnx(segment, args.target, dynamic_size=args.dynamic_size)
    files = sorted(model.parent.glob(f'{model.name}*'))
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f'wrote {", ".join(map(str, files))} ({size:.1f} MB) and {tokenizer}')


if __name__ == '__main__':
    run(main)
