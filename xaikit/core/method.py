"""The former address of what a method is made of, which plugins import from `xaikit.extend`."""

from xaikit.methods.base import METHODS, InputMethod, LayerMethod, Method, Values

__all__ = ["METHODS", "InputMethod", "LayerMethod", "Method", "Values"]
