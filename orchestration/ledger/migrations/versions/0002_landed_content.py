"""Landing files may be compressed, or damaged: their stored size beside that of their content, and what is wrong."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("landed_files", sa.Column("stored_bytes", sa.BigInteger))
    op.execute("update landed_files set stored_bytes = size_bytes")
    with op.batch_alter_table("landed_files") as table:
        table.alter_column("stored_bytes", existing_type=sa.BigInteger, nullable=False)
        table.add_column(sa.Column("damage", sa.Text))
