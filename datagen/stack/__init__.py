"""The local stack: PostgreSQL, an S3 server and Valkey from pip wheels, supervised on loopback.

Called by `datagen up` and by the tests, which start the same servers the same way.
"""

from __future__ import annotations
