"""The lock of all families."""

from __future__ import annotations

import threading
from typing import Final

tree_lock: Final = threading.RLock()
"""Guards who lives, who is whose child and who watches whom, across all systems.

Never held while user code runs. Reentrant because an error that names an actor may have to make its URN.
"""
