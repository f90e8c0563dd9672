package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// renewal is the password of a Target that changes while it is used. All copies of the
// Target share it.
type renewal struct {
	ask func(ctx context.Context) (password string, err error)

	mu sync.Mutex
	// asked is true once ask was called for the password that is in use.
	asked    bool
	password string // what ask returned; empty before
}

// Renewed returns the Target with what is asked for its password again where the server
// refuses it: where it is kept it may have been changed since it was read. Each
// password that was refused is asked for once, and the sessions and client programs that
// follow use the answer.
func (t Target) Renewed(ask func(ctx context.Context) (password string, err error)) Target {
	t.renewal = &renewal{ask: ask}
	return t
}

// current returns the password by now, or what the Target was made with.
func (r *renewal) current(made string) string {
	if r == nil {
		return made
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.password != "" {
		return r.password
	}
	return made
}

// after returns another password than the one that was refused, if there is any.
func (r *renewal) after(ctx context.Context, refused string) (password string, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.password != "" && r.password != refused {
		return r.password, true, nil // another session has asked meanwhile
	}
	if r.asked {
		return "", false, nil
	}
	r.asked = true
	if password, err = r.ask(ctx); err != nil {
		return "", false, fmt.Errorf("read the password again: %w", err)
	}
	if password == "" || password == refused {
		return "", false, nil
	}
	r.password, r.asked = password, false
	return password, true, nil
}

// refusesPassword reports whether a server refused the role or its password.
func refusesPassword(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && slices.Contains([]string{"28P01", "28000"}, pgErr.Code)
}
