package drill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// server holds what is backed up; programs are those of most drills' servers, see
// scratchtest.Programs.
var (
	server   *scratch.Server
	programs string
)

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{}, func(s *scratch.Server) {
		var err error
		if programs, err = scratchtest.Programs(s); err != nil {
			panic(err)
		}
		server = s
	}))
}

const patientData = "Jane Patient 1970-01-01"

// clinic returns a small backup, its catalogue and the folder of its objects.
func clinic(t *testing.T) (c *catalog.Catalog, b *pgmedic.Backup, folder string) {
	t.Helper()
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int PRIMARY KEY, name text)",
		"INSERT INTO patients SELECT n, '"+patientData+"' FROM generate_series(1, 300) AS n",
		"CREATE INDEX patients_name ON patients (name)")
	c, dir := fixture.NewCatalogIn(t)
	b = fixture.TakeBackup(t, dsn, c)
	return c, b, filepath.Join(dir, catalog.Folder(b.Server.Name, b.Database.Name, b.ID))
}

// scratchDir is a folder that the server's user can pass, short enough for the
// path of a socket.
func scratchDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "drill-") //nolint:usetesting // t.TempDir's names can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func options(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup) drill.Options {
	t.Helper()
	return drill.Options{
		Catalog: c, Backup: b, ServerDirs: append([]string{programs}, scratchtest.SearchDirs()...), ScratchDir: scratchDir(t),
		Host: "host", Version: "v1", Logger: fixture.Silent(), Now: time.Now,
	}
}

// run drills, and sees to it that nothing is left of the scratch server.
func run(ctx context.Context, t *testing.T, o drill.Options) (*pgmedic.Receipt, error) {
	t.Helper()
	check := fixture.NothingLeft(t)
	receipt, err := drill.Run(ctx, o)
	check()
	if left, err := os.ReadDir(o.ScratchDir); err == nil && len(left) > 0 {
		t.Errorf("%d things are left in the scratch folder, such as %s", len(left), left[0].Name())
	}
	return receipt, err
}

func proof(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup) (pgmedic.Proof, int) {
	t.Helper()
	entry, err := c.Get(t.Context(), b.ID, catalog.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := entry.Proof()
	return p, len(entry.Receipts)
}

func wantProof(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup, want pgmedic.Proof, receipts int) {
	t.Helper()
	if got, n := proof(t, c, b); got != want || n != receipts {
		t.Errorf("proof %s of %d receipts, want %s of %d", got, n, want, receipts)
	}
}

func failedDetail(t *testing.T, r *pgmedic.Receipt, err error) string {
	t.Helper()
	if err != nil || r == nil {
		t.Fatalf("no receipt: %v", err)
	}
	check, failed := r.Failed()
	if !failed || r.Outcome != pgmedic.OutcomeFailed || r.Proof != pgmedic.ProofFailed {
		t.Fatalf("the receipt is not a failed one: %+v", r)
	}
	if strings.Contains(check.Detail+check.Hint, "Patient") {
		t.Errorf("the receipt holds a row: %s", check.Detail)
	}
	return check.Name + ": " + check.Detail
}

// craft stores a copy of a backup with another dump or manifest.
func craft(t *testing.T, c *catalog.Catalog, original *pgmedic.Backup, dump func(string) string, change func(*pgmedic.Backup)) *pgmedic.Backup {
	t.Helper()
	b := *original
	b.StartedAt = time.Now().UTC()
	b.FinishedAt = b.StartedAt
	b.ID, b.Objects, b.Tables = catalog.NewID(b.StartedAt), nil, slices.Clone(original.Tables)
	for _, o := range original.Objects {
		r, err := (restore.Source{Catalog: c, Backup: original}).Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		if o.Role == pgmedic.RoleDump && dump != nil {
			plain = []byte(dump(string(plain)))
		}
		var out bytes.Buffer
		w, err := seal.NewWriter(&out, seal.Options{Compression: seal.Compression(b.Seal.Compression)})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sum, err := w.Sum()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Store().Put(t.Context(), catalog.Key(&b, o.Name), &out); err != nil {
			t.Fatal(err)
		}
		o.StoredBytes, o.SHA256, o.PlainBytes = sum.StoredBytes, sum.SHA256, sum.PlainBytes
		b.Objects = append(b.Objects, o)
	}
	if change != nil {
		change(&b)
	}
	if err := c.Commit(t.Context(), &b, nil); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestRun(t *testing.T) {
	c, b, folder := clinic(t)
	receipt, err := run(t.Context(), t, options(t, c, b))
	if err != nil {
		t.Fatal(err)
	}
	if receipt.Outcome != pgmedic.OutcomeOK || receipt.Proof != pgmedic.ProofProven || receipt.Kind != pgmedic.ReceiptDrill || receipt.BackupID != b.ID {
		t.Errorf("receipt: %+v", receipt)
	}
	if receipt.RecoverySeconds <= 0 {
		t.Errorf("%v seconds to recover", receipt.RecoverySeconds)
	}
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if got := receipt.Scratch.Settings[name]; got != "on" {
			t.Errorf("%s is %q: the measured time would be no time to recover", name, got)
		}
	}
	if receipt.Scratch.Version == "" || receipt.Scratch.CPUs == 0 || receipt.Host != "host" || receipt.Programs.Pgmedic != "v1" {
		t.Errorf("where it was measured: %+v", receipt.Scratch)
	}
	wantProof(t, c, b, pgmedic.ProofProven, 1)

	// Damage that is found later outweighs the proof; a dump that does not
	// load is a receipt and no error.
	path := filepath.Join(folder, "dump.sql.gz")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	verified, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Now: time.Now})
	failedDetail(t, verified, err)
	wantProof(t, c, b, pgmedic.ProofFailed, 2)
	receipt, err = run(t.Context(), t, options(t, c, b))
	if detail := failedDetail(t, receipt, err); !strings.Contains(detail, "corrupt") {
		t.Errorf("a damaged dump: %s", detail)
	}
	wantProof(t, c, b, pgmedic.ProofFailed, 3)
}

func TestRunFails(t *testing.T) {
	c, original, _ := clinic(t)
	for name, tt := range testkit.Some(t, 1, map[string]struct {
		dump   func(string) string
		change func(*pgmedic.Backup)
		want   string
	}{
		"SQL that is refused": {dump: func(s string) string {
			return strings.Replace(s, "\n1\t", "\n"+patientData+"\t", 1)
		}, want: "restores: "},
		"rows less": {dump: func(s string) string { return s + "DELETE FROM public.patients WHERE id < 5;\n" },
			want: `row counts: "public"."patients" has 296 rows, the backup 300`},
		"an index less": {dump: func(s string) string { return s + "DROP INDEX public.patients_name;\n" },
			want: "schema: index public.patients_name missing"},
	}) {
		t.Run(name, func(t *testing.T) {
			b := craft(t, c, original, tt.dump, tt.change)
			receipt, err := run(t.Context(), t, options(t, c, b))
			if detail := failedDetail(t, receipt, err); !strings.HasPrefix(detail, tt.want) {
				t.Errorf("%s, want %s", detail, tt.want)
			}
			wantProof(t, c, b, pgmedic.ProofFailed, 1)
		})
	}
}

// TestCannotBeHeld has what a drill needs missing. That says nothing about the
// backup, so there is no receipt.
func TestCannotBeHeld(t *testing.T) {
	c, b, _ := clinic(t)
	parallelCatalog, parallel, _ := take(t, scratchtest.Database(t, server), backup.Parallel{Jobs: 1})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	unreadable := catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: func(string, io.ReadCloser) (io.ReadCloser, error) {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "", "read: %w", fixture.ErrInjected)
	}})
	for name, tt := range map[string]struct {
		kind pgmedic.Kind
		set  func(o *drill.Options)
	}{
		"no server programs": {pgmedic.KindUsage, func(o *drill.Options) {
			changed := *b
			changed.Server.VersionNum = 990000
			o.Backup = &changed
		}},
		"no pg_restore": {pgmedic.KindUsage, func(o *drill.Options) {
			changed := *parallel
			changed.Programs.PgDump = "99.1"
			o.Catalog, o.Backup = parallelCatalog, &changed
		}},
		"no scratch folder": {pgmedic.KindFailed, func(o *drill.Options) { o.ScratchDir = file }},
		"no such extension": {pgmedic.KindUsage, func(o *drill.Options) {
			changed := *b
			changed.Database.Extensions = []pgmedic.Extension{{Name: "not_installed_here"}}
			o.Backup = &changed
		}},
		"unreadable store": {pgmedic.KindUnreachable, func(o *drill.Options) { o.Catalog = unreadable }},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, c, b)
			tt.set(&o)
			receipt, err := run(t.Context(), t, o)
			if receipt != nil || err == nil {
				t.Fatalf("receipt %+v, error %v", receipt, err)
			}
			if name != "no scratch folder" { // by its file system, in many ways
				fixture.WantKind(t, err, tt.kind)
			}
			wantProof(t, c, b, pgmedic.ProofTaken, 0)
		})
	}
}

func TestRunCancelled(t *testing.T) {
	c, b, _ := clinic(t)
	for _, step := range []string{"", "create", "load", "compare"} {
		t.Run("at "+step, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := options(t, c, b)
			o.Progress = func(e pgmedic.Event) {
				if e.Step == step {
					cancel()
				}
			}
			if step == "" {
				cancel()
			}
			receipt, err := run(ctx, t, o)
			if receipt != nil {
				t.Errorf("an interrupted drill has a receipt: %+v", receipt)
			}
			fixture.WantKind(t, err, pgmedic.KindInterrupted)
			wantProof(t, c, b, pgmedic.ProofTaken, 0)
		})
	}
}

func TestVerify(t *testing.T) {
	c, b, _ := clinic(t)
	receipt, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Host: "host", Version: "v1", Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if receipt.Proof != pgmedic.ProofVerified || receipt.Outcome != pgmedic.OutcomeOK || receipt.Kind != pgmedic.ReceiptVerify || receipt.Host != "host" {
		t.Errorf("receipt: %+v", receipt)
	}
	if len(receipt.Checks) != len(b.Objects)+1 {
		t.Errorf("%d checks of %d objects and their rows", len(receipt.Checks), len(b.Objects))
	}
	wantProof(t, c, b, pgmedic.ProofVerified, 1)

	for name, change := range map[string]func(*pgmedic.Backup){
		"more rows":  func(b *pgmedic.Backup) { b.Tables[0].Rows++ },
		"fewer rows": func(b *pgmedic.Backup) { b.Tables[0].Rows = 0 },
		"rows elsewhere": func(b *pgmedic.Backup) {
			b.Tables[0].Rows--
			b.Tables = append(b.Tables, pgmedic.Table{Schema: "public", Name: "other", Rows: 1})
		},
	} {
		bad := craft(t, c, b, nil, change)
		receipt, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: bad, Now: time.Now})
		if detail := failedDetail(t, receipt, err); !strings.HasPrefix(detail, "row counts: ") {
			t.Errorf("%s: %s", name, detail)
		}
		wantProof(t, c, bad, pgmedic.ProofFailed, 1)
	}
}

func TestVerifyDamage(t *testing.T) {
	c, b, folder := clinic(t)
	for i, o := range b.Objects {
		path := filepath.Join(folder, o.Name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(good)
		flipped[len(flipped)/2] ^= 1
		other, err := os.ReadFile(filepath.Join(folder, b.Objects[(i+1)%len(b.Objects)].Name))
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{
			"cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "flipped": flipped, "swapped": other, "empty": {}, "gone": nil,
		} {
			t.Run(o.Name+" "+name, func(t *testing.T) {
				_ = os.Remove(path)
				if bad != nil {
					if err := os.WriteFile(path, bad, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				receipt, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Now: time.Now})
				if detail := failedDetail(t, receipt, err); !strings.Contains(detail, o.Name) {
					t.Errorf("the receipt does not name %s: %s", o.Name, detail)
				}
			})
		}
		_ = os.Remove(path)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := proof(t, c, b); got != pgmedic.ProofFailed {
		t.Errorf("proof %s after damage was found", got)
	}
	if _, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	if got, _ := proof(t, c, b); got != pgmedic.ProofVerified {
		t.Errorf("proof %s once everything is in its place again", got)
	}
}

// TestVerifyCannotRead tells a store that fails from bytes that are wrong.
func TestVerifyCannotRead(t *testing.T) {
	c, b, _ := clinic(t)
	failure := pgmedic.Errorf(pgmedic.KindUnreachable, "", "read: %w", fixture.ErrInjected)
	for name, onOpen := range map[string]func(string, io.ReadCloser) (io.ReadCloser, error){
		"open": func(string, io.ReadCloser) (io.ReadCloser, error) { return nil, failure },
		"middle": func(_ string, r io.ReadCloser) (io.ReadCloser, error) {
			return fixture.Closing{Reader: fixture.FailAfter(r, 50, failure), Closer: r}, nil
		},
	} {
		receipt, err := drill.Verify(t.Context(), drill.VerifyOptions{
			Catalog: catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: onOpen}), Backup: b, Now: time.Now})
		if receipt != nil || !errors.Is(err, fixture.ErrInjected) {
			t.Errorf("%s: receipt %+v, error %v", name, receipt, err)
		}
		fixture.WantKind(t, err, pgmedic.KindUnreachable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	receipt, err := drill.Verify(ctx, drill.VerifyOptions{Catalog: c, Backup: b, Now: time.Now})
	if receipt != nil {
		t.Error("an interrupted verify has a receipt")
	}
	fixture.WantKind(t, err, pgmedic.KindInterrupted)
	wantProof(t, c, b, pgmedic.ProofTaken, 0)
}

// readOnly is a store that takes nothing.
type readOnly struct{ store.Store }

func (readOnly) Put(_ context.Context, key string, _ io.Reader) (store.Object, error) {
	return store.Object{}, pgmedic.Errorf(pgmedic.KindUnreachable, "", "put %s: read-only", key)
}

func TestReceiptNotStored(t *testing.T) {
	c, b, _ := clinic(t)
	closed := catalog.New(readOnly{c.Store()})
	receipt, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: closed, Backup: b, Now: time.Now})
	fixture.WantKind(t, err, pgmedic.KindDegraded)
	if receipt == nil || receipt.Proof != pgmedic.ProofVerified {
		t.Errorf("verify: %+v", receipt)
	}
	receipt, err = run(t.Context(), t, options(t, closed, b))
	fixture.WantKind(t, err, pgmedic.KindDegraded)
	if receipt == nil || receipt.Proof != pgmedic.ProofProven {
		t.Errorf("drill: %+v", receipt)
	}
	wantProof(t, c, b, pgmedic.ProofTaken, 0)
}
