"""What a landed file's bytes are, and which rows of it were read."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("landed_files", sa.Column("format", sa.Text))
    op.add_column("landed_files", sa.Column("rows_sha256", sa.String(64)))
