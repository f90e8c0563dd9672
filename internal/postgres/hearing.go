package postgres

import "github.com/jackc/pgx/v5/pgconn"

// Hearing returns a copy whose sessions pass on the SQLSTATE of each warning of the
// server, before the statement that it is about ends: a statement such as VACUUM warns
// of what it passes over, and succeeds. Notices are left out. Heard is called by the
// goroutine that runs the statement.
func (t Target) Hearing(heard func(code string)) Target {
	t.heard = heard
	return t
}

// notices is what a session does with the server's notices, or nil.
func (t Target) notices() pgconn.NoticeHandler {
	if t.heard == nil {
		return nil
	}
	return func(_ *pgconn.PgConn, n *pgconn.Notice) {
		// SeverityUnlocalized is empty before PostgreSQL 9.6 alone.
		if n.SeverityUnlocalized == "WARNING" {
			t.heard(n.Code)
		}
	}
}
