"""Training on this machine: ``local-full``, ``local-lora`` and ``local-qlora``.

Over transformers, peft, trl and bitsandbytes, on one CUDA card or on the CPU. Importing this
package imports none of them.
"""

from unift_local._provider import LocalFull, LocalLora, LocalQlora
from unift_local.options import LocalOptions

__all__ = ["LocalFull", "LocalLora", "LocalOptions", "LocalQlora"]
