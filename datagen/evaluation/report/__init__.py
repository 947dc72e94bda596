"""One self-contained HTML page for a data set version: render.py puts it together."""
