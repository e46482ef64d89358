from . import afm, aml, maskris, pmme, pmme_hook  # noqa: F401  registers
