"""Optimizers for factors, whose gradients are correlated.

Used by refining and by distillation, and by who trains a network.
"""

from .soap import SOAP

__all__ = ["SOAP"]
