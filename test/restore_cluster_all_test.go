package test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// serverFolder makes a folder of the server's user.
func (b *walBench) serverFolder(name string) string {
	b.t.Helper()
	dir := filepath.Join(b.tmp, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	if out, err := exec.Command("chown", "--reference="+b.server.DataDir(), dir).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// streamed runs statements while WAL is streamed, with a base backup in between, and ends
// when all is stored.
func (b *walBench) streamed(before, after func()) (id string) {
	b.t.Helper()
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	before()
	row, _ := b.physical(0)
	after()
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		b.t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	return row.ID
}

// sums are the hashes of all files below a folder.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			all[name] = fmt.Sprintf("%x", sha256.Sum256(readFile(t, name)))
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%s has %d files, %v", dir, len(all), err)
	}
	return all
}

// TestRestoreClusterOnEveryMajor: on the machine of the live server, with a tablespace from
// before the backup and one from after it, both moved, the cluster is that of the moment,
// and no file of the live server's tablespaces changes.
func TestRestoreClusterOnEveryMajor(t *testing.T) {
	testkit.OnlyAll(t, "three servers and two restores for each version")
	for _, major := range scratchtest.MajorsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newWALBench(t, major)
			early, late := b.serverFolder("tablespace-of-before"), b.serverFolder("tablespace-that-is-made-after")
			var want, position, name string
			b.streamed(func() {
				b.sql("CREATE TABLESPACE early LOCATION '" + early + "'")
				b.sql("CREATE TABLE in_early TABLESPACE early AS SELECT generate_series(1, 1000) AS n")
				b.sql("CREATE DATABASE beside TABLESPACE early")
			}, func() {
				b.sql("CREATE TABLESPACE late LOCATION '" + late + "'")
				b.sql("CREATE TABLE in_late TABLESPACE late AS SELECT generate_series(1, 2000) AS n")
				b.sql("INSERT INTO ledger SELECT g, repeat('z', 500) FROM generate_series(1, 3000) AS g")
				want, position = b.ask(ledgerSum), b.ask("SELECT pg_current_wal_lsn()::text")
				b.sql("INSERT INTO ledger VALUES (-1, 'too late')")
				b.sql("SELECT pg_create_restore_point('a point')")
				name = b.ask(ledgerSum)
				b.sql("TRUNCATE ledger")
				b.sql("CHECKPOINT")
			})
			c := b.restoring()
			for folder, target := range map[string][]string{"lsn": {"--to-lsn", position}, "name": {"--to-name", "a point"}} {
				b.sql("CHECKPOINT")
				before := maps.Clone(sums(t, early))
				maps.Copy(before, sums(t, late))
				// Without a place of its own it is refused: the paths are the live server's.
				_, r := c.restore(14, folder, target...)
				if !strings.Contains(r.stderr, "may belong to a live server") || !strings.Contains(r.stderr, "--tablespace") {
					t.Errorf("into the live tablespaces: %s", r.stderr)
				}
				port := c.port()
				place := filepath.Join(c.place, folder+"-t")
				_, r = c.restore(0, folder, append(target, "--tablespace", early+"="+place+"/early", "--tablespace", late+"="+place+"/l", "--start", "--start-port", port)...)
				if got, wanted := c.asks(port, ledgerSum), map[string]string{"lsn": want, "name": name}[folder]; got != wanted {
					t.Errorf("%s: the ledger is %s, want %s (%s)", folder, got, wanted, r.stdout)
				}
				if got := c.asks(port, "SELECT (SELECT count(*) FROM in_early) || ' ' || (SELECT count(*) FROM in_late)"); got != "1000 2000" {
					t.Errorf("%s: rows in tablespaces: %s", folder, got)
				}
				if got := c.asks(port, "SELECT string_agg(pg_tablespace_location(oid), ' ' ORDER BY spcname) FROM pg_tablespace WHERE spcname IN ('early', 'late')"); got != place+"/early "+place+"/l" {
					t.Errorf("%s: the tablespaces are at %s", folder, got)
				}
				c.asks(port, "WITH gone AS (DELETE FROM in_early RETURNING 1), more AS (DELETE FROM in_late RETURNING 1) SELECT (SELECT count(*) FROM gone)::text")
				after := maps.Clone(sums(t, early))
				maps.Copy(after, sums(t, late))
				if !maps.Equal(before, after) {
					t.Errorf("%s: the files of the live server have changed", folder)
				}
			}
		})
	}
}

// serve runs PostgreSQL on a restored folder to its end, or until it is open, and returns
// its log.
func (c *clusterBench) serve(folder string) (log string, opened bool) {
	c.t.Helper()
	dir := filepath.Join(c.place, folder)
	var out buffer
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(c.server.BinDir(), "postgres"), "-D", dir, "-p", c.port(), "-c", "log_min_messages=log", "-c", "lc_messages=C", "-c", "logging_collector=off")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.place, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: ownerOf(c.t, c.server.DataDir())}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // its log says why
	}()
	ready := func() bool { return strings.Contains(out.String(), "ready to accept connections") }
	testkit.Eventually(c.t, time.Minute, "the server is open, or has ended", func() bool {
		select {
		case <-done:
			return true
		default:
			return ready()
		}
	})
	opened = ready()
	_ = cmd.Process.Signal(syscall.SIGQUIT)
	<-done
	return out.String(), opened
}

// TestFetchFaults: whatever keeps pgmedic from giving PostgreSQL a file of WAL, the recovery
// stops with FATAL, and the server is never opened with what it has. When the cause is
// gone, it is started again and gets to the end.
func TestFetchFaults(t *testing.T) {
	testkit.OnlyAll(t, "a restore and two starts for each fault and version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newWALBench(t, major)
			b.streamed(func() {}, func() {
				b.sql("INSERT INTO ledger SELECT g, repeat('z', 500) FROM generate_series(1, 6000) AS g")
				b.sql("SELECT pg_switch_wal()")
				b.sql("INSERT INTO ledger VALUES (-1, 'last')")
			})
			c := b.restoring()
			for _, what := range slices.Sorted(maps.Keys(fetchFaults())) {
				t.Run(what, func(t *testing.T) {
					folder := strings.ReplaceAll(what, " ", "-")
					c.restore(0, folder, "--to-end")
					mend := fetchFaults()[what](t, c, filepath.Join(c.place, folder))
					log, opened := c.serve(folder)
					if opened || !strings.Contains(log, "FATAL") || strings.Contains(log, "archive recovery complete") || strings.Contains(log, "selected new timeline") {
						t.Errorf("opened: %t; its log: %s", opened, log)
					}
					if !regexp.MustCompile(`exit(ed with exit)? code 255`).MatchString(log) {
						t.Errorf("its log does not say 255: %s", log)
					}
					mend()
					if log, opened := c.serve(folder); !opened || !strings.Contains(log, "archive recovery complete") {
						t.Errorf("mended: opened: %t; its log: %s", opened, log)
					}
				})
			}
		})
	}
}

// fetchFaults are faults of a data folder and of what it is restored from. Each returns
// what mends it.
func fetchFaults() map[string]func(t *testing.T, c *clusterBench, dir string) (mend func()) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// object is a stored segment in the middle of the WAL.
	object := func(t *testing.T, c *clusterBench) string {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(c.store, "clinic", "@wal", "*", "*", "seg", "*", "*"))
		if err != nil || len(files) < 3 {
			t.Fatalf("segments %v, %v", files, err)
		}
		slices.SortFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
		return files[len(files)-2]
	}
	swap := func(t *testing.T, c *clusterBench, file string, text []byte) func() {
		t.Helper()
		was, info := readFile(t, file), ownerOf(t, file)
		mode, err := os.Stat(file)
		must(t, err)
		must(t, os.Remove(file))
		put := func(text []byte) {
			must(t, os.WriteFile(file, text, mode.Mode().Perm()))
			must(t, os.Chown(file, int(info.Uid), int(info.Gid)))
		}
		if text != nil {
			put(text)
		}
		return func() { _ = os.Remove(file); put(was) }
	}
	return map[string]func(t *testing.T, c *clusterBench, dir string) func(){
		"no store": func(t *testing.T, c *clusterBench, _ string) func() {
			must(t, os.Rename(c.store, c.store+"-away"))
			return func() { must(t, os.Rename(c.store+"-away", c.store)) }
		},
		"another key": func(t *testing.T, c *clusterBench, _ string) func() {
			other, err := age.GenerateX25519Identity()
			must(t, err)
			return swap(t, c, filepath.Join(c.tmp, "keys.txt"), []byte(other.String()+"\n"))
		},
		"a gap": func(t *testing.T, c *clusterBench, _ string) func() { return swap(t, c, object(t, c), nil) },
		"a cut segment": func(t *testing.T, c *clusterBench, _ string) func() {
			file := object(t, c)
			text := readFile(t, file)
			return swap(t, c, file, text[:len(text)/2])
		},
		"a changed segment": func(t *testing.T, c *clusterBench, _ string) func() {
			file := object(t, c)
			text := readFile(t, file)
			text[len(text)/2] ^= 1
			return swap(t, c, file, text)
		},
		"no room": func(t *testing.T, _ *clusterBench, dir string) func() {
			part := filepath.Join(dir, "pg_wal", "RECOVERYXLOG.pgmedic-part")
			must(t, os.MkdirAll(filepath.Join(part, "x"), 0o755)) // in the place of the file
			must(t, os.WriteFile(filepath.Join(dir, "pg_wal", ".pgmedic-prefetch"), nil, 0o600))
			return func() {
				must(t, os.RemoveAll(part))
				must(t, os.Remove(filepath.Join(dir, "pg_wal", ".pgmedic-prefetch")))
			}
		},
		"killed": func(t *testing.T, c *clusterBench, _ string) func() {
			return swap(t, c, c.program, []byte("#!/bin/sh\nkill -9 $$\n"))
		},
		"no plan": func(t *testing.T, c *clusterBench, dir string) func() {
			return swap(t, c, filepath.Join(dir, "pgmedic-recovery.json"), nil)
		},
		"a damaged plan": func(t *testing.T, c *clusterBench, dir string) func() {
			return swap(t, c, filepath.Join(dir, "pgmedic-recovery.json"), []byte("{}"))
		},
	}
}
