from .caris_head import CARISHead  # noqa: F401
from .detris_head import DETRISHead  # noqa: F401
from .lavt_head import LAVTHead  # noqa: F401
from .rela_head import ReLAHead  # noqa: F401
from .vipa_head import VIPAHead  # noqa: F401
from .word_query_head import WordQueryHead  # noqa: F401
