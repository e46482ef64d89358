from .pixel_encoder import PixelEncoder  # noqa: F401
