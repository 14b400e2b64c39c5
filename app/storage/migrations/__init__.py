"""Alembic's migrations of Retort's own tables. `KeyStore.migrate` runs them."""
