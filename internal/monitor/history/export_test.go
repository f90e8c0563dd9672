package history

import (
	"context"
	"database/sql"
)

// Limit keeps the file from growing, as a full disk would.
func Limit(ctx context.Context, h *History) error {
	_, err := h.db.ExecContext(ctx, "PRAGMA max_page_count = 1")
	return err
}

// DB is what the history speaks to SQLite through.
func (h *History) DB() *sql.DB { return h.db }
