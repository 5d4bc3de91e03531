"""Where people find what was sent. Which digest has taken a crossing back."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("permalink", sa.Text))
    op.add_column("announced_crossings", sa.Column("withdrawn_by", sa.Text))
