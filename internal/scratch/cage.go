package scratch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Cage says how a server is kept away from the rest of the machine, so that the
// content of a database, which may run code as the server's superuser, reaches
// nothing but the server's own folder. What the system can't give is left out:
// Server.Walls tells. The zero Cage has bounds for a small database.
type Cage struct {
	// MemoryBytes bounds the address space of each process. Zero means half of
	// the machine's memory, and at least 4 GiB.
	MemoryBytes uint64
	// DiskBytes bounds the server's folder: a server that goes beyond is ended,
	// see Server.Overrun. Zero means 8 GiB.
	DiskBytes uint64
	// Processes bounds the processes and threads of the server. Zero means 1024.
	Processes uint64
	// Readable are further files and folders that the server may read, and run
	// programs of.
	Readable []string
	// Kernel is what the system is taken to offer. Nil means what it does offer.
	// It is for tests of what is said where something is missing.
	Kernel *Kernel
}

// Kernel is what a system offers for a cage. That it is offered doesn't mean that
// it works: walls are claimed for what was seen when they stood.
type Kernel struct {
	// Landlock is the version of Landlock's interface, zero where there is none.
	Landlock int
	// Seccomp filters system calls.
	Seccomp bool
	// Namespaces are those of users, processes, networks and System V objects.
	Namespaces bool
	// NoNewPrivileges has programs with the set-user-ID bit run as any other.
	NoNewPrivileges bool
	// OwnUser means that the server can get a user id of its own.
	OwnUser bool
	// Limits are those of memory, processes, files and the disk.
	Limits bool
}

// Walls are those that stand around a server, and those that don't, each in the
// order of pgmedic.Walls.
type Walls struct {
	Standing, Missing []pgmedic.Wall
}

// Has reports whether a wall stands.
func (w Walls) Has(wall pgmedic.Wall) bool { return slices.Contains(w.Standing, wall) }

// seen is what was seen of a process before it ran anything of a server.
type seen struct {
	// ownUser: its ids are those that we claimed, and it has no further group.
	ownUser bool
	// files: Landlock refused to open a file outside the server's folder.
	// landlock is the version of its interface that was in force.
	files    bool
	landlock int
	// sockets: connecting, and making a socket of a network, were refused, by the
	// filter that also refuses to change owners, modes and times of files.
	sockets bool
	// noNetwork, ownProcesses: it is in other namespaces than we are.
	noNetwork, ownProcesses bool
	// noPrivileges: it has none and can't get any.
	noPrivileges bool
	memory       bool
	limits       bool
}

// Landlock keeps signals within a sandbox from this version of its interface on.
const landlockScopes = 6

// walls says which walls stand, by what was seen.
func (s seen) walls() Walls {
	stands := map[pgmedic.Wall]bool{
		pgmedic.WallOwnUser: s.ownUser,
		// Landlock leaves modes, owners and times of files alone: the user id or
		// the filter must see to them.
		pgmedic.WallFiles:   s.files && (s.ownUser || s.sockets),
		pgmedic.WallNetwork: s.noNetwork || s.sockets,
		pgmedic.WallSockets: s.sockets,
		pgmedic.WallProcesses: s.ownProcesses || s.ownUser ||
			s.files && s.landlock >= landlockScopes,
		pgmedic.WallPrivileges: s.noPrivileges,
		pgmedic.WallMemory:     s.memory,
		pgmedic.WallLimits:     s.limits,
	}
	var w Walls
	for _, wall := range pgmedic.Walls() {
		if stands[wall] {
			w.Standing = append(w.Standing, wall)
		} else {
			w.Missing = append(w.Missing, wall)
		}
	}
	return w
}

// withDefaults returns the cage with its bounds filled in.
func (c Cage) withDefaults() Cage {
	if c.MemoryBytes == 0 {
		c.MemoryBytes = max(4<<30, machineMemory()/2)
	}
	if c.DiskBytes == 0 {
		c.DiskBytes = 8 << 30
	}
	if c.Processes == 0 {
		c.Processes = 1024
	}
	if c.Kernel == nil {
		kernel := ProbeKernel()
		c.Kernel = &kernel
	}
	return c
}

// TryCage makes the cage that a server would start in, without a server, and
// returns the walls that stood. Of the options it heeds Cage, Parent, OSUser and
// Logger; a nil Cage is the zero Cage.
func TryCage(ctx context.Context, opts Options) (_ Walls, err error) {
	if opts.Cage == nil {
		opts.Cage = &Cage{}
	}
	if opts, err = checkOptions(opts); err != nil {
		return Walls{}, err
	}
	initial, err := serverAccount(opts.OSUser)
	if err != nil {
		return Walls{}, err
	}
	caged, err := cagedAccount(opts.Cage, initial)
	if err != nil {
		return Walls{}, err
	}
	defer caged.release()
	parent, err := chooseParent(opts.Parent, initial, caged)
	if err != nil {
		return Walls{}, err
	}
	dir, err := makeFolder(parent, initial)
	if err != nil {
		return Walls{}, err
	}
	s := &Server{cage: opts.Cage, folder: dir, logger: opts.Logger}
	defer func() { err = errors.Join(err, dir.remove()) }()
	if err := dir.handOver(caged); err != nil {
		return Walls{}, fmt.Errorf("hand the folder over to the server's user: %w", err)
	}
	if ctx.Err() != nil {
		return Walls{}, context.Cause(ctx)
	}
	g, err := s.launchGated("/bin/sh")
	if err != nil {
		return Walls{}, fmt.Errorf("try the cage of a scratch server: %w", err)
	}
	g.end()
	return g.seen.walls(), nil
}

// cagedAccount returns the account that runs the server: one with an id of its
// own in a cage, where we can give one, and otherwise the one that runs initdb.
func cagedAccount(c *Cage, initial account) (account, error) {
	if c == nil || !initial.other || !c.Kernel.OwnUser {
		return initial, nil
	}
	own, err := claimAccount()
	if err != nil {
		return account{}, fmt.Errorf("find a free user id: %w", err)
	}
	if own.claim == nil {
		return initial, nil
	}
	return own, nil
}

// diskWatch ends a server whose folder grows too large.
type diskWatch struct {
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu  sync.Mutex
	err error
}

func (w *diskWatch) overrun() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// end ends the watch and waits for it. It may be called again.
func (w *diskWatch) end() {
	if w == nil {
		return
	}
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
}

// watchDisk measures the folder every second. A limit on the size of a file
// leaves a process any number of files.
func (s *Server) watchDisk() *diskWatch {
	w := &diskWatch{stop: make(chan struct{})}
	w.done.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-s.process.done:
				return
			case <-ticker.C:
			}
			if used := diskUsed(s.folder.path); used > s.cage.DiskBytes {
				w.mu.Lock()
				w.err = pgmedic.Errorf(pgmedic.KindFailed,
					"look for code in the database that writes files: the folder holds far more than the backup recorded",
					"the scratch server was ended: its folder grew to %s, and %s is allowed", words.Size(used), words.Size(s.cage.DiskBytes))
				w.mu.Unlock()
				s.kill()
				return
			}
		}
	})
	return w
}

// diskUsed is how much of the disk a folder takes. What goes away meanwhile, or
// can't be read, counts for nothing.
func diskUsed(path string) (bytes uint64) {
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // and goes on
		}
		if info, err := entry.Info(); err == nil {
			bytes += blocks(info)
		}
		return nil
	})
	return bytes
}
