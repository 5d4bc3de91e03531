"""Views of the pages by hour, so that the newest are found and the old ones forgotten without reading them all."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_index("page_views_by_hour", "page_views", ["hour_start"])
