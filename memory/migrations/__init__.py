"""Alembic migrations, packaged with the code and run when a store is opened.

versions/vNNNN_*.py are written by hand; a test checks that they end at schema.py's tables.
HEAD is the newest revision: a database that is already there is opened without loading alembic.
"""

HEAD = "0004"
