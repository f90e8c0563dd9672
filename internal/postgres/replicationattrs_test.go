package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestReplicationAttrs: target_session_attrs is obeyed on a connection for replication, in
// each form that it can be, and the one that it can't be is refused before anything connects.
func TestReplicationAttrs(t *testing.T) {
	server := scratchtest.New(t, scratch.Options{Settings: map[string]string{"wal_level": "replica"}})
	target := postgrestest.Parse(t, server.DSN("postgres"))
	for attrs, want := range map[string]string{
		"any": "", "read-write": "", "primary": "",
		"read-only": "asks for one that does not", "standby": "asks for one that does not",
	} {
		conn, err := postgres.ConnectReplication(t.Context(), target.With("target_session_attrs", attrs))
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(t.Context()))
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s, and the server is a primary: %v", attrs, err)
		}
	}
	_, err := postgres.ConnectReplication(t.Context(), target.With("target_session_attrs", "prefer-standby").With("port", "1"))
	if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "prefer-standby") {
		t.Errorf("prefer-standby: %v", err)
	}
}
