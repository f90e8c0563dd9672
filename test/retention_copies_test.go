package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestRetentionInCopies: each store has a policy of its own, a hold and a proof count in
// all of them, and no copy is made that its store would delete again.
func TestRetentionInCopies(t *testing.T) {
	t.Parallel()
	for name, start := range lockingPlaces() {
		t.Run(name, func(t *testing.T) {
			if name != "S3" {
				testkit.OnlyAll(t, "it takes long")
			}
			testRetentionInCopies(t, start(t))
		})
	}
}

func testRetentionInCopies(t *testing.T, place lockingPlace) {
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
	b.env = append(b.env, place.env...)
	configured := fmt.Sprintf(`
retention: {days: 30d, last: 1, grace: 0s}
copies:
  - name: cloud
    store: %s/clinic
    %s
    retention: {daily: 7d, last: 1, grace: 0s}
`, place.plain, place.access)
	file := filepath.Join(b.dir, "pgmedic.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newest, old := b.history(2, 4, 9, 11, 40)
	write(strings.ReplaceAll(configured, "daily: 7d", "days: 0"))
	b.ok("copy", "--all", "-q")
	if got := idsIn(b.ok("list", "-q", "--store", "cloud")); len(got) != 6 {
		t.Fatalf("the bucket has %q", got)
	}
	write(configured)

	// Proven here, it is kept there: the copy's own receipts know nothing of it.
	b.ok("drill", old[2], "-q")
	if testkit.All() && place.away != nil { // it waits for a server that is gone
		holdWithout(b, place, old[3])
	}
	b.ok("hold", old[3], "--reason", "as evidence", "--name", "legal")
	if !contains(place.objects(place.plain), old[3]+"/hold-legal.json") {
		t.Errorf("the bucket has %q", place.objects(place.plain))
	}

	b.ok("prune", "--yes", "--only", "backups", "--max-share", "100%")
	var done struct {
		Series []struct {
			Store     string
			Decisions []struct{ ID, Verdict string }
		}
		FreedBytes int64 `json:"freed_bytes"`
	}
	if err := json.Unmarshal([]byte(b.ok("prune", "--yes", "--only", "backups", "--json")), &done); err != nil {
		t.Fatal(err)
	}
	if len(done.Series) != 2 || done.FreedBytes <= 0 {
		t.Errorf("%+v", done)
	}
	for store, want := range map[string][]string{
		b.store: {newest, old[0], old[1], old[2], old[3]}, // 30 days
		"cloud": {newest, old[0], old[1], old[2], old[3]}, // 7 days, what is proven, and what is held
	} {
		slices.Sort(want)
		if got := idsIn(b.ok("list", "-q", "--store", store)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", store, got, want)
		}
		b.ok("verify", "--all", "--store", store)
	}
	for _, object := range place.objects(place.plain) {
		if strings.Contains(object, old[4]) || strings.Contains(object, "doomed.json") || strings.Contains(object, "pgmedic-clock") {
			t.Errorf("the bucket still has %s", object)
		}
	}

	// Released, it goes from the copy; copying everything does not bring it back there.
	b.ok("release", old[3])
	b.ok("prune", "--yes", "--only", "backups")
	b.ok("prune", "--yes", "--only", "backups")
	b.ok("copy", "--all", "-q")
	if got := idsIn(b.ok("list", "-q", "--store", "cloud")); slices.Contains(got, old[3]) || !slices.Contains(got, old[2]) {
		t.Errorf("the bucket has %q", got)
	}
	if got := idsIn(b.ok("list", "-q")); !slices.Contains(got, old[3]) {
		t.Errorf("the store has %q", got)
	}
}

// TestRestoreOfMarked: what is marked is held while it is restored, and a prune that
// runs meanwhile leaves it.
func TestRestoreOfMarked(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
	if err := os.WriteFile(filepath.Join(b.dir, "pgmedic.yaml"), []byte("retention: {days: 30, last: 1, grace: 0s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, old := b.history(40)
	b.ok("prune", "--yes", "--only", "backups")
	// One that was killed leaves its hold, which ends by itself.
	k := killing{point: "into-compared", args: []string{"restore", old[0], "--into"}}
	if r := b.at("kill", k); r.code != -1 {
		t.Fatalf("exit code %d\n%s", r.code, r.stderr)
	}
	b.program = ""
	if out := b.ok("prune", "--yes", "--only", "backups"); !strings.Contains(out, "unmarked  "+old[0]) || !strings.Contains(out, "a restore reads it, until ") {
		t.Errorf("it says\n%s", out)
	}
	holds, err := filepath.Glob(filepath.Join(folderOf(t, b.store, old[0]), "hold-in-use-*.json"))
	if err != nil || len(holds) != 1 {
		t.Fatalf("holds are %q", holds)
	}
	b.ok("release", old[0])
	b.ok("restore", old[0], "--into", b.database+"_copy2")
	if left, _ := filepath.Glob(filepath.Join(folderOf(t, b.store, old[0]), "hold-*")); len(left) > 0 {
		t.Errorf("holds are left: %q", left)
	}
}

// holdWithout holds a backup while one of its stores is away: it is held in the other
// one, and nothing is deleted meanwhile.
func holdWithout(b *bench, place lockingPlace, id string) {
	b.t.Helper()
	back := place.away()
	if r := b.run("hold", id, "--reason", "as evidence", "--name", "legal"); r.code != 15 || !strings.Contains(r.stderr, "not held in every store") {
		b.t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if r := b.run("prune", "--yes", "--only", "backups", "--max-share", "100%"); r.code != 12 || !strings.Contains(r.stdout, "nothing is deleted: store cloud can't be read") {
		b.t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	back()
}
