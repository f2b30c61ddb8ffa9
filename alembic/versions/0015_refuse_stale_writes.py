"""A statement that finds other rows than it was meant for fails by itself, before the commit."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# Who sends COMMIT along with a statement cannot look at its answer first.
STALE = """
CREATE FUNCTION tasker_stale(what text, expected bigint, actual bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'TZ001',
        MESSAGE = format('%s: expected %s, found %s', what, expected, actual),
        HINT = 'somebody else changed the rows meanwhile: load them and try again';
END
$$
"""


def upgrade() -> None:
    op.execute(STALE)


def downgrade() -> None:
    op.execute("DROP FUNCTION tasker_stale(text, bigint, bigint)")
