package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/words"
)

// planned gives PostgreSQL a file of WAL by the plan of its recovery.
func (cmd *walFetchCommand) planned(ctx context.Context) error {
	p, err := recovery.Read(cmd.plan)
	if err != nil {
		return err
	}
	cmd.cfg.Server = p.Server
	folder, base := filepath.Split(cmd.path)
	if cmd.prefetch {
		return cmd.fetchAhead(ctx, p, folder)
	}
	answer, err := p.Answer(cmd.name)
	if err != nil {
		return err
	}
	if answer == recovery.Absent { // which needs no store
		cmd.log.Info("the WAL of the recovery ends here, or the file is not part of it", "name", cmd.name)
		return &statusError{fetchAbsent}
	}
	taken, ahead, err := p.Take(folder, cmd.name, base)
	if err != nil {
		return err
	}
	// Before this segment is fetched: the two can be at the same time.
	if want := p.Ahead(cmd.name); cmd.spawn != nil && want > 0 && ahead <= want/2 {
		if err := cmd.spawn(); err != nil {
			cmd.log.Debug("no WAL is fetched ahead", "error", words.OneLine(err.Error()))
		}
		cmd.spawn = nil // where this one is tried again, that is enough
	}
	if taken {
		return nil
	}
	f, closed, err := cmd.plannedFetcher(ctx, p)
	if err != nil {
		return err
	}
	defer closed()
	err = writeWhole(cmd.path, func(w io.Writer) error { return f.Fetch(ctx, cmd.name, w) })
	if errors.Is(err, recovery.ErrAbsent) {
		cmd.log.Info("the file is not part of the recovery", "name", cmd.name)
		return &statusError{fetchAbsent}
	}
	return err
}

// fetchAhead fetches what the recovery reads next. A recovery that ends removes what was
// fetched ahead, and does not wait for this process, which may have gone on: what it
// has left then it removes itself.
func (cmd *walFetchCommand) fetchAhead(ctx context.Context, p *recovery.Plan, folder string) error {
	if recoveryEnded(filepath.Dir(cmd.plan)) {
		return nil
	}
	f, closed, err := cmd.plannedFetcher(ctx, p)
	if err != nil {
		return err
	}
	defer closed()
	err = recovery.Prefetch(ctx, f, folder, cmd.name)
	if recoveryEnded(filepath.Dir(cmd.plan)) {
		return os.RemoveAll(filepath.Join(folder, recovery.PrefetchFolder))
	}
	return err
}

// recoveryEnded reports whether a folder is one of data that is not in recovery any more:
// PostgreSQL removes the file that asks for it before it runs recovery_end_command.
func recoveryEnded(dir string) bool {
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	}
	return there("PG_VERSION") && !there("recovery.signal") && !there("standby.signal")
}

func (cmd *walFetchCommand) plannedFetcher(ctx context.Context, p *recovery.Plan) (*recovery.Fetcher, func(), error) {
	cmd.renew = func(a *archive.Archive) { cmd.renewLease(ctx, a, p) }
	stored, closed, err := cmd.fetcher(ctx, p.SystemIdentifier)
	if err != nil {
		return nil, nil, err
	}
	return recovery.NewFetcher(p, stored, cmd.log), closed, nil
}

// spawnPrefetch starts this program again, to fetch ahead while PostgreSQL replays what it
// has. It ends by itself after some segments, and PostgreSQL does not wait for it.
func spawnPrefetch(cmd *cobra.Command, args []string, e *env) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start what fetches ahead: %w", err)
	}
	again := []string{"wal", "fetch", "--prefetch"}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, value := range list.GetSlice() {
				again = append(again, "--"+f.Name+"="+value)
			}
			return
		}
		again = append(again, "--"+f.Name+"="+f.Value.String())
	})
	child := exec.Command(program, append(append(again, "--"), args...)...) //nolint:noctx // it goes on when this process has ended
	child.Dir, child.Env = e.dir, e.environ
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start what fetches ahead: %w", err)
	}
	return child.Process.Release()
}
