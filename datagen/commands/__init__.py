"""The commands of the command line, by what they are about. Gathered by cli.py.

edge       errors to exit codes, shared options     opening   settings, catalog and store
output     tables, JSON, sizes                      progress  bars on stderr
recipes    validate, plan, run                      versions  ls, show, pull, verify, diff, remake
models     train, models                            speed     bench

These modules import click alone: what a command needs is imported when it runs, so that `--help`
and `validate` start at once, and so that `run` can pin threads before numpy is loaded.
"""
