package catalog

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestMeasureBounds: whatever a text repeats, what it takes once decoded is not
// more than what was measured, or it is refused.
func TestMeasureBounds(t *testing.T) {
	n := 200_000
	if testkit.Race {
		n /= 10
	}
	list := func(item string) string { return "[" + strings.Repeat(item+",", n) + item + "]" }
	for name, text := range map[string]string{
		"chunks":       `{"format":1,"chunks":` + list("{}") + `}`,
		"tables":       `{"format":1,"tables":` + list("{}") + `}`,
		"TABLES":       `{"format":1,"TABLES":` + list("{}") + `}`,
		"folded":       `{"format":1,"table` + "\u017f" + `":` + list("{}") + `}`,
		"escaped":      `{"format":1,"tabl\u0065s":` + list("{}") + `}`,
		"twice":        `{"format":1,"tables":[],"tables":` + list("{}") + `}`,
		"objects":      `{"format":1,"objects":` + list("{}") + `}`,
		"roles":        `{"format":1,"database":{"roles":` + list("{}") + `}}`,
		"acl":          `{"format":1,"database":{"acl":` + list("{}") + `}}`,
		"settings":     `{"format":1,"database":{"settings":` + list("{}") + `}}`,
		"tablespaces":  `{"format":1,"database":{"tablespaces":` + list(`""`) + `}}`,
		"foreign keys": `{"format":1,"scope":{"left_out_foreign_keys":` + list("{}") + `}}`,
		"patterns":     `{"format":1,"scope":{"exclude_table_data":` + list(`""`) + `}}`,
		"steps":        `{"format":1,"steps":` + list("{}") + `}`,
		"nulls":        `{"format":1,"tables":` + list("null") + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := measure([]byte(text), manifestWeights())
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			b := &pgmedic.Backup{}
			if err := json.Unmarshal([]byte(text), b); err != nil {
				t.Fatal(err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if took := int64(after.HeapAlloc) - int64(before.HeapAlloc); took > m.memory+m.memory/2+1<<20 {
				t.Errorf("took %d, measured %d", took, m.memory)
			}
			runtime.KeepAlive(b)
		})
	}
	for name, text := range map[string]string{
		"parts":   `{"format":1,"chunks":[{"parts":` + list("{}") + `}]}`,
		"columns": `{"format":1,"tables":[{"columns":` + list("{}") + `}]}`,
		"nested":  strings.Repeat("[", 1<<20),
		"open":    `{"a`, "backslash": `"\`, "nothing": "",
	} {
		m := measure([]byte(text), manifestWeights())
		if big := name == "parts" || name == "columns"; big != (m.memory > maxManifestMemory) {
			t.Errorf("%s: %d", name, m.memory)
		}
	}
}

// TestMeasureOfLargeDatabase: a database of 50,000 tables has a manifest that is
// written and read.
func TestMeasureOfLargeDatabase(t *testing.T) {
	b := &pgmedic.Backup{Format: 1}
	columns := make([]pgmedic.Column, 10)
	for i := range columns {
		columns[i] = pgmedic.Column{Name: "a_column_of_a_table", Type: "timestamp with time zone"}
	}
	tables := 50_000
	if testkit.Race {
		tables /= 10
	}
	for range tables {
		b.Tables = append(b.Tables, pgmedic.Table{Schema: "public", Name: "a_table_of_the_database", Rows: 1e6, SizeBytes: 1e9, Format: pgmedic.CopyBinary, Columns: columns})
		b.Chunks = append(b.Chunks, pgmedic.Chunk{Pack: "pack-0001", Offset: 1 << 30, StoredBytes: 1 << 20, SHA256: strings.Repeat("a", 64), PlainBytes: 1 << 24, Parts: []pgmedic.Part{{Table: 1e5, PlainBytes: 1 << 24, Rows: 1e6}}})
	}
	data, err := encodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeManifest(data, "x"); err != nil {
		t.Errorf("%d bytes: %v", len(data), err)
	}
	t.Logf("%d bytes, %d in memory", len(data), measure(data, manifestWeights()).memory)
}
