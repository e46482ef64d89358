"""Whether a graph is being exported, asked where that takes another way."""

try:
    from torch.compiler import is_exporting
except ImportError:  # PyTorch 2.6: delete when 2.7 is the lowest

    def is_exporting() -> bool:
        """No export that needs another way is possible there."""
        return False


__all__ = ['is_exporting']
