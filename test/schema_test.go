package test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/schematest"
)

// TestSchemas checks what is stored and printed by the published schemas, of a store that
// has something of everything. Each run of another test is checked, too: see wantSchemas.
func TestSchemas(t *testing.T) {
	hooks := newReceiver(t)
	b := sealedBench(t, patients("500")...)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+hooks.URL)
	oldest := strings.TrimSpace(b.ok("backup", "-q"))
	id := strings.TrimSpace(b.ok("backup", "-q", "--label", "why=test"))
	torn := strings.TrimSpace(b.ok("backup", "-q", "--method", "plain"))
	dead := strings.TrimSpace(b.ok("backup", "-q"))
	b.ok("verify", id)
	b.ok("drill", id)
	b.ok("restore", id, "--into", b.database+"_copy", "--yes")
	b.ok("hold", id, "--reason", "case 118", "--until", "2y")
	for _, name := range []string{id, torn} {
		schematest.Check(t, "manifest.schema.json", readFile(t, filepath.Join(b.folder(name), "manifest.json")))
	}
	if err := os.Truncate(filepath.Join(b.folder(torn), "manifest.json"), 100); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.folder(dead), "manifest.json")); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "PGMEDIC_KEEP_LAST=1")
	put(t, filepath.Join(b.folder(oldest), "doomed.json"), []byte(`{"format":1,"at":"2026-11-28T00:00:00Z","host":"db1","reason":"by hand"}`))

	receipts := storedFiles(t, b.store, id+"/receipts/")
	if len(receipts) != 3 {
		t.Errorf("receipts %q", receipts)
	}
	for _, name := range receipts {
		schematest.Check(t, "receipt.schema.json", readFile(t, name))
	}
	for file, folder := range map[string]string{"hold.schema.json": id + "/hold-", "mark.schema.json": oldest + "/doomed"} {
		stored := storedFiles(t, b.store, folder)
		if len(stored) != 1 {
			t.Fatalf("%s: %q", folder, stored)
		}
		schematest.Check(t, file, readFile(t, stored[0]))
	}
	for _, more := range [][]string{nil, {"--why"}} {
		listed := []byte(b.ok(append([]string{"list", "--json"}, more...)...))
		schematest.Check(t, "list.schema.json", listed)
		for _, want := range []string{`"holds"`, `"mark"`, torn, dead, `"proven"`, `"labels"`} {
			if !bytes.Contains(listed, []byte(want)) {
				t.Errorf("the listing lacks %s: %s", want, listed)
			}
		}
	}
	schematest.Check(t, "report.schema.json", []byte(b.ok("report", "--json")))

	r := b.run("show", "20261122T020000Z-7f3a9c", "--json")
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if r.code != 10 {
		t.Errorf("exit code %d", r.code)
	}
	schematest.Check(t, "error.schema.json", []byte(lines[len(lines)-1]))

	if r := b.run("backup", "nowhere"); r.code != 10 {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	b.ok("notify", "test")
	if events, line := hooks.taken(); len(events) < 2 { // each of which is checked as it comes
		t.Errorf("events %q", line)
	}
	records := bytes.Split(bytes.TrimSpace(readFile(t, filepath.Join(b.tmp, ".local", "state", "pgmedic", "audit.jsonl"))), []byte("\n"))
	if len(records) < 8 {
		t.Errorf("%d records", len(records))
	}
	for _, record := range records {
		schematest.Check(t, "audit-record.schema.json", record)
	}
}

// TestSchemasOfObjects checks what is stored beside a manifest, in a backup that everybody
// can read.
func TestSchemasOfObjects(t *testing.T) {
	b := newBench(t, append(patients("50"), "CREATE SEQUENCE numbers", "SELECT lo_from_bytea(4711, 'an image')",
		"ALTER TABLE patients ADD twice int GENERATED ALWAYS AS (2 * id) STORED")...)
	for _, method := range []string{"plain", "parallel"} {
		id := strings.TrimSpace(b.ok("backup", "-q", "--method", method, "--compression", "gzip"))
		for _, name := range []string{"inventory", "sums"} {
			r, err := gzip.NewReader(bytes.NewReader(readFile(t, filepath.Join(b.folder(id), name+".json.gz"))))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			schematest.Check(t, name+".schema.json", text)
		}
	}
}

// TestSchemasOfClusters checks what is stored and listed of a cluster: a base backup, and an
// epoch of its WAL.
func TestSchemasOfClusters(t *testing.T) {
	b := newWALBench(t, 0)
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	id := strings.TrimSpace(b.ok("backup", "--method", "physical", "-q"))
	b.sql("INSERT INTO ledger VALUES (1, 'x')")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("stopped: exit code %d, %s", r.code, r.stderr)
	}
	for file, object := range map[string]string{"manifest.schema.json": id + "/manifest.json", "epoch.schema.json": "/epoch.json"} {
		stored := slices.DeleteFunc(storedFiles(t, b.store, object), func(name string) bool { return !strings.HasSuffix(name, ".json") })
		if len(stored) != 1 {
			t.Fatalf("%s: %q", file, stored)
		}
		schematest.Check(t, file, readFile(t, stored[0]))
	}
	listed := b.ok("list", "--json")
	schematest.Check(t, "list.schema.json", []byte(listed))
	if !strings.Contains(listed, `"commit_times"`) || !strings.Contains(listed, `"until"`) {
		t.Errorf("nothing is recoverable: %s", listed)
	}
}

// wantSchemas checks what a run printed by the published schemas.
func (r result) wantSchemas(t *testing.T, args []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if last := lines[len(lines)-1]; strings.HasPrefix(last, `{"error":`) {
		schematest.Check(t, "error.schema.json", []byte(last))
	}
	if r.code == 0 && args[0] == "list" && slices.Contains(args, "--json") && !slices.Contains(args, "--orphans") {
		schematest.Check(t, "list.schema.json", []byte(r.stdout))
	}
}
