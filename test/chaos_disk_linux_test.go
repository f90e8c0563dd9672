package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// diskTrials have no room left for what is written.
func diskTrials() (all []trial) {
	const failed = "exit code 1 or 12, nothing half-done listed or left; the next run, with room, works"
	for _, args := range [][]string{{"backup"}, {"backup", "--method", "plain"}, {"copy", "--all"}} {
		command := strings.Join(args, " ")
		all = append(all,
			trial{
				family: byDisk, name: "`" + command + "`: a full store", want: failed,
				done: "the store's folder is on a small file system of its own",
				run:  func(c *chaos) { c.fullStore(args, true) },
			},
			trial{
				family: byDisk, name: "`" + command + "`: a limit on files", want: failed,
				done: "no file may grow beyond 1 MiB",
				run:  func(c *chaos) { c.fullStore(args, false) },
			})
	}
	for _, args := range [][]string{{"restore", "latest", "--into"}, {"restore", "latest", "--swap", "--yes"}, {"drill", "latest", "--on-server"}} {
		all = append(all, trial{
			family: byDisk, name: "`" + strings.Join(slices.Delete(slices.Clone(args), 1, 2)[:2], " ") + "`: a full server", want: failed,
			done: "the table's tablespace has room for one of it and not for two",
			run:  func(c *chaos) { c.fullServer(args) },
		})
	}
	return all
}

// mount mounts a small file system for the rest of the test, or ends it.
func (c *chaos) mount(dir, options string) {
	c.t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		c.saw("not run: mounting takes root")
		testkit.Elsewhere(c.t, fmt.Sprintf("mounting needs root: %v", err))
	}
	c.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func (c *chaos) fullStore(args []string, mounted bool) {
	before := c.prepare()
	where := c.store
	if args[0] == "copy" {
		where = filepath.Join(c.dir, "copies")
		args = append(slices.Clone(args), "--to", where)
		if err := os.Mkdir(where, 0o700); err != nil {
			c.t.Fatal(err)
		}
	}
	c.live(alive)
	free := func() {}
	if mounted {
		old := c.store + "-moved"
		if where == c.store {
			if err := os.Rename(c.store, old); err != nil {
				c.t.Fatal(err)
			}
			if err := os.Mkdir(c.store, 0o700); err != nil {
				c.t.Fatal(err)
			}
		}
		c.mount(where, "size=3m,mode=0700")
		if where == c.store { // the earlier backup stays elsewhere
			free = func() {
				if err := unix.Unmount(where, 0); err != nil {
					c.t.Fatal(err)
				}
				if err := os.Remove(where); err != nil {
					c.t.Fatal(err)
				}
				if err := os.Rename(old, where); err != nil {
					c.t.Fatal(err)
				}
			}
		} else {
			free = func() {
				if err := unix.Mount("tmpfs", where, "tmpfs", unix.MS_REMOUNT, "size=64m,mode=0700"); err != nil {
					c.t.Fatal(err)
				}
			}
		}
	} else {
		limited(c.t, c.bench)
	}
	r := c.run(args...)
	c.program = ""
	c.refused(r, 1, 12)
	if now := c.ok("list", "-q", "--store", where); mounted || args[0] == "copy" {
		if now != "" {
			c.t.Errorf("%q is listed", now)
		}
	} else if !slices.Equal(strings.Fields(now), before.backups) {
		c.t.Errorf("%q is listed, want %q", now, before.backups)
	}
	free()
	if r := c.run(args...); r.code != 0 {
		c.t.Fatalf("the next run: exit code %d\n%s", r.code, r.stderr)
	}
	if args[0] == "copy" {
		c.bucket = where
		c.rightStored(job{name: "copy"}, before)
		return
	}
	c.right(job{name: "backup"}, before)
}

// limited has the program run under a limit on the size of files.
func limited(t *testing.T, b *bench) {
	t.Helper()
	script := filepath.Join(b.dir, "limited")
	// In units of 512 bytes.
	if err := os.WriteFile(script, []byte("#!/bin/sh\nulimit -f 2048\nexec "+binary+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.program = script
}

func (c *chaos) fullServer(args []string) {
	t := c.t
	c.bench = newBench(t, clinic()...)
	space := c.database + "_small"
	dir, err := server.TablespaceDir(space)
	if err != nil {
		t.Fatal(err)
	}
	owner := unix.Stat_t{}
	if err := unix.Stat(dir, &owner); err != nil {
		t.Fatal(err)
	}
	c.mount(dir, "size=16m,mode=0700")
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	mustExec(t, "postgres", "CREATE TABLESPACE "+space+" LOCATION '"+dir+"'")
	t.Cleanup(func() {
		dropAll(t, c.database)
		mustExec(t, "postgres", "DROP TABLESPACE "+space)
	})
	mustExec(t, c.database, "ALTER TABLE public.patients SET TABLESPACE "+space)
	c.env = append(c.env, "PGMEDIC_JOBS=2")
	c.backup()
	before := state{backups: c.listed(), backedUp: c.sum(c.database)}
	mustExec(t, c.database, "INSERT INTO public.visits SELECT generate_series(1, 10)")
	before.live = c.sum(c.database)
	left := databasesOf(t, c.database)
	c.live(alive, backedUp)
	fill := filepath.Join(dir, "fill")
	free := unix.Statfs_t{}
	if err := unix.Statfs(dir, &free); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fill, make([]byte, max(0, int64(free.Bavail)*free.Bsize-2<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	j := job{name: strings.Join(slices.Delete(slices.Clone(args), 1, 2)[:2], " "), args: func(*chaos) []string { return args }}
	if j.name == "restore --into" {
		args = append(slices.Clone(args), c.database+"_copy")
	}
	c.refused(c.run(args...), 1, 12)
	if now := databasesOf(t, c.database); !slices.Equal(now, left) {
		t.Errorf("databases are %q instead of %q", now, left)
	}
	if c.sum(c.database) != before.live {
		t.Error("the live database has other rows")
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	c.watch.swapping.Store(j.name == "restore --swap")
	if r := c.run(args...); r.code != 0 {
		t.Fatalf("the next run: exit code %d\n%s", r.code, r.stderr)
	}
	c.right(j, before)
}
