package pgtool

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// LoadOptions say what is loaded, and where.
type LoadOptions struct {
	// Tool is psql.
	Tool   Tool
	Target postgres.Target
	// Script is the SQL. An error of its Read wins over psql's, because it is
	// the cause.
	Script io.Reader
	// ShowData has psql pass on the server's whole messages, which may quote
	// rows, in Error.Full. Without it psql itself is told the SQLSTATE only.
	ShowData bool
	// EventTriggersOff keeps event triggers from firing: a dump refreshes its
	// materialized views after it has made them. It takes a superuser.
	EventTriggersOff bool
}

// LoadSQL feeds SQL to psql, which stops at the first error. The error carries
// the line of the script and the SQLSTATE.
//
// A psql that does not know \restrict is not used: LoadSQL gives the statements
// to the server itself, which knows no commands but SQL's.
func LoadSQL(ctx context.Context, o LoadOptions) error {
	if !knowsRestrict(o.Tool.Version) {
		return loadStatements(ctx, o)
	}
	verbosity := "sqlstate"
	if o.ShowData {
		verbosity = "default"
	}
	in := &remember{r: o.Script}
	err := Run(ctx, Command{
		Tool: o.Tool, Target: o.Target, Stdin: in,
		Args: []string{
			"--no-psqlrc", "--quiet", "--output=/dev/null",
			"--set=ON_ERROR_STOP=1", "--set=VERBOSITY=" + verbosity, "--set=SHOW_CONTEXT=never",
			restriction(), "--file=-",
		},
		Options: loadSettings(o.EventTriggersOff),
	})
	if cause := in.failure(); cause != nil {
		return cause
	}
	return err
}

// loadSettings are for sessions that load: one that the server's own limits end
// halfway helps nobody, and what they write is safe once a later commit of the
// same run is.
func loadSettings(eventTriggersOff bool) string {
	options := "-c synchronous_commit=off -c client_min_messages=warning" +
		" -c default_transaction_read_only=off -c array_nulls=on" // a role's own, say, after an accident
	if eventTriggersOff {
		options += " -c session_replication_role=replica"
	}
	return options
}

// remember keeps the error that ended a reader.
type remember struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

func (m *remember) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
	}
	return n, err
}

func (m *remember) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}
