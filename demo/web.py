"""A page in the browser: a photograph, sentences about it, and what the network sees.

    pip install .[web]
    python demo/web.py                                     # the weights of the last `make demo`
    python demo/web.py --model CONFIG CHECKPOINT           # yours; give it twice to compare
    python demo/web.py --model FOLDER_OF_A_PUBLISHED_MODEL

It answers on this machine only; ``--host 0.0.0.0`` also lets a phone of the same network in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    import gradio as gr
except ImportError:
    sys.exit('the page needs Gradio: pip install "mmseg_aml[web]", or pip install "gradio>=6"')

import web_views as views
from web_models import ModelError, Models, demo_model

from mmseg_aml.apis.images import read_image
from mmseg_aml.apis.tables import InputError, read_requests

MOST_SENTENCES = len(views.COLOURS)
NOTHING = '(none)'
CSS = '.legend li {list-style: none} .legend ul {padding: 0; margin: 0}'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a model to choose from; may be given several times',
    )
    parser.add_argument(
        '--examples', type=Path, help='.csv or .tsv of image,expression (default: drawn scenes)'
    )
    parser.add_argument('--device', help='such as cuda:0; default: the best one there is')
    parser.add_argument('--precision', default='float32', help='float32, bfloat16 or float16')
    parser.add_argument('--host', default='127.0.0.1', help='address to answer at')
    parser.add_argument('--port', type=int, help='default: the first free one from 7860 on')
    return parser.parse_args(arguments)


def photograph(payload: Any) -> Any:
    """An uploaded file as RGB uint8 (H, W, 3), read as everywhere in this package.

    Raises:
        gr.Error: It cannot be read; a sentence with the name it had.
    """
    if payload is None or payload.path is None:
        return None
    try:
        return read_image(payload.path)
    except OSError as error:
        told = str(error).replace(str(payload.path), payload.orig_name or 'of this file')
        raise gr.Error(told, title='This picture cannot be read', print_exception=False) from error


def sentences_of(text: str) -> list[str]:
    """One sentence a line.

    Raises:
        ValueError: None, or more than there are colours.
    """
    found = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not found:
        raise ValueError('Write what to look for, one sentence a line.')
    if len(found) > MOST_SENTENCES:
        raise ValueError(f'{len(found)} sentences, and there are {MOST_SENTENCES} colours.')
    return found


class Page:
    """What the page does; one for all visitors, whose results are in their own sessions."""

    def __init__(self, models: Models, downloads: Path) -> None:
        self.models = models
        self.downloads = downloads

    def segment(self, photo: Any, text: str, first: str, second: str) -> views.Session:
        """All sentences, by the chosen models."""
        if photo is None:
            raise gr.Error('Choose a picture first.', print_exception=False)
        try:
            texts = sentences_of(text)
            names = [first, *([second] if second not in (NOTHING, first) else [])]
            if second == first:
                gr.Info('Both are the same model, so one is shown: choose another to compare.')
            sides = [views.Side(name, self.models[name](photo, texts)) for name in names]
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        return views.Session(photo, sides)

    def look(self, session: Any, view: str, threshold: float, sentence: str | None) -> list[Any]:
        """Picture, legend and visibility of both sides."""
        shown: list[Any] = []
        for number in range(2):
            if not session or number >= len(session.sides):
                shown += [None, '', gr.update(visible=number == 0)]
                continue
            side = session.sides[number]
            try:
                picture = views.draw(
                    session.photo, side, view, threshold, sentence, self.models[side.name]
                )
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error
            shown += [picture, views.legend(side, threshold), gr.update(visible=True)]
        return shown

    def choices(self, session: Any, sentence: str | None) -> Any:
        """The sentences, for views of one of them."""
        texts = [found.expression for found in session.sides[0].found]
        return gr.update(choices=texts, value=sentence if sentence in texts else texts[0])

    def files(self, session: Any, threshold: float) -> Any:
        """Masks, records and overlay, to download."""
        if not session:
            return gr.update(value=None, visible=False)
        folder = Path(tempfile.mkdtemp(dir=self.downloads))
        paths = views.write_files(session, threshold, folder)
        return gr.update(value=[str(path) for path in paths], visible=True)


def build(models: Models, examples: list[list[Any]], downloads: Path) -> gr.Blocks:
    """The page."""
    page = Page(models, downloads)
    names = list(models)
    with gr.Blocks(title='mmseg_aml', analytics_enabled=False, delete_cache=(3600, 7200)) as blocks:
        session = gr.State(None)
        gr.Markdown('# Segment what a sentence means')
        with gr.Row():
            with gr.Column():
                photo = gr.Image(
                    sources=['upload', 'clipboard', 'webcam'],
                    label='Picture',
                    height=320,
                    elem_id='photo',
                    type='filepath',
                )
                photo.preprocess = photograph  # Gradio's own raises a stack trace
                text = gr.Textbox(
                    label='Sentences, one a line',
                    placeholder='the giraffe closest to the people',
                    lines=3,
                    info='Shift+Enter starts',
                    elem_id='sentences',
                )
                first = gr.Dropdown(names, value=names[0], label='Model', elem_id='first')
                second = gr.Dropdown(
                    [NOTHING, *names], value=NOTHING, label='Compare with', elem_id='second'
                )
                start = gr.Button('Segment', variant='primary', elem_id='start')
            with gr.Column():
                with gr.Row():
                    seen = [part for number in range(2) for part in _side(number)]
                view = gr.Radio(views.VIEWS, value=views.MASKS, label='Show', elem_id='view')
                chosen = gr.Dropdown([], label='Sentence (all but masks)', elem_id='chosen')
                threshold = gr.Slider(
                    0.05, 0.95, 0.5, step=0.01, label='Threshold', elem_id='threshold'
                )
                files = gr.File(
                    label='Download', file_count='multiple', interactive=False, visible=False
                )
        settings = [session, view, threshold, chosen]
        run = dict(fn=page.segment, inputs=[photo, text, first, second], outputs=session)
        for event in (start.click, text.submit):
            done = event(**run, concurrency_limit=1)
            done = done.success(page.choices, [session, chosen], chosen)
            done = done.success(page.look, settings, seen)
            done.success(page.files, [session, threshold], files)
        quick = dict(show_progress='hidden', trigger_mode='always_last')
        threshold.input(page.look, settings, seen, **quick)
        threshold.release(page.files, [session, threshold], files, show_progress='hidden')
        for part in (view, chosen):
            part.input(page.look, settings, seen)
        # What was seen of another picture goes first; then the new one is checked.
        gone = photo.input(lambda: None, None, session).then(page.look, settings, seen)
        gone = gone.then(page.files, [session, threshold], files)
        gone.then(lambda _: None, photo, None)
        if examples:
            gr.Examples(examples, [photo, text], label='Examples')
    return blocks


def _side(number: int) -> tuple[gr.Image, gr.HTML, gr.Column]:
    """What one model sees; the second one appears when there is one to compare."""
    with gr.Column(visible=number == 0, min_width=260) as column:
        picture = gr.Image(
            label='What the network sees',
            interactive=False,
            format='png',
            height=420,
            buttons=['download', 'fullscreen'],
            elem_id=f'out{number}',
        )
        legend = gr.HTML(elem_id=f'legend{number}')
    return picture, legend, column


def examples_of(source: Path | None, folder: Path) -> list[list[Any]]:
    """[image, sentences] of a table, or of a few drawn scenes."""
    if source is None:
        return views.drawn_examples(folder)
    return [[one.image, '\n'.join(one.expressions)] for one in read_requests(source)]


def serve(args: argparse.Namespace, *, block: bool = True) -> tuple[gr.Blocks, str]:
    """Starts the page; returns it and its address."""
    named = args.model or [demo_model()]
    models = Models(named, device=args.device, precision=args.precision)
    models[next(iter(models))]  # an error of the first one is said here and not in the page
    downloads = tempfile.mkdtemp(prefix='mmseg_aml_web_')
    examples = examples_of(args.examples, Path(downloads) / 'examples')
    page = build(models, examples, Path(downloads))
    fonts = ('system-ui', 'sans-serif')  # of the machine: nothing is fetched from elsewhere
    _, address, _ = page.queue().launch(
        server_name=args.host,
        server_port=args.port,
        theme=gr.themes.Default(font=fonts, font_mono=('ui-monospace', 'monospace')),
        css=CSS,
        footer_links=[],
        allowed_paths=[str(Path(example[0]).parent) for example in examples],
        prevent_thread_lock=True,
        ssr_mode=False,
        quiet=True,
    )
    print(f'The page is at {address} (Ctrl+C stops it)', flush=True)
    if block:
        page.block_thread()
    return page, address


def main() -> None:
    try:
        serve(parse_args())
    except (ModelError, InputError, OSError, ValueError, RuntimeError) as error:
        sys.exit(f'web.py: {error}')


if __name__ == '__main__':
    main()
