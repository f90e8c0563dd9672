package replication

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// ErrNotIncremental says that the server does not take this backup incrementally, because of the
// manifest, of its settings, or of WAL summaries that it lacks. A full one can be taken.
var ErrNotIncremental = errors.New("the server takes no incremental backup")

// FirstIncremental is the first major version that takes incremental backups.
const FirstIncremental = 17

// UploadManifest sends the server's own manifest of an earlier backup, as it was, which the next
// BaseBackup on this connection is to be incremental to. The server holds it in memory until then.
// ErrNotIncremental is found in the error where the server refuses it. An error of the manifest's
// reader is in the error as well; the connection can't be used then.
func (c *Conn) UploadManifest(ctx context.Context, manifest io.Reader) error {
	const attempted = "send the manifest of the backup before"
	if c.major() < FirstIncremental {
		return &pgmedic.Error{Kind: pgmedic.KindUsage, Err: fmt.Errorf("%s: %w", attempted, ErrNotIncremental), Hint: "use PostgreSQL 17 or newer"}
	}
	read := &reader{in: manifest}
	_, err := c.pg.CopyFrom(ctx, read, "UPLOAD_MANIFEST")
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case read.err != nil:
		return fmt.Errorf("%s: %w", attempted, read.err)
	case postgres.Code(err) == "":
		return lost(err, attempted)
	}
	return notIncremental(err, attempted)
}

// reader remembers the error of what is read: the server's answer to it says nothing.
type reader struct {
	in  io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// notIncremental is a refusal of the server's, in its words.
func notIncremental(err error, attempted string) error {
	return &pgmedic.Error{
		Kind: pgmedic.KindFailed, Hint: "set summarize_wal to on on the server, and take a full backup first",
		Err: fmt.Errorf("%s: %w", attempted, &sentinel{ErrNotIncremental, postgres.Wrap(err, attempted)}),
	}
}

// refused says what a server's refusal of a base backup means. Before an incremental one begins,
// what it lacks for that is not a reason not to take a full one.
func (b *baseBackup) refused(err error) error {
	if b.o.Incremental && !b.started && postgres.Code(err) == codeState {
		return notIncremental(err, attemptedBackup)
	}
	return refusedBackup(err)
}
