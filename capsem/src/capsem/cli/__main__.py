"""`python -m capsem.cli VERB`: the command line without the installed script.

python -m capsem.cli version
"""

from __future__ import annotations

from capsem.cli.main import main

if __name__ == "__main__":
    main()
