"""What a format, an implementation, a runtime and a hook are; how they are found, named and blamed.

Imports `network` and `algebra`. Used by whatever asks a plugin, and by the plugins themselves.
"""

from .added import SHARES, Sum
from .blame import ask, blamed, label
from .catalogue import PluginError
from .factorization import Factorization
from .format import Format
from .hooks import ask_hooks, hookimpl, installed_hook, only_hooks, plugin_hooks
from .implementation import Convolution, Fixed, Implementation, MemoryFormat, Way
from .listing import BAD, Listed, list_plugins
from .plan import Plan, Prepared
from .registry import Choice, Registry, factorizations, implementations, runtimes
from .runtime import Ready, Runtime

__all__ = [
    "BAD",
    "SHARES",
    "Choice",
    "Convolution",
    "Factorization",
    "Fixed",
    "Format",
    "Implementation",
    "Listed",
    "MemoryFormat",
    "Plan",
    "PluginError",
    "Prepared",
    "Ready",
    "Registry",
    "Runtime",
    "Sum",
    "Way",
    "ask",
    "ask_hooks",
    "blamed",
    "factorizations",
    "hookimpl",
    "implementations",
    "installed_hook",
    "label",
    "list_plugins",
    "only_hooks",
    "plugin_hooks",
    "runtimes",
]
