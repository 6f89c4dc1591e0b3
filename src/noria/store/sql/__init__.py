"""The store in SQL, written once: each file takes a database (SQLite, PostgreSQL) and answers for one port."""
