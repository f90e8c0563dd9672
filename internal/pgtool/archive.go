package pgtool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// ArchiveOptions say what pg_dump writes into an archive of its own format.
type ArchiveOptions struct {
	Tool     Tool
	Target   postgres.Target
	Snapshot string
	// Encoding is the database's own. The names in LeftOut and Without are in it, too.
	Encoding string
	// LockTimeout bounds the wait for each table's lock.
	LockTimeout time.Duration
	// Sections are those to write: pre-data, data, post-data.
	Sections []string
	// LeftOut is what a partial backup does not hold.
	LeftOut snapshot.LeftOut
	// WithoutSchemas are those whose rows are left out of the data, and Without
	// further tables.
	WithoutSchemas []snapshot.WholeSchema
	Without        []snapshot.RowTable
}

// StartArchive begins a pg_dump in its custom format, uncompressed: the seal
// compresses.
func StartArchive(ctx context.Context, o ArchiveOptions) (*Process, error) {
	args := []string{
		"--format=custom", "--compress=0", "--snapshot=" + o.Snapshot, "--encoding=" + o.Encoding,
		fmt.Sprintf("--lock-wait-timeout=%d", o.LockTimeout.Milliseconds()),
	}
	if !o.LeftOut.LargeObjects {
		args = append(args, "--blobs")
	}
	for _, s := range o.Sections {
		args = append(args, "--section="+s)
	}
	args = append(args, LeaveOutArguments(o.LeftOut)...)
	for _, schema := range o.WithoutSchemas {
		args = append(args, ExcludeSchemaArgument(schema))
	}
	for _, t := range o.Without {
		args = append(args, ExcludeArgument(t))
	}
	return Start(ctx, Command{Tool: o.Tool, Target: o.Target, Args: args})
}

// ExcludeArgument is pg_dump's argument that leaves a table's rows out. A name
// that is quoted is taken to the letter, patterns and all.
func ExcludeArgument(t snapshot.RowTable) string {
	return "--exclude-table-data=" + sqltext.QuoteQualified(t.Schema, t.Name)
}

// ExcludeSchemaArgument is pg_dump's argument that leaves out the rows that
// w.Covers, and keeps the values of sequences. For pg_dump each argument is a
// query. Its patterns know no way to say "not", so the second one lists how a name
// can end that does not end in _seq.
func ExcludeSchemaArgument(w snapshot.WholeSchema) string {
	pattern := ".*"
	if w.Sequences {
		pattern = ".(*[^q]|*[^e]q|*[^s]eq|*[^_]seq)"
	}
	if w.Name == "" {
		return "--exclude-table-data=*" + pattern
	}
	return "--exclude-table-data=" + sqltext.QuoteIdent(w.Name) + pattern
}

// RestoreArchiveOptions say what pg_restore does.
type RestoreArchiveOptions struct {
	Tool   Tool
	Target postgres.Target
	// Section is pre-data, data or post-data.
	Section string
	// File is the archive; empty means Stdin. List is a file of what of it to
	// restore, as pg_restore --list writes it; empty means all.
	File  string
	List  string
	Stdin io.Reader
	// Jobs is how many sessions work at once, from a File only; zero means
	// one.
	Jobs int
	// EventTriggersOff is that of LoadOptions.
	EventTriggersOff bool
	// Without is what is left out.
	Without dumpsql.Without
}

// RestoreArchive runs one section of an archive into a database. It goes on past
// entries that the server refuses, and returns the numbers of those with which
// something went wrong, whatever it was: why can be known only by trying them
// again. An error of Stdin's Read wins over pg_restore's.
func RestoreArchive(ctx context.Context, o RestoreArchiveOptions) (refused map[string]bool, err error) {
	watch := &entryWatch{ids: map[string]bool{}}
	c := Command{
		Tool: o.Tool, Target: o.Target, watch: watch, Options: loadSettings(o.EventTriggersOff),
		// Only a verbose one says which entry an error is of.
		Args: append([]string{"--verbose", "--section=" + o.Section}, withoutArguments(o.Without)...),
	}
	if o.List != "" {
		c.Args = append(c.Args, "--use-list="+o.List)
	}
	if o.Jobs > 1 {
		c.Args = append(c.Args, "--jobs="+strconv.Itoa(o.Jobs))
	}
	if o.File != "" {
		c.Args = append(c.Args, o.File)
		return watch.refused(Run(ctx, c))
	}
	in := &dumpsql.Source{Reader: o.Stdin}
	c.Stdin = in
	err = Run(ctx, c)
	if cause := in.Failure(); cause != nil {
		return nil, cause
	}
	return watch.refused(err)
}

// refused makes of how pg_restore ended the entries that it went on past.
func (w *entryWatch) refused(err error) (map[string]bool, error) {
	var failed *Error
	if errors.As(err, &failed) && w.ignored && !w.outside && len(w.ids) > 0 {
		return w.ids, nil
	}
	return nil, err
}

// withoutArguments are pg_restore's for what is left out.
func withoutArguments(w dumpsql.Without) (args []string) {
	if w.Owners {
		args = append(args, "--no-owner", "--no-privileges")
	}
	if w.Owners || w.Labels {
		args = append(args, "--no-security-labels")
	}
	if w.Rows {
		args = append(args, "--schema-only") // large objects are made with the definitions
	}
	return args
}

// StartArchiveScript begins a pg_restore that turns the data section of an archive into
// SQL, with the numbers of its entries, and connects to no server. The archive is a
// file, or else comes from stdin.
func StartArchiveScript(ctx context.Context, tool Tool, file string, stdin io.Reader) (*Process, error) {
	c := Command{Tool: tool, Args: []string{"--section=data", "--verbose", "--file=-"}, Stdin: stdin, Offline: true}
	if file != "" {
		c.Args = append(c.Args, file)
	}
	return Start(ctx, c)
}

// StartWholeScript begins a pg_restore that turns a whole archive into SQL, and
// connects to no server. The archive is a folder of pg_dump -Fd, or else comes from
// stdin.
func StartWholeScript(ctx context.Context, tool Tool, folder string, stdin io.Reader) (*Process, error) {
	c := Command{Tool: tool, Args: []string{"--file=-"}, Stdin: stdin, Offline: true}
	if folder != "" {
		c.Args = append(c.Args, "--format=directory", "--", folder)
	}
	return Start(ctx, c)
}
