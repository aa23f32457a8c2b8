"""What is installed: plugins found by entry point, isolated from each other, looked up by name.

Nothing heavy is imported here: plugins hand over records of strings, and the modules of a
component are imported only when its configuration model or the component itself is asked for.
"""

from dynmm_framework.catalogue.catalogue import Catalogue, load_catalogue
from dynmm_framework.catalogue.plugins import PluginStatus, describe

__all__ = ["Catalogue", "PluginStatus", "describe", "load_catalogue"]
