from . import caris_text_encoder, detris_text_encoder, hf_text_encoder  # noqa: F401  registers
