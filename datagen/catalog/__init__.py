"""The SQL catalog: tables, and queries of one transaction each. The only user of SQLAlchemy.

tables      what is stored                 rows        what queries return
catalog     the open database              schema      migrations
jobs, units, attempts, samples, versions   the queries, by what they are about
"""
