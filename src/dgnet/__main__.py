"""`python -m dgnet` is the command line; `torchrun -m dgnet ...` starts it in several processes."""

from dgnet.cli import main

main()
