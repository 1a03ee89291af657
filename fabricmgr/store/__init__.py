"""What is remembered. The only room that knows Postgres, SQLAlchemy and asyncpg."""
