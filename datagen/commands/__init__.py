"""The commands of the command line, by what they are about. Gathered by cli.py.

recipes      validate, plan, run                edge      errors to exit codes, shared options
versions     ls, pull, verify, diff             opening   settings, catalog and store
inspection   show, remake                       output    tables, JSON, sizes
models       train, models                      progress  bars on stderr
speed        bench                              revoke    revoke
completion   completion

These modules import click alone: what a command needs is imported when it runs, so that `--help`
and `validate` start at once, and so that `run` can pin threads before numpy is loaded.
"""
