"""The command line: a file per group of commands."""

from dgnet.cli.app import main as main
