"""The sections of a report after the pictures, one file each. Called by render.py."""
