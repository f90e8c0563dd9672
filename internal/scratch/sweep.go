package scratch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SweepOptions say where Sweep works.
type SweepOptions struct {
	// Parent is the folder to sweep. Empty means those in which Start makes
	// folders by default: os.TempDir and /tmp.
	Parent string
	// Logger receives what is removed; nil discards it.
	Logger *slog.Logger
}

// Sweep ends and removes the scratch servers whose process died before it
// could: it returns how many folders it removed. A server whose owner lives is
// never touched, nor is one that belongs to another user. Several sweeps may
// run at the same time.
func Sweep(ctx context.Context, opts SweepOptions) (removed int, err error) {
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	err = eachFolder(opts.Parent, func(path string) error {
		gone, err := sweepFolder(ctx, path)
		if gone {
			removed++
			logger.Info("removed a scratch server that was left behind", "dir", path)
		}
		return err
	})
	return removed, err
}

// Abandoned returns the folders that Sweep would remove now, and changes nothing.
func Abandoned(opts SweepOptions) (paths []string, err error) {
	err = eachFolder(opts.Parent, func(path string) error {
		root, err := os.OpenRoot(path)
		if err != nil {
			return err
		}
		release, err := abandoned(root)
		if release != nil {
			paths = append(paths, path)
			err = errors.Join(err, release())
		}
		return errors.Join(err, root.Close())
	})
	return paths, err
}

// SweepFolder ends and removes one of the servers that Abandoned returned. It leaves one
// alone that is not abandoned any more.
func SweepFolder(ctx context.Context, path string) error {
	if !strings.HasPrefix(filepath.Base(path), folderPrefix) {
		return fmt.Errorf("sweep %s: it is not the folder of a scratch server", path)
	}
	_, err := sweepFolder(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// eachFolder calls do with the folders of scratch servers in one folder, or where Start
// makes them by default. What is another user's, or was just removed by its owner, is no
// error.
func eachFolder(parent string, do func(path string) error) error {
	parents := []string{parent}
	if parent == "" {
		parents = slices.Compact([]string{filepath.Clean(os.TempDir()), "/tmp"})
	}
	var errs []error
	for _, parent := range parents {
		entries, err := os.ReadDir(parent)
		if err != nil {
			errs = append(errs, fmt.Errorf("look for old scratch servers: %w", err))
			continue
		}
		for _, entry := range entries {
			if !entry.IsDir() || !strings.HasPrefix(entry.Name(), folderPrefix) {
				continue
			}
			path := filepath.Join(parent, entry.Name())
			if err := do(path); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("sweep %s: %w", path, err))
			}
		}
	}
	return errors.Join(errs...)
}

// sweepFolder removes one server if its owner is dead.
func sweepFolder(ctx context.Context, path string) (gone bool, err error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	release, err := abandoned(root)
	if release == nil {
		return false, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := endLeftover(ctx, root, filepath.Join(path, dataName)); err != nil {
		return false, err
	}
	if data, err := root.Lstat(dataName); err == nil {
		endLeftovers(int(data.Sys().(*syscall.Stat_t).Uid))
	}
	if err := removeAll(path); err != nil {
		return false, err
	}
	return true, nil
}

// abandoned returns what to call when done with the folder, if its owner is dead; until
// then no other sweep takes it for that.
func abandoned(root *os.Root) (release func() error, err error) {
	// Whoever made the folder may put anything there: no waiting for the
	// other end of a pipe.
	owner, err := root.OpenFile(ownerName, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// Being made at this moment, or its maker died then.
		info, err := root.Stat(".")
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			return nil, err
		}
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(owner.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, owner.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the owner file: %w", err), owner.Close())
	}
	return owner.Close, nil
}

// endLeftover ends the postmaster of a folder whose owner is dead, if it runs.
func endLeftover(ctx context.Context, root *os.Root, dataDir string) error {
	pid := leftoverPID(root)
	if pid == 1 {
		pid = findPostmaster(dataDir)
	}
	if pid <= 1 {
		// It never ran, or ended in order.
		return nil
	}
	// Found before it is checked: where the system can, the handle stays with
	// this process even if its id is used again.
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	defer func() { _ = process.Release() }()
	for _, step := range []struct {
		signal   os.Signal
		patience time.Duration
	}{
		{syscall.SIGQUIT, immediatePatience},
		{syscall.SIGKILL, immediatePatience},
	} {
		if !isPostmaster(pid, dataDir) {
			return nil
		}
		// An error means that the process has ended, or isn't ours to end:
		// then waiting tells.
		_ = process.Signal(step.signal)
		if gone, err := waitGone(ctx, pid, dataDir, step.patience); gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("the server's process %d doesn't end", pid)
}

// leftoverPID reads the postmaster's process id; it is 0 if there is none.
func leftoverPID(root *os.Root) int {
	file, err := root.OpenFile(filepath.Join(dataName, "postmaster.pid"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }()
	var pid int
	if _, err := fmt.Fscanln(io.LimitReader(file, 32), &pid); err != nil {
		return 0
	}
	return pid
}

func waitGone(ctx context.Context, pid int, dataDir string, patience time.Duration) (bool, error) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for isPostmaster(pid, dataDir) {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-deadline.C:
			return false, nil
		case <-ticker.C:
		}
	}
	return true, nil
}
