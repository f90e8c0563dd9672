package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// The clinic of a kill has so many visits: as backed up, and live.
const backedUp, alive = "500", "510"

// killing is a named place in the program, and how it comes to be there.
type killing struct {
	point string
	args  []string
	// rolling is true where a swap comes before.
	rolling bool
	// swapped is true where the other database is live once the program has died
	// there, ready where a copy is left that can be swapped in.
	swapped, ready bool
	// quick is true for those that every make test has; the others are for make
	// test-all.
	quick bool
	// times is how often it is killed there at most: ten where what the server does
	// meanwhile may differ.
	times int
}

func killings() []killing {
	swap := []string{"restore", "latest", "--swap", "--yes"}
	into := []string{"restore", "latest", "--into"}
	back := []string{"rollback"}
	return []killing{
		{point: "backup-locked", args: []string{"backup"}},
		{point: "backup-stored", args: []string{"backup"}},
		{point: "backup-before-commit", args: []string{"backup"}, quick: true},
		{point: "backup-committed", args: []string{"backup"}},
		{point: "drill-started", args: []string{"drill", "latest"}},
		{point: "drill-compared", args: []string{"drill", "latest"}},
		{point: "into-compared", args: into},
		{point: "restore-created", args: into},
		{point: "restore-created", args: swap},
		{point: "restore-named", args: swap},
		{point: "restore-loaded", args: swap},
		{point: "restore-analyzed", args: swap},
		{point: "restore-properties", args: swap},
		{point: "restore-compared", args: swap},
		{point: "restore-ready", args: swap, ready: true},
		{point: "restore-backed-up", args: swap, ready: true},
		{point: "swap-begun", args: swap, ready: true, times: 10},
		{point: "swap-renamed-first", args: swap, ready: true, times: 10},
		{point: "swap-before-commit", args: swap, ready: true, quick: true, times: 10},
		{point: "swap-committed", args: swap, swapped: true, quick: true, times: 10},
		{point: "restore-before-receipt", args: swap, swapped: true},
		{point: "rollback-confirmed", args: back, rolling: true},
		{point: "swap-begun", args: back, rolling: true, times: 10},
		{point: "swap-renamed-first", args: back, rolling: true, times: 10},
		{point: "swap-before-commit", args: back, rolling: true, quick: true, times: 10},
		{point: "swap-committed", args: back, rolling: true, swapped: true, times: 10},
	}
}

// mortal is the program built with the places at which it can be killed.
func mortal(t *testing.T) string {
	t.Helper()
	path, err := buildMortal()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildMortal = sync.OnceValues(func() (string, error) {
	path := binary + "-failpoint"
	out, err := exec.Command("go", "build", "-tags", "failpoint", "-o", path, "../cmd/pgmedic").CombinedOutput()
	if err != nil {
		return "", &os.PathError{Op: "build", Path: string(out), Err: err}
	}
	return path, nil
})

// prepareKill gives the bench a backup, ten visits since, and where asked for a
// swap that has brought the backup back. It returns the role of its sessions.
func (b *bench) prepareKill(k killing) (role string) {
	b.t.Helper()
	role = b.asRole()
	b.backup()
	mustExec(b.t, b.database, "INSERT INTO public.visits SELECT generate_series(1, 10)")
	if k.rolling {
		b.ok("restore", "latest", "--swap", "--yes")
	}
	return role
}

func (b *bench) arguments(k killing) []string {
	switch {
	case k.rolling:
		return []string{"rollback", b.database, "--yes"}
	case slices.Contains(k.args, "--into"):
		return append(slices.Clone(k.args), b.database+"_copy")
	}
	return k.args
}

// at runs the program to a named place and returns when it has ended there.
func (b *bench) at(how string, k killing) result {
	b.t.Helper()
	b.program = mortal(b.t)
	env := b.env
	b.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT="+how+":"+k.point)
	r := b.run(b.arguments(k)...)
	b.env = env
	return r
}

// settle waits until the server has noticed that the program is gone.
func (b *bench) settle(role string) {
	b.t.Helper()
	testkit.Eventually(b.t, time.Minute, "the children have ended", func() bool { return len(b.processes()) == 0 })
	testkit.Eventually(b.t, time.Minute, "the sessions have ended", func() bool {
		return len(query(b.t, "postgres", "SELECT 'x' FROM pg_stat_activity WHERE usename = $1", role)) == 0
	})
}

// TestKillAtEveryPoint kills the program with SIGKILL at its named places. The
// old or the new database is live with its rows, no half backup is listed, and
// the next run mends the rest.
func TestKillAtEveryPoint(t *testing.T) {
	for _, k := range killings() {
		if !testkit.All() && !k.quick {
			continue
		}
		times := min(testkit.Amount(1, 1, 10), max(k.times, 1))
		t.Run(k.args[0]+" "+k.point, func(t *testing.T) {
			t.Parallel()
			for range times {
				t.Run("", func(t *testing.T) { killOnce(t, k) })
			}
		})
	}
	t.Run("prune", killPrunes)
}

func killOnce(t *testing.T, k killing) {
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
	role := b.prepareKill(k)
	backups := len(b.manifests())
	b.dies(k, role)
	b.mends(k, backups)
}

// dies kills the program at a named place, and looks at the live database.
func (b *bench) dies(k killing, role string) {
	t := b.t
	t.Helper()
	if r := b.at("kill", k); r.code != -1 {
		t.Fatalf("exit code %d instead of death\n%s", r.code, r.stderr)
	}
	want := alive
	if k.rolling != k.swapped {
		want = backedUp
	}
	// At once, with no time for anyone to mend anything.
	if got := b.visits(); got != want {
		t.Errorf("the live database has %s visits, want %s", got, want)
	}
	b.settle(role)
	if got := b.visits(); got != want {
		t.Errorf("then the live database has %s visits, want %s", got, want)
	}
}

// mends has the next runs mend what a death left; so many backups there were.
func (b *bench) mends(k killing, backups int) {
	t := b.t
	t.Helper()
	switch k.args[0] {
	case "backup":
		if k.point == "backup-committed" {
			backups++
		}
		if got := strings.Fields(b.ok("list", "-q")); len(got) != backups || len(b.manifests()) != backups {
			t.Errorf("%d backups are listed, want %d", len(got), backups)
		}
		b.ok("backup")
		b.ok("verify", "--all")
	case "drill":
		b.ok("drill", "latest")
	case "rollback":
		b.mendRollback(k)
	default:
		b.mendRestore(k)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
}

// mendRollback runs the rollback again: from either side it leads to the other.
func (b *bench) mendRollback(k killing) {
	b.t.Helper()
	want := alive
	if k.swapped {
		want = backedUp
	}
	b.ok("rollback", b.database, "--yes")
	if got := b.visits(); got != want {
		b.t.Errorf("rolled back: %s visits, want %s", got, want)
	}
	if left := databasesOf(b.t, b.database); len(left) != 2 {
		b.t.Errorf("databases are %q", left)
	}
}

func (b *bench) mendRestore(k killing) {
	t := b.t
	t.Helper()
	if slices.Contains(k.args, "--into") {
		copied := b.database + "_copy"
		if k.point == "restore-created" { // it has no story yet, and is named
			if r := b.run(b.arguments(k)...); r.code != 14 || !strings.Contains(r.stderr, "exists already") {
				t.Errorf("exit code %d: %s", r.code, r.stderr)
			}
			mustExec(t, "postgres", "DROP DATABASE "+copied)
		}
		b.ok(b.arguments(k)...)
		if got := strings.Join(query(t, copied, "SELECT count(*)::text FROM public.visits"), ""); got != backedUp {
			t.Errorf("the copy has %s visits", got)
		}
		return
	}
	r := b.run("restore", "--resume", "--yes")
	if r.code != 0 {
		t.Fatalf("restore --resume: exit code %d\n%s", r.code, r.stderr)
	}
	says := "dropped"
	switch {
	case k.swapped:
		says = "is complete"
	case k.ready:
		says = "swapped"
	}
	if !strings.Contains(r.stdout, says) {
		t.Errorf("it does not say %q:\n%s", says, r.stdout)
	}
	if !k.ready && !k.swapped {
		if got := b.visits(); got != alive {
			t.Errorf("the live database has %s visits", got)
		}
		b.ok("restore", "latest", "--swap", "--yes")
	}
	if got := b.visits(); got != backedUp {
		t.Errorf("after all the live database has %s visits", got)
	}
	b.ok("rollback", b.database, "--yes")
	if got := b.visits(); got != alive {
		t.Errorf("rolled back: %s visits", got)
	}
	if left := databasesOf(t, b.database); len(left) != 2 || contains(left, "__restore_") {
		t.Errorf("databases are %q", left)
	}
}

// TestInterruptAtEveryPoint sends a SIGINT at the places of a swap: nothing is
// left, unless it had come too late.
func TestInterruptAtEveryPoint(t *testing.T) {
	for _, k := range killings() {
		if len(k.args) < 3 || k.args[2] != "--swap" || !testkit.All() && k.point != "swap-before-commit" {
			continue
		}
		t.Run(k.point, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
			b.prepareKill(k)
			before := databasesOf(t, b.database)
			r := b.at("interrupt", k)
			if k.swapped || k.point == "swap-before-commit" {
				if r.code != 0 || b.visits() != backedUp {
					t.Errorf("too late: exit code %d, %s visits\n%s", r.code, b.visits(), r.stderr)
				}
				return
			}
			if r.code != 130 || b.visits() != alive {
				t.Errorf("exit code %d, %s visits\n%s", r.code, b.visits(), r.stderr)
			}
			if after := databasesOf(t, b.database); !slices.Equal(after, before) {
				t.Errorf("databases are %q instead of %q", after, before)
			}
			b.noRunLock()
		})
	}
}

// TestPointsAreKilled: no named place without a kill, and no kill without a
// place.
func TestPointsAreKilled(t *testing.T) {
	var tested []string
	for _, k := range killings() {
		tested = append(tested, k.point)
	}
	tested = slices.Concat(tested, reportPoints(), dropPoints(), prunePoints(), maintainPoints(), slices.Collect(maps.Keys(walPoints())), syncPoints(), walPrunePoints(), physicalPoints(), incrementalPoints(), momentPoints(), extractPoints(), rescuePoints(), replayPoints(), mergePoints())
	slices.Sort(tested)
	var named []string
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); !ok || s.Sel.Name != "Hit" {
				return true
			}
			if name, ok := call.Args[1].(*ast.BasicLit); ok {
				text, err := strconv.Unquote(name.Value)
				if err != nil {
					t.Error(err)
				}
				named = append(named, text)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(named)
	if tested = slices.Compact(tested); !slices.Equal(named, tested) {
		t.Errorf("named places are\n%q, killed at are\n%q", named, tested)
	}
}
