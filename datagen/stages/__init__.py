"""The work of each stage of a job, one file each: generate, judge, pack, finish.

Called by engine alone. A stage reads, works, and commits under its unit's fence; it does not know
how it was claimed. Stages do not import each other.
"""
