"""``python -m blemish`` is ``blemish``."""

from blemish.cli import main

main()
