"""The alert store's schema, step by step: Alembic's environment and its revisions."""
