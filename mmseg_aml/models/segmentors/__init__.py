from . import text_image_segmentor  # noqa: F401  registers
