"""What a landed file's bytes are, which rows of it were read, how its content begins, and since when it is gone.

With an index for each thing that a new file is looked up by, so that a run does not read them all.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("landed_files", sa.Column("format", sa.Text))
    op.add_column("landed_files", sa.Column("rows_sha256", sa.String(64)))
    op.add_column("landed_files", sa.Column("head_sha256", sa.String(64)))
    op.add_column("landed_files", sa.Column("gone_at", sa.DateTime(timezone=True)))
    for column in ("sha256", "inode", "origin", "head_sha256", "gone_at", "damage", "is_complete", "format"):
        op.create_index(f"landed_files_by_{column}", "landed_files", [column])
