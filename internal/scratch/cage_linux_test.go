package scratch_test

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestMissingWalls takes parts of what the system offers away, and looks that the
// walls that are missing for it, and no others, are named.
func TestMissingWalls(t *testing.T) {
	as := scratchtest.AsUsers(t)
	if as == "" {
		return
	}
	scratchtest.NeedCage(t)
	if !canUnshare() {
		testkit.Elsewhere(t, "this machine lets us make no namespaces")
	}
	all := scratch.Kernel{Landlock: 1 << 10, Seccomp: true, Namespaces: true, NoNewPrivileges: true, OwnUser: true, Limits: true}
	root := as == "root"
	for name, tt := range map[string]struct {
		take func(k *scratch.Kernel)
		// Missing as root and as an ordinary user, whose own user always is.
		root, ordinary []pgmedic.Wall
	}{
		"nothing":  {func(*scratch.Kernel) {}, nil, nil},
		"Landlock": {func(k *scratch.Kernel) { k.Landlock = 0 }, []pgmedic.Wall{pgmedic.WallFiles}, []pgmedic.Wall{pgmedic.WallFiles}},
		"filters":  {func(k *scratch.Kernel) { k.Seccomp = false }, []pgmedic.Wall{pgmedic.WallSockets}, []pgmedic.Wall{pgmedic.WallFiles, pgmedic.WallSockets}},
		"limits": {func(k *scratch.Kernel) { k.Limits = false },
			[]pgmedic.Wall{pgmedic.WallMemory, pgmedic.WallLimits}, []pgmedic.Wall{pgmedic.WallMemory, pgmedic.WallLimits}},
		"namespaces and new Landlock": {func(k *scratch.Kernel) { k.Namespaces, k.Landlock = false, 1 }, nil, []pgmedic.Wall{pgmedic.WallProcesses}},
		"namespaces and filters": {func(k *scratch.Kernel) { k.Namespaces, k.Seccomp = false, false },
			[]pgmedic.Wall{pgmedic.WallNetwork, pgmedic.WallSockets}, []pgmedic.Wall{pgmedic.WallFiles, pgmedic.WallNetwork, pgmedic.WallSockets}},
		"no new privileges": {func(k *scratch.Kernel) { k.NoNewPrivileges = false }, []pgmedic.Wall{pgmedic.WallPrivileges},
			[]pgmedic.Wall{pgmedic.WallFiles, pgmedic.WallSockets, pgmedic.WallPrivileges}},
		"user ids": {func(k *scratch.Kernel) { k.OwnUser = false }, []pgmedic.Wall{pgmedic.WallOwnUser}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := all
			k.Landlock = min(k.Landlock, scratch.ProbeKernel().Landlock)
			tt.take(&k)
			want := tt.root
			if !root {
				want = append([]pgmedic.Wall{pgmedic.WallOwnUser}, tt.ordinary...)
			}
			walls, err := scratch.TryCage(t.Context(), scratch.Options{Cage: &scratch.Cage{Kernel: &k}, Parent: parentDir(t)})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(walls.Missing, want) {
				t.Errorf("missing are %q, want %q", walls.Missing, want)
			}
			for _, wall := range pgmedic.Walls() {
				if walls.Has(wall) == slices.Contains(want, wall) {
					t.Errorf("%s stands: %t", wall, walls.Has(wall))
				}
			}
		})
	}
}

// canUnshare reports whether the system lets us make namespaces.
func canUnshare() bool {
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	return cmd.Run() == nil
}
