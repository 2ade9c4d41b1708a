"""`python -m capsule.cli VERB`: how the native `capsule` reaches the verbs written in Python.

python -m capsule.cli policy compile workspace
"""

from __future__ import annotations

from capsule.cli.main import main

if __name__ == "__main__":
    main()
