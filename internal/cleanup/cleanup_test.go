package cleanup_test

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic/internal/cleanup"
)

func noon() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

const day = 24 * time.Hour

// put makes a file that was last written to so long before noon.
func put(t *testing.T, path string, age time.Duration) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("synthetic\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := noon().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// tree lists the files below a folder.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func options(dir string) cleanup.Options {
	return cleanup.Options{
		Log: filepath.Join(dir, "logs", "pgmedic.log"), LogKeep: 30 * day, Reports: filepath.Join(dir, "reports"), ReportKeep: 30 * day,
		Stores: []string{filepath.Join(dir, "store"), filepath.Join(dir, "not-there")}, TempAge: day, TempDir: filepath.Join(dir, "tmp"), Now: noon,
	}
}

// here are the items of a plan below a folder, since a plan looks for throwaway servers
// in the machine's folders, too.
func here(dir string, items []cleanup.Item) []cleanup.Item {
	return slices.DeleteFunc(slices.Clone(items), func(i cleanup.Item) bool { return !strings.HasPrefix(i.Path, dir+string(filepath.Separator)) })
}

func TestCleanup(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	outside := filepath.Join(t.TempDir(), "precious")
	put(t, outside, 400*day)
	goes := []string{
		"logs/pgmedic.log.20260901T000000Z.gz", "logs/.pgmedic-tmp-77", "reports/performance_report_20260901T060000Z.txt",
		"reports/performance_report_20260801T060000Z.html", "reports/.pgmedic-tmp-1", "store/.pgmedic-tmp-2", "store/server/clinic/.pgmedic-tmp-3",
		"tmp/pgmedic-restore-123/list", "tmp/pgmedic-restore-123/owner", "tmp/pgmedic-backup-5/owner", "tmp/.pgmedic-restore-6/owner",
	}
	stays := []string{
		// The newest, whatever its age; the log itself; what is young; what others named.
		"logs/pgmedic.log", "logs/pgmedic.log.20261120T000000Z.gz", "logs/pgmedic.log.1", "logs/pgmedic.log.old", "logs/other.log.20260901T000000Z.gz", "logs/pgmedic.log.20260901T000000Z.gz.asc",
		"reports/performance_report_20261128T060000Z.txt", "reports/performance_report_20260901T060000Z.html", "reports/performance_report_20260901T060000Z.json", "reports/performance_report_20260901T060000Z.txt.bak", "reports/performance_report_latest.txt", "reports/notes.txt",
		"reports/sub/performance_report_20260101T060000Z.txt", "store/server/clinic/20260101/manifest.json", "store/x.pgmedic-tmp-4",
		"tmp/others-1/owner", "tmp/pgmedic-restore-file",
		// Folders of others, whose names only look like ours.
		"tmp/pgmedic-backup-old/owner", "tmp/pgmedic-restore-2026-11/owner", "tmp/x-pgmedic-backup-7/owner",
		"tmp/pgmedic-backup-20260101/backup.tar", "tmp/pgmedic-backup-8/owner/file", "tmp/pgmedic-restore-9/OWNER",
		"tmp/pgmedic-backup-10/owner", "tmp/pgmedic-backup-10/precious",
	}
	for _, name := range append(slices.Clone(goes), stays...) {
		put(t, filepath.Join(dir, name), 90*day)
	}
	for _, name := range []string{"reports/performance_report_20261128T060000Z.txt", "logs/pgmedic.log.20261120T000000Z.gz"} {
		put(t, filepath.Join(dir, name), day)
	}
	// Young, of a run that goes on, or not a file at all.
	put(t, filepath.Join(dir, "store/.pgmedic-tmp-young"), day-time.Minute)
	put(t, filepath.Join(dir, "reports/performance_report_20261030T130000Z.txt"), 90*day) // by its name it is younger
	put(t, filepath.Join(dir, "tmp/pgmedic-restore-77/owner"), 90*day)
	live, err := os.Open(filepath.Join(dir, "tmp/pgmedic-restore-77/owner"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	if err := unix.Flock(int(live.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"reports/performance_report_20260101T000000Z.txt", "store/.pgmedic-tmp-link", "logs/pgmedic.log.20260101T000000Z"} {
		if err := os.Symlink(outside, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "tmp/pgmedic-restore-link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "reports/performance_report_20260102T000000Z.txt"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"restore-123", "restore-77", "backup-5", "backup-old", "restore-2026-11"} {
		if err := os.Truncate(filepath.Join(dir, "tmp/pgmedic-"+name+"/owner"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "tmp/.pgmedic-restore-6/owner"), 0); err != nil {
		t.Fatal(err)
	}
	// However old a folder without an owner is.
	if err := os.Chtimes(filepath.Join(dir, "tmp/pgmedic-backup-20260101"), noon().Add(-90*day), noon().Add(-90*day)); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)

	o := options(dir)
	items, unread := cleanup.Plan(o)
	items = here(dir, items)
	if len(unread) > 0 {
		t.Errorf("unread %q", unread)
	}
	if after := tree(t, dir); !slices.Equal(after, before) {
		t.Error("a plan changed something")
	}
	cleanup.Apply(t.Context(), o, items)
	for _, i := range items {
		if i.Error != "" || i.Done != (i.Action != cleanup.Keep) || i.Reason == "" {
			t.Errorf("%+v", i)
		}
	}
	after := tree(t, dir)
	for _, name := range before {
		switch gone := !slices.Contains(after, name); {
		case gone && !slices.Contains(goes, name):
			t.Errorf("%s is gone", name)
		case !gone && slices.Contains(goes, name):
			t.Errorf("%s is still there", name)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("what a link led to is gone")
	}
	again, _ := cleanup.Plan(o)
	for _, i := range here(dir, again) {
		if i.Action != cleanup.Keep {
			t.Errorf("a second plan has %+v", i)
		}
	}
}

// TestUncompressed: a rotated log that stays is compressed.
func TestUncompressed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"logs/pgmedic.log.20261127T000000Z", "logs/pgmedic.log.20261128T000000Z", "logs/pgmedic.log.20260101T000000Z"} {
		put(t, filepath.Join(dir, name), 90*day)
	}
	o := options(dir)
	o.TempDir = ""
	items, _ := cleanup.Plan(o)
	cleanup.Apply(t.Context(), o, here(dir, items)) // of copies: the files are what counts
	want := []string{"logs/pgmedic.log.20261127T000000Z.gz", "logs/pgmedic.log.20261128T000000Z.gz"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestChangedMeanwhile: what is not any more what was planned stays.
func TestChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"written to": func(t *testing.T, path string) { put(t, path, 0) },
		"replaced": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			put(t, path+"x", 90*day)
			if err := os.Rename(path+"x", path); err != nil {
				t.Fatal(err)
			}
			at := noon()
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("elsewhere", path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "store", ".pgmedic-tmp-1")
			put(t, path, 90*day)
			o := options(dir)
			o.TempDir = ""
			items, _ := cleanup.Plan(o)
			items = here(dir, items)
			change(t, path)
			cleanup.Apply(t.Context(), o, items)
			if len(items) != 1 || items[0].Done || !strings.Contains(items[0].Error, "changed meanwhile") {
				t.Errorf("%+v", items)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestInterrupted deletes nothing more.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "store", ".pgmedic-tmp-1"), 90*day)
	o := options(dir)
	o.TempDir = ""
	items, _ := cleanup.Plan(o)
	items = here(dir, items)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cleanup.Apply(ctx, o, items)
	if len(items) != 1 || items[0].Done || items[0].Error == "" {
		t.Errorf("%+v", items)
	}
}

// TestUnread: a folder that is none is said.
func TestUnread(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "reports"), 0)
	o := options(dir)
	o.TempDir = ""
	if _, unread := cleanup.Plan(o); len(unread) == 0 || !strings.Contains(unread[0], "reports") {
		t.Errorf("%q", unread)
	}
}

// TestExpireProperties: whatever the ages are, the newest stays, nothing that is young
// or from the future goes, everything else goes, and nothing is lost or doubled.
func TestExpireProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 5)) // the same each time
	now := noon()
	for range 2000 {
		var items []cleanup.Item
		newest := time.Time{}
		for i := range random.IntN(8) {
			at := now.Add(-time.Duration(random.Int64N(int64(80*day))) + 10*day)
			if at.After(newest) {
				newest = at
			}
			items = append(items, cleanup.Item{Path: strconv.Itoa(i), ModifiedAt: at})
		}
		keep := time.Duration(random.IntN(40)) * day
		got := cleanup.Expire(items, keep, now)
		if len(got) != len(items) {
			t.Fatalf("%d of %d items", len(got), len(items))
		}
		seen := map[string]bool{}
		for i, item := range got {
			age := now.Sub(item.ModifiedAt)
			goes := keep > 0 && age > keep && !item.ModifiedAt.Equal(newest)
			if goes != (item.Action == cleanup.Delete) || seen[item.Path] || i > 0 && item.ModifiedAt.Before(got[i-1].ModifiedAt) {
				t.Fatalf("keep %s: %+v of %+v", keep, item, got)
			}
			seen[item.Path] = true
		}
	}
}

func TestReportName(t *testing.T) {
	at := noon()
	for _, extension := range []string{"txt", "html", "json", "prom"} {
		if got, ok := cleanup.ReportTime(cleanup.ReportName(at, extension)); !ok || !got.Equal(at) {
			t.Errorf("%s: %v %t", extension, got, ok)
		}
	}
	for _, name := range []string{"performance_report_20261129T120000Z", "performance_report_20261129T120000Z.exe", "performance_report_2026.txt", "x_performance_report_20261129T120000Z.txt", "performance_report_20261129T120000Z.txt.txt"} {
		if _, ok := cleanup.ReportTime(name); ok {
			t.Errorf("%s is taken for a report", name)
		}
	}
}

// TestScratch: the folder of a throwaway server goes if its run is dead, and that alone.
func TestScratch(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"pgmedic-scratch-1/owner", "pgmedic-scratch-2/owner", "scratch-3/owner"} {
		put(t, filepath.Join(dir, name), 0)
	}
	live, err := os.Open(filepath.Join(dir, "pgmedic-scratch-2/owner"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	if err := unix.Flock(int(live.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	o := cleanup.Options{ScratchDirs: []string{dir, dir}, Now: noon}
	items, _ := cleanup.Plan(o)
	items = here(dir, items)
	cleanup.Apply(t.Context(), o, items)
	if len(items) != 1 || !items[0].Done || items[0].Kind != cleanup.Scratch {
		t.Errorf("%+v", items)
	}
	if got := tree(t, dir); !slices.Equal(got, []string{"pgmedic-scratch-2/owner", "scratch-3/owner"}) {
		t.Errorf("%q", got)
	}
}
