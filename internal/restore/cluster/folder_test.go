package cluster_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// sample is a backup of files that no server made, and its restore.
type sample struct {
	t       *testing.T
	files   map[string][]byte
	options cluster.Options
	stored  string
}

// sampleFiles are those of a small cluster: some empty, some with holes, some of many
// chunks.
func sampleFiles() map[string][]byte {
	control := binary.NativeEndian.AppendUint64(nil, 4711)
	large := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	holes := slices.Concat(make([]byte, physical.HoleBytes), large[:physical.HoleBytes/2], make([]byte, physical.HoleBytes/2), make([]byte, physical.HoleBytes))
	return map[string][]byte{
		"PG_VERSION": []byte("15\n"), "backup_label": []byte("label"), "postgresql.conf": []byte("port = 5432\nrecovery_target_time = '2020-01-01'\n"),
		"postgresql.auto.conf": []byte("work_mem = '5MB'\n"), "base/5/1": large, "base/5/2": nil, "base/5/3": holes, "base/5/PG_VERSION": []byte("15\n"),
		"base/5/4": []byte("four"), "global/1": large[:9000], "global/pg_control": slices.Concat(control, make([]byte, 8184)), "pg_tblspc/16395/PG_15/5/9": []byte("nine"),
		"standby.signal": nil, "tablespace_map": []byte("16395 /elsewhere\n"),
	}
}

func newSample(t *testing.T, files map[string][]byte, folders ...string) *sample {
	t.Helper()
	s := &sample{t: t, files: files, stored: filepath.Join(t.TempDir(), "store")}
	local, err := store.NewLocal(store.LocalOptions{Dir: s.stored})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	backup := &pgmedic.Backup{
		ID: catalog.NewID(now), StartedAt: now, Seal: pgmedic.Seal{Compression: "zstd", Encryption: "none"},
		Server: pgmedic.Server{Name: "clinic", SystemIdentifier: "4711"}, Physical: &pgmedic.Physical{Tablespaces: []pgmedic.Tablespace{{OID: 16395, Location: "/elsewhere"}}},
	}
	packer := newPacker(t, backup)
	for _, folder := range append([]string{"pg_wal", "pg_wal/archive_status", "base", "global"}, folders...) {
		packer.file(physical.File{Path: folder, Kind: physical.KindFolder, Mode: 0o700})
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		packer.add(strings.TrimSuffix(name, "#"), files[name])
	}
	packer.close(local)
	start := wal.LSN(5)<<20 + 0x28
	s.options = cluster.Options{
		Source: physical.Source{Store: local, Backup: backup}, Dir: filepath.Join(t.TempDir(), "data"), Jobs: 2, RestoreCommand: "restore '%f'",
		Plan: &recovery.Plan{
			Format: recovery.PlanFormat, Backup: backup.ID, Server: "clinic", SystemIdentifier: "4711", Major: 15, SegmentBytes: 1 << 20, Through: start + 0x200,
			WAL:         wal.Plan{Base: wal.Base{Timeline: 1, Start: start, Stop: start + 0x100}, Timeline: 1, Stop: wal.StopAtLSN, LSN: start + 0x180, End: start + 0x200},
			Tablespaces: []recovery.Tablespace{{OID: 16395, From: "/elsewhere", To: filepath.Join(t.TempDir(), "apart")}},
		},
	}
	return s
}

func (s *sample) restore() (cluster.Done, error) { return cluster.Restore(s.t.Context(), s.options) }

// startable reports whether PostgreSQL would start the folder.
func (s *sample) startable() bool {
	_, err := os.Lstat(filepath.Join(s.options.Dir, "global/pg_control"))
	return err == nil
}

// tree returns what is in the folder: contents of files, targets of links, and folders.
func (s *sample) tree() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	for _, dir := range []string{s.options.Dir, s.options.Plan.Tablespaces[0].To} {
		err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(dir, name)
			if err != nil {
				return err
			}
			relative = filepath.Join(map[bool]string{false: "apart"}[dir == s.options.Dir], relative)
			info, err := entry.Info()
			switch {
			case err != nil:
				return err
			case entry.IsDir():
				all[relative] = "folder " + info.Mode().Perm().String()
			case entry.Type()&fs.ModeSymlink != 0:
				to, err := os.Readlink(name)
				all[relative] = "link " + to
				return err
			default:
				text, err := os.ReadFile(name)
				all[relative] = info.Mode().Perm().String() + " " + string(text)
				return err
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return all
}

// TestFiles: each file is there with its content, for the owner alone, links lead where
// the plan says, and the settings are those of a recovery.
func TestFiles(t *testing.T) {
	s := newSample(t, sampleFiles())
	done, err := s.restore()
	if err != nil {
		t.Fatal(err)
	}
	got := s.tree()
	for name, text := range s.files {
		at := strings.Replace(name, "pg_tblspc/16395/", "apart/", 1)
		switch name {
		case "standby.signal":
			if _, there := got[at]; there {
				t.Error("it would be a standby")
			}
		case "postgresql.conf", "postgresql.auto.conf", "tablespace_map":
		default:
			if got[at] != "-rw------- "+string(text) {
				t.Errorf("%s has %d bytes, and %.40q", name, len(got[at])-11, got[at])
			}
		}
	}
	apart := s.options.Plan.Tablespaces[0].To
	for name, want := range map[string]string{
		"pg_tblspc/16395": "link " + apart, "tablespace_map": "-rw------- 16395 " + apart + "\n", "recovery.signal": "-rw------- ", ".": "folder -rwx------",
		"postgresql.conf": "-rw------- port = 5432\n# pgmedic: recovery_target_time = '2020-01-01'\n", "pg_wal/archive_status": "folder -rwx------",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, want := range []string{
		"work_mem = '5MB'\n", "restore_command = 'restore ''%f'''\n", "recovery_target_lsn = '0/5001A8'\n", "recovery_target_inclusive = 'on'\n", "recovery_target_timeline = '1'\n",
		"archive_mode = 'off'\n", "primary_conninfo = ''\n", "primary_slot_name = ''\n",
	} {
		if !strings.Contains(got["postgresql.auto.conf"], want) {
			t.Errorf("postgresql.auto.conf lacks %q: %s", want, got["postgresql.auto.conf"])
		}
	}
	for name := range got {
		if strings.Contains(name, "pgmedic-part") {
			t.Errorf("%s was left", name)
		}
	}
	if done.KeptBytes != 0 || done.Files == 0 || !done.Configured {
		t.Errorf("%+v", done)
	}
	if p, err := recovery.Read(filepath.Join(s.options.Dir, recovery.FileName)); err != nil || p.Backup != s.options.Plan.Backup {
		t.Errorf("the plan: %v, %v", p, err)
	}
	info, err := os.Stat(filepath.Join(s.options.Dir, "base/5/3"))
	if err != nil || info.Size() != 3*physical.HoleBytes {
		t.Errorf("the file with holes: %v, %v", info, err)
	}
}

// TestFoldersRefused: what must not be written to is refused, and stays as it is.
func TestFoldersRefused(t *testing.T) {
	write := func(t *testing.T, file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	control := string(binary.NativeEndian.AppendUint64(nil, 4711))
	for what, c := range map[string]struct {
		set  func(t *testing.T, o *cluster.Options)
		says string
	}{
		"a folder of something else": {func(t *testing.T, o *cluster.Options) { write(t, o.Dir+"/letter", "dear") }, "is not a data folder"},
		"a cluster":                  {func(t *testing.T, o *cluster.Options) { write(t, o.Dir+"/global/pg_control", control) }, "is the data folder of a cluster"},
		"another cluster, as delta": {func(t *testing.T, o *cluster.Options) {
			o.Delta = true
			write(t, o.Dir+"/global/pg_control", "\x01"+control[1:])
		}, "has the cluster with system identifier"},
		"a running server": {func(t *testing.T, o *cluster.Options) {
			o.Delta = true
			write(t, o.Dir+"/global/pg_control", control)
			write(t, o.Dir+"/postmaster.pid", fmt.Sprintln(os.Getpid()))
		}, "a server runs in"},
		"perhaps a running server": {func(t *testing.T, o *cluster.Options) {
			o.Delta = true
			write(t, o.Dir+"/global/pg_control", control)
			write(t, o.Dir+"/postmaster.pid", "")
		}, "is not readable"},
		"an unfinished restore": {func(t *testing.T, o *cluster.Options) { write(t, o.Dir+"/"+recovery.FileName, "{}") }, "has an unfinished restore"},
		"an unfinished restore of something": {func(t *testing.T, o *cluster.Options) {
			o.Delta = true
			write(t, o.Dir+"/"+recovery.FileName, "{}")
		}, "not known what it is"},
		"a folder within a cluster": {func(t *testing.T, o *cluster.Options) {
			write(t, o.Dir+"/PG_VERSION", "15")
			o.Dir += "/inner"
		}, "is within"},
		"a live tablespace":     {func(t *testing.T, o *cluster.Options) { write(t, o.Plan.Tablespaces[0].To+"/PG_15/5/9", "live") }, "may belong to a live server"},
		"WAL of something else": {func(t *testing.T, o *cluster.Options) { o.WALDir = o.Dir + "-wal"; write(t, o.WALDir+"/x", "wal") }, "may belong to a live server"},
		"WAL within the data":   {func(_ *testing.T, o *cluster.Options) { o.WALDir = o.Dir + "/pg_wal" }, "or the same folder"},
		"WAL within the data, by a link": {func(t *testing.T, o *cluster.Options) {
			link := o.Dir + "-link"
			if err := errors.Join(os.MkdirAll(o.Dir, 0o700), os.Symlink(o.Dir, link)); err != nil {
				t.Fatal(err)
			}
			o.WALDir = link + "/inner"
		}, "or the same folder"},
		"a link within a cluster": {func(t *testing.T, o *cluster.Options) {
			write(t, o.Dir+"/PG_VERSION", "15")
			if err := os.Symlink(t.TempDir(), o.Dir+"/pg_wal"); err != nil {
				t.Fatal(err)
			}
			o.Dir += "/pg_wal"
		}, "is within"},
		"a link into a cluster": {func(t *testing.T, o *cluster.Options) {
			write(t, o.Dir+"/PG_VERSION", "15")
			link := o.Dir + "-link"
			if err := os.Symlink(o.Dir, link); err != nil {
				t.Fatal(err)
			}
			o.WALDir, o.Dir = link+"/inner", o.Dir+"-other"
		}, "is within"},
		"a file":            {func(t *testing.T, o *cluster.Options) { write(t, o.Dir, "file") }, "is not a folder"},
		"a relative folder": {func(_ *testing.T, o *cluster.Options) { o.Dir = "data" }, "can't be a folder of a cluster"},
		"the root":          {func(_ *testing.T, o *cluster.Options) { o.Dir = "/" }, "can't be a folder of a cluster"},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSample(t, sampleFiles())
			c.set(t, &s.options)
			before := listOf(t, filepath.Dir(s.options.Dir), s.options.Plan.Tablespaces[0].To)
			_, err := s.restore()
			if err == nil || !strings.Contains(err.Error(), c.says) || pgmedic.HintOf(err) == "" {
				t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
			}
			if after := listOf(t, filepath.Dir(s.options.Dir), s.options.Plan.Tablespaces[0].To); !slices.Equal(before, after) {
				t.Errorf("there was %v, and there is %v", before, after)
			}
		})
	}
}

// TestFolderNotMakeable: that a folder can't be made is said by the check, and not by the
// restore alone.
func TestFolderNotMakeable(t *testing.T) {
	if os.Geteuid() == 0 {
		testkit.Elsewhere(t, "root may write to each folder")
	}
	s := newSample(t, sampleFiles())
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	s.options.Dir = filepath.Join(closed, "not", "there")
	_, err := cluster.Check(t.Context(), s.options)
	if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "can't make") || pgmedic.HintOf(err) == "" {
		t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
	}
}

// listOf lists what is below folders. Those that the whole machine uses are left out.
func listOf(t *testing.T, dirs ...string) (names []string) {
	t.Helper()
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) || dir == "/" {
			continue
		}
		_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				text, _ := os.ReadFile(name)
				name += string(text)
			}
			names = append(names, name)
			return nil
		})
	}
	return names
}

// TestHostileLists: a list that names a file twice, or one in the place of another, makes
// nothing outside of the folder, and nothing that could be started.
func TestHostileLists(t *testing.T) {
	for what, c := range map[string]struct {
		files   map[string][]byte
		folders []string
	}{
		"a file twice":                {files: map[string][]byte{"base/5/4#": []byte("other")}},
		"a file that is a folder":     {folders: []string{"base/5/4"}},
		"a folder that is a file":     {files: map[string][]byte{"base": []byte("file")}},
		"a file below a file":         {files: map[string][]byte{"base/5/4/5": []byte("x")}},
		"a tablespace that is a file": {files: map[string][]byte{"pg_tblspc/16395": []byte("x")}},
		"a line in a name":            {files: map[string][]byte{"base/5/4\n5": []byte("x")}},
		"no pg_control":               {files: map[string][]byte{"global/pg_control": nil}},
	} {
		files := sampleFiles()
		for name, text := range c.files {
			if files[name] = text; name == "global/pg_control" {
				delete(files, name)
			}
		}
		s := newSample(t, files, c.folders...)
		_, err := s.restore()
		if pgmedic.KindOf(err) != pgmedic.KindIntegrity && !errors.Is(err, fs.ErrExist) && err == nil {
			t.Errorf("%s: %v", what, err)
		}
		if s.startable() {
			t.Errorf("%s: it can be started", what)
		}
	}
}

// TestDamaged: whichever object is damaged, and however, the folder can't be started.
func TestDamaged(t *testing.T) {
	damages := map[string]func(text []byte) []byte{
		"flipped": func(text []byte) []byte { // single bytes: TestDamagedAnywhere
			for i := len(text) / 2; i < len(text); i++ {
				text[i] ^= 1
			}
			return text
		},
		"cut":     func(text []byte) []byte { return text[:len(text)/2] },
		"empty":   func([]byte) []byte { return nil },
		"longer":  func(text []byte) []byte { return append(text, 0) },
		"removed": nil,
	}
	for _, object := range []string{"pack-0001", "files.ndjson.zst"} {
		for what, damage := range damages {
			s := newSample(t, sampleFiles())
			file := filepath.Join(s.stored, filepath.FromSlash(catalog.Key(s.options.Source.Backup, object)))
			text, err := os.ReadFile(file)
			if err == nil {
				err = os.Remove(file)
			}
			if err == nil && damage != nil {
				err = os.WriteFile(file, damage(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.restore()
			// What is behind the last chunk of a pack belongs to nothing.
			if object == "pack-0001" && what == "longer" {
				continue
			}
			if err == nil || s.startable() {
				t.Errorf("%s %s: %v, and it can be started: %t", object, what, err, s.startable())
			}
		}
	}
	// Two objects of backups in each other's place.
	s, other := newSample(t, sampleFiles()), newSample(t, map[string][]byte{"global/pg_control": []byte("x"), "backup_label": nil, "PG_VERSION": nil})
	from := filepath.Join(other.stored, filepath.FromSlash(catalog.Key(other.options.Source.Backup, "files.ndjson.zst")))
	to := filepath.Join(s.stored, filepath.FromSlash(catalog.Key(s.options.Source.Backup, "files.ndjson.zst")))
	if err := errors.Join(os.Remove(to), os.Rename(from, to)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.restore(); err == nil || s.startable() {
		t.Errorf("the list of another backup: %v", err)
	}
}

// TestDamagedAnywhere: whichever byte of a pack is wrong, the folder can't be started, or the
// files are right all the same: some bits of a frame decide nothing.
func TestDamagedAnywhere(t *testing.T) {
	right := newSample(t, sampleFiles())
	if _, err := right.restore(); err != nil {
		t.Fatal(err)
	}
	want, refused := right.tree(), 0
	pack, err := os.ReadFile(filepath.Join(right.stored, filepath.FromSlash(catalog.Key(right.options.Source.Backup, "pack-0001"))))
	if err != nil {
		t.Fatal(err)
	}
	step := max(1, len(pack)/testkit.Amount(60, 2_000, 2_000))
	for at := 0; at < len(pack); at += step {
		s := newSample(t, sampleFiles())
		file := filepath.Join(s.stored, filepath.FromSlash(catalog.Key(s.options.Source.Backup, "pack-0001")))
		bad := bytes.Clone(pack)
		bad[at] ^= 0x10
		if err := errors.Join(os.Remove(file), os.WriteFile(file, bad, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := s.restore()
		switch {
		case err != nil:
			if refused++; pgmedic.KindOf(err) != pgmedic.KindIntegrity || s.startable() {
				t.Errorf("byte %d: %v, and it can be started: %t", at, err, s.startable())
			}
		case !reflect.DeepEqual(contents(s.tree()), contents(want)):
			t.Errorf("byte %d is wrong, and other files were restored without an error", at)
		}
	}
	if refused == 0 {
		t.Error("no wrong byte was noticed")
	}
}

// contents are those files of a tree that a backup has, and the restore does not write itself.
func contents(tree map[string]string) map[string]string {
	had := map[string]string{}
	for name := range sampleFiles() {
		if text, ok := tree[filepath.FromSlash(name)]; ok && !slices.Contains([]string{"postgresql.conf", "postgresql.auto.conf", "tablespace_map"}, name) {
			had[name] = text
		}
	}
	return had
}

// TestInterrupted: interrupted anywhere, the folder can't be started, a second run says
// what to do, and --delta completes it.
func TestInterrupted(t *testing.T) {
	for n := range testkit.Amount(3, 30, 200) {
		s := newSample(t, sampleFiles())
		ctx, cancel := context.WithCancel(t.Context())
		var opens atomic.Int64
		s.options.Source.Store = &interrupting{s.options.Source.Store, func() {
			if opens.Add(1) > int64(n+1) {
				cancel()
			}
		}}
		_, err := cluster.Restore(ctx, s.options)
		cancel()
		if err == nil {
			break // it was done before
		}
		if s.startable() {
			t.Fatalf("interrupted after %d: it can be started", n)
		}
		s.options.Source.Store = s.options.Source.Store.(*interrupting).Store
		if _, err := os.Stat(s.options.Dir); err == nil {
			if _, err := s.restore(); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(pgmedic.HintOf(err), "--delta") {
				t.Errorf("interrupted after %d, and again: %v (%s)", n, err, pgmedic.HintOf(err))
			}
		}
		s.options.Delta = true
		if _, err := s.restore(); err != nil {
			t.Fatalf("interrupted after %d, and completed: %v (%s)", n, err, pgmedic.HintOf(err))
		}
		s.wantFresh()
	}
}

// interrupting calls a function before each object is opened.
type interrupting struct {
	store.Store
	open func()
}

func (s *interrupting) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.open()
	return s.Store.Open(ctx, key, offset, length)
}

// wantFresh compares the folder with that of a restore into an empty one.
func (s *sample) wantFresh() {
	s.t.Helper()
	fresh := *s
	fresh.options.Dir = filepath.Join(s.t.TempDir(), "data")
	plan := *s.options.Plan
	plan.Tablespaces = slices.Clone(plan.Tablespaces)
	plan.Tablespaces[0].To = filepath.Join(s.t.TempDir(), "apart")
	fresh.options.Plan, fresh.options.Delta = &plan, false
	if _, err := fresh.restore(); err != nil {
		s.t.Fatal(err)
	}
	want, got := fresh.tree(), s.tree()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if strings.HasPrefix(name, "pg_tblspc/") || name == "tablespace_map" || name == recovery.FileName {
			continue // which have the paths
		}
		if got[name] != want[name] {
			s.t.Errorf("%s is %.60q, want %.60q", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, wanted := want[name]; !wanted {
			s.t.Errorf("%s was left", name)
		}
	}
}

// TestDelta: whatever became of a folder, a delta restore makes it that of a fresh one, and
// reads what differs alone.
func TestDelta(t *testing.T) {
	for what, change := range testkit.Some(t, 5, map[string]func(t *testing.T, s *sample, dir string) error{
		"nothing":        func(*testing.T, *sample, string) error { return nil },
		"a changed byte": func(_ *testing.T, _ *sample, dir string) error { return overwrite(dir+"/base/5/1", 400_000, "X") },
		"a cut file":     func(_ *testing.T, _ *sample, dir string) error { return os.Truncate(dir+"/base/5/1", 100) },
		"a longer file":  func(_ *testing.T, _ *sample, dir string) error { return os.Truncate(dir+"/base/5/4", 100_000) },
		"a filled hole":  func(_ *testing.T, _ *sample, dir string) error { return overwrite(dir+"/base/5/3", 10, "X") },
		"a missing file": func(_ *testing.T, _ *sample, dir string) error { return os.Remove(dir + "/base/5/1") },
		"foreign files": func(_ *testing.T, _ *sample, dir string) error {
			return errors.Join(os.MkdirAll(dir+"/base/6/x", 0o700), os.WriteFile(dir+"/base/6/x/1", []byte("x"), 0o600),
				os.WriteFile(dir+"/pg_wal/000000010000000000000001", []byte("old"), 0o600), os.WriteFile(dir+"/standby.signal", nil, 0o600))
		},
		"a dead server": func(_ *testing.T, _ *sample, dir string) error {
			return os.WriteFile(dir+"/postmaster.pid", []byte("999999999\n"), 0o600)
		},
		"a link in place of a file": func(t *testing.T, _ *sample, dir string) error {
			outside := filepath.Join(t.TempDir(), "outside")
			t.Cleanup(func() {
				if text, err := os.ReadFile(outside); string(text) != "mine" {
					t.Errorf("the file behind the link is %.20q, %v", text, err)
				}
			})
			return errors.Join(os.WriteFile(outside, []byte("mine"), 0o600), os.Remove(dir+"/base/5/1"), os.Symlink(outside, dir+"/base/5/1"))
		},
		"a second name of a file": func(t *testing.T, _ *sample, dir string) error {
			outside := filepath.Join(t.TempDir(), "outside")
			t.Cleanup(func() {
				if text, err := os.ReadFile(outside); string(text) != "mine" {
					t.Errorf("the file with two names is %.20q, %v", text, err)
				}
			})
			return errors.Join(os.WriteFile(outside, []byte("mine"), 0o600), os.Remove(dir+"/base/5/4"), os.Link(outside, dir+"/base/5/4"))
		},
		"a folder in place of a file": func(_ *testing.T, _ *sample, dir string) error {
			return errors.Join(os.Remove(dir+"/base/5/1"), os.MkdirAll(dir+"/base/5/1/2", 0o700))
		},
		"a file in place of a folder": func(_ *testing.T, _ *sample, dir string) error {
			return errors.Join(os.RemoveAll(dir+"/base/5"), os.WriteFile(dir+"/base/5", []byte("x"), 0o600))
		},
		"WAL that is elsewhere": func(t *testing.T, _ *sample, dir string) error {
			return errors.Join(os.RemoveAll(dir+"/pg_wal"), os.Symlink(t.TempDir(), dir+"/pg_wal"))
		},
		"no pg_control": func(_ *testing.T, _ *sample, dir string) error { return os.Remove(dir + "/global/pg_control") },
		"other modes":   func(_ *testing.T, _ *sample, dir string) error { return os.Chmod(dir+"/base/5/4", 0o644) },
		"a changed tablespace": func(_ *testing.T, s *sample, _ string) error {
			to := s.options.Plan.Tablespaces[0].To
			return errors.Join(overwrite(to+"/PG_15/5/9", 1, "X"), os.WriteFile(to+"/PG_15/5/10", nil, 0o600))
		},
	}) {
		t.Run(what, func(t *testing.T) {
			s := newSample(t, sampleFiles())
			if _, err := s.restore(); err != nil {
				t.Fatal(err)
			}
			if err := change(t, s, s.options.Dir); err != nil {
				t.Fatal(err)
			}
			s.options.Delta = true
			before := listOf(t, s.options.Dir)
			preview, err := cluster.Check(t.Context(), s.options)
			if err != nil {
				t.Fatalf("%v (%s)", err, pgmedic.HintOf(err))
			}
			if after := listOf(t, s.options.Dir); !slices.Equal(before, after) {
				t.Error("the check changed something")
			}
			done, err := s.restore()
			if err != nil {
				t.Fatalf("%v (%s)", err, pgmedic.HintOf(err))
			}
			if what == "nothing" && (done.FetchedBytes > 2*chunkBytes || preview.Deletions != 0) {
				t.Errorf("%+v", done)
			}
			if what == "foreign files" && !slices.Equal(preview.Delete, []string{"base/6", "pg_wal/000000010000000000000001"}) {
				t.Errorf("it would delete %v", preview.Delete)
			}
			s.wantFresh()
		})
	}
}

func overwrite(file string, at int64, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), at)
	return errors.Join(err, f.Close())
}
