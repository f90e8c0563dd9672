package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// exitAnnotation marks a command that ends with one code for every error.
	exitAnnotation = "pgmedic-exit-code"
	// fetchFailed ends a recovery with an error. PostgreSQL takes 1 to 125 for the end of
	// the WAL, and then promotes the server with what it has; from 126 on it stops
	// (RestoreArchivedFile in xlogarchive.c).
	fetchFailed = 255
	// fetchAbsent says that the WAL ends here.
	fetchAbsent = 1
	// fetchPause is between two questions to a store that is away.
	fetchPause = 2 * time.Second
)

// walFileName matches what PostgreSQL puts in for %f.
var walFileName = regexp.MustCompile(`^[0-9A-F]{24}$|^[0-9A-F]{8}\.history$`)

// restoreCode returns the exit code of a run that failed before its command was known, or
// code. Arguments that are meant as those of PostgreSQL's restore_command, with an unknown
// flag or a misspelt word, end like an error of the command itself.
func restoreCode(args []string, code int) int {
	wal := slices.Index(args, "wal")
	meant := wal >= 0 && slices.ContainsFunc(args[wal:], func(arg string) bool { return nearestOf(arg, []string{"fetch"}) != "" })
	if meant || slices.ContainsFunc(args, walFileName.MatchString) {
		return fetchFailed
	}
	return code
}

// walFetchCommand gives PostgreSQL one file of WAL.
type walFetchCommand struct {
	job
	stores stores
	keys   keyring

	name, path string
	// system is the system identifier that was given, or empty.
	system string
	// plan is the file of the plan that a restore made, or empty. With prefetch the
	// segments after name are fetched into a folder beside path, and nothing else.
	plan     string
	prefetch bool
	// wait is how long a store that is away is asked again.
	wait time.Duration
	// renew renews the lease of what a recovery reads; nil does without.
	renew func(*archive.Archive)
	// spawn starts what prefetches; nil does without.
	spawn func() error
}

func walFetchCLI(e *env) *cobra.Command {
	var system, plan string
	var prefetch bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "fetch NAME PATH",
		Short: "Write one file of WAL for a recovery: PostgreSQL's restore_command",
		Long: `Writes a segment of WAL, or a timeline's history, from the store to PATH. Set it on the
server that is to recover, with the names that PostgreSQL puts in:

  restore_command = 'pgmedic wal fetch --config /etc/pgmedic/pgmedic.yaml %f %p; r=$?; [ $r -le 1 ] || r=255; exit $r'

The exit code is 0 when the file is there, and 1 only when a complete listing of the store
shows that the WAL ends before it: PostgreSQL takes that for the end, and opens the server.
Everything else is 255: a store that can't be reached, a missing key, damage, wrong usage,
and a segment that is missing, or not all there, while later WAL is stored. PostgreSQL then
stops the recovery with an error. Run it again when the cause is gone. What follows %p in
the example covers the end that no program can turn into 255 itself: with too little memory
the exit code is 2.

A store that does not answer is asked again until --wait has passed, so that a recovery or a
standby does not stop because of a network that is down for a minute. Refused credentials,
and whatever else does not pass by itself, end at once.

A restore of a cluster (pgmedic restore --target-dir) sets the command itself, with the plan
that it made: --plan. Then the exit code is 1 only for the segment behind the end of the
plan, and for histories that are not stored; tablespaces that WAL creates lie where the
plan says; and the next eight segments are fetched before PostgreSQL asks for them.

What is fetched is checked before PostgreSQL gets it: the hash of its bytes, the cluster,
and the checksum of every record. Of a segment that is stored only in part the rest is
zeros.`,
		Example: `  pgmedic wal fetch 00000001000000000000000A /tmp/00000001000000000000000A`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("takes the name of a file of WAL and a path, and got %d arguments", len(args))
			}
			return nil
		},
		Annotations: map[string]string{exitAnnotation: strconv.Itoa(fetchFailed)},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			// The end of the program by a panic is 2, which PostgreSQL takes for the end.
			defer func() {
				if r := recover(); r != nil {
					err = fmt.Errorf("an error in pgmedic itself: %v", r)
				}
			}()
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &walFetchCommand{job: j, stores: stores{j}, keys: keyring{j}, name: args[0], path: e.absolute(args[1], ""), system: system, prefetch: prefetch, wait: wait}
			if plan != "" {
				command.plan = e.absolute(plan, "")
				command.spawn = func() error { return spawnPrefetch(cmd, args, e) }
			}
			return command.run(cmd.Context())
		},
	}
	addSetting(cmd, "server", "server", "name that the WAL of this server is filed under")
	addStore(cmd)
	addUnencrypted(cmd)
	cmd.Flags().StringVar(&plan, "plan", "", "file of the plan of the recovery, which a restore has written into the data folder")
	cmd.Flags().BoolVar(&prefetch, "prefetch", false, "fetch the segments after NAME into a folder beside PATH, and nothing else; fetch starts this itself")
	_ = cmd.Flags().MarkHidden("prefetch") // it is there
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to ask a store again that does not answer; 0 asks once")
	cmd.Flags().StringVar(&system, "system-identifier", "", "system identifier of the cluster, where WAL of several is filed under the name")
	return cmd
}

func (cmd *walFetchCommand) run(ctx context.Context) error {
	if err := checkWALSigned(cmd.cfg); err != nil {
		return err
	}
	if cmd.prefetch && cmd.plan == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave --prefetch out", "--prefetch needs --plan")
	}
	if cmd.wait < 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "give a time like 5m, or 0", "--wait %s is negative", cmd.wait)
	}
	switch {
	case cmd.prefetch: // what comes after it asks again
		return cmd.planned(ctx)
	case cmd.plan != "":
		return cmd.patient(ctx, cmd.planned)
	}
	return cmd.patient(ctx, cmd.unplanned)
}

// patient fetches, and again while the store is away.
func (cmd *walFetchCommand) patient(ctx context.Context, fetch func(context.Context) error) error {
	began := time.Now()
	for told := false; ; told = true {
		err := fetch(ctx)
		if !pgmedic.IsTemporary(err) {
			return err
		}
		if waited := time.Since(began); waited+fetchPause > cmd.wait {
			return fmt.Errorf("the store was asked for %s: %w", words.Duration(waited), err)
		}
		if !told {
			cmd.log.Warn("the store is away: it is asked again", "name", cmd.name, "at_most", cmd.wait, "error", words.OneLine(err.Error()))
		}
		waitFor(ctx, fetchPause)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// unplanned gives PostgreSQL whatever the archive has under a name.
func (cmd *walFetchCommand) unplanned(ctx context.Context) error {
	f, closed, err := cmd.fetcher(ctx, cmd.system)
	if err != nil {
		return err
	}
	defer closed()
	err = writeWhole(cmd.path, func(w io.Writer) error { return f.Fetch(ctx, cmd.name, w) })
	if errors.Is(err, archive.ErrAbsent) {
		cmd.log.Info("the WAL ends here", "name", cmd.name)
		return &statusError{fetchAbsent}
	}
	return err
}

// fetcher opens the archive.
func (cmd *walFetchCommand) fetcher(ctx context.Context, system string) (f *archive.Fetcher, closed func(), err error) {
	c, closed, err := cmd.stores.openPlace(ctx, cmd.cfg.Backup.Place(), cmd.cfg.Backup.Access, true)
	if err != nil {
		return nil, nil, err
	}
	a, err := cmd.archive(ctx, c.Store(), system)
	if err == nil && cmd.renew != nil {
		cmd.renew(a)
	}
	if err == nil {
		f, err = a.NewFetcher(ctx, func(_ context.Context, epoch string, wraps []archive.StoredWrap) (*seal.Key, error) {
			return cmd.keys.openWAL(epoch, wraps)
		})
	}
	if err != nil {
		closed()
		return nil, nil, err
	}
	return f, closed, nil
}

// archive finds the cluster whose WAL is meant.
func (cmd *walFetchCommand) archive(ctx context.Context, s store.Store, system string) (*archive.Archive, error) {
	server := cmd.cfg.Server
	if server == "" {
		server = system
	}
	if server == "" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set server (PGMEDIC_SERVER), or name it with --server; without a name it is the system identifier",
			"no server is named whose WAL is to be fetched")
	}
	all, err := walArchives(ctx, s, server)
	if err != nil {
		return nil, err
	}
	if system != "" {
		all = slices.DeleteFunc(all, func(a *archive.Archive) bool { return strconv.FormatUint(a.System(), 10) != system })
	}
	switch len(all) {
	case 0:
		return nil, errNoWAL(server, s)
	case 1:
		return all[0], nil
	}
	return nil, pgmedic.Errorf(pgmedic.KindUsage, "name one: --system-identifier, as pg_controldata prints it",
		"WAL of %d clusters is filed under the name %s", len(all), server)
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, write func(w io.Writer) error) (err error) {
	part := path + ".pgmedic-part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, path)
}
