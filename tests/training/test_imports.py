from __future__ import annotations

import subprocess
import sys


def test_preparing_data_needs_neither_torch_nor_lhotse():
    """Workers start quickly, and stay small, where nothing heavy is imported."""
    program = """
import sys
import wavconformer.data.prepare, wavconformer.training.recipe
print({"torch", "lhotse", "pyarrow", "scipy", "yaml"} & set(sys.modules))
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (finished.stdout.strip(), finished.stderr) == ("set()", "")
