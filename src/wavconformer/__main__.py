"""`python -m wavconformer` is the command line."""

from wavconformer.cli import main

main()
