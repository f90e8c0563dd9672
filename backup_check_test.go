package pgmedic_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
)

const someHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// soundBackup is a manifest that holds against itself.
func soundBackup(method pgmedic.Method) *pgmedic.Backup {
	at := time.Date(2026, 11, 22, 2, 0, 0, 5000, time.UTC)
	object := func(name string, role pgmedic.ObjectRole, size int64) pgmedic.Object {
		return pgmedic.Object{Name: name, Role: role, StoredBytes: size, PlainBytes: size, SHA256: someHash}
	}
	b := &pgmedic.Backup{
		Format: 1, ID: "20261122T020000Z-7f3a9c", Method: method, Purpose: pgmedic.PurposeRegular,
		StartedAt: at, SnapshotAt: at, FinishedAt: at.Add(time.Minute), SnapshotLSN: "16/B374D848",
		Server: pgmedic.Server{Name: "main", VersionNum: 150018}, Database: pgmedic.Database{Name: "clinic", ConnectionLimit: -1},
		Seal: pgmedic.Seal{Compression: "zstd", Encryption: "none"},
		Objects: []pgmedic.Object{
			object("globals.sql.zst", pgmedic.RoleGlobals, 10), object("inventory.json.zst", pgmedic.RoleInventory, 10),
			object("recover.sh", pgmedic.RoleRecovery, 10), object("RECOVER.md", pgmedic.RoleRecovery, 10),
		},
		Tables: []pgmedic.Table{{Schema: "public", Name: "a", Rows: 3}, {Schema: "public", Name: "b", Rows: 2}},
	}
	if method == pgmedic.MethodPlain {
		b.Objects = append(b.Objects, object("dump.sql.zst", pgmedic.RoleDump, 10))
		return b
	}
	b.Objects = append(b.Objects, object("schema.dump.zst", pgmedic.RoleSchema, 10), object("pack-0001", pgmedic.RolePack, 20))
	for i := range b.Tables {
		b.Tables[i].Format, b.Tables[i].Columns = pgmedic.CopyText, []pgmedic.Column{{Name: "id", Type: "integer"}}
	}
	b.Chunks = []pgmedic.Chunk{
		{Pack: "pack-0001", Offset: 0, StoredBytes: 8, PlainBytes: 14, SHA256: someHash, Parts: []pgmedic.Part{{Table: 0, PlainBytes: 10, Rows: 2}, {Table: 1, PlainBytes: 4, Rows: 2}}},
		{Pack: "pack-0001", Offset: 8, StoredBytes: 12, PlainBytes: 6, SHA256: someHash, Parts: []pgmedic.Part{{Table: 0, PlainBytes: 6, Rows: 1}}},
	}
	return b
}

func TestCheckAccepts(t *testing.T) {
	for name, change := range map[string]func(*pgmedic.Backup){
		"as it is": func(*pgmedic.Backup) {},
		"bytes between the chunks, of a copy that was begun again": func(b *pgmedic.Backup) {
			if b.Method == pgmedic.MethodParallel {
				b.Objects[5].StoredBytes, b.Chunks[1].Offset = 25, 10
			}
		},
		"names that are not valid in the server's encoding": func(b *pgmedic.Backup) {
			b.Tables = append(b.Tables, pgmedic.Table{Schema: "public", Name: "\ufffd"}, pgmedic.Table{Schema: "public", Name: "\ufffd"})
		},
		"a table whose rows were left out": func(b *pgmedic.Backup) {
			b.Scope = &pgmedic.Scope{ExcludeTableData: []string{"c"}, LeftOutForeignKeys: []pgmedic.ForeignKey{{Name: "k", Table: "a", OID: 16400}}}
			b.Tables = append(b.Tables, pgmedic.Table{Schema: "public", Name: "c", WithoutRows: true})
		},
		"a safety backup":        func(b *pgmedic.Backup) { b.Purpose = pgmedic.PurposeSafety },
		"a clock that was set":   func(b *pgmedic.Backup) { b.FinishedAt = b.StartedAt.Add(-time.Hour) },
		"encrypted with age":     func(b *pgmedic.Backup) { b.Seal.Encryption = "age" },
		"no tables, and no rows": func(b *pgmedic.Backup) { emptied(b) },
	} {
		for _, method := range []pgmedic.Method{pgmedic.MethodPlain, pgmedic.MethodParallel} {
			t.Run(name+", "+string(method), func(t *testing.T) {
				b := soundBackup(method)
				change(b)
				if err := b.Check(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	cbc := soundBackup(pgmedic.MethodPlain)
	cbc.Seal.Encryption = "aes-256-cbc"
	for i := range cbc.Objects {
		if cbc.Objects[i].Role != pgmedic.RoleRecovery {
			cbc.Objects[i].HMAC = strings.Repeat("a", 32) + ":" + strings.Repeat("b", 64)
		}
	}
	if err := cbc.Check(); err != nil {
		t.Errorf("aes-256-cbc: %v", err)
	}
}

func emptied(b *pgmedic.Backup) {
	b.Tables, b.Chunks = nil, nil
	if b.Method == pgmedic.MethodParallel {
		b.Objects = b.Objects[:5] // no pack
	}
}

// TestCheckRefuses makes one edit at a time. Every one is damage, and none reaches
// further than that.
func TestCheckRefuses(t *testing.T) {
	type edits map[string]func(*pgmedic.Backup)
	for method, all := range map[pgmedic.Method]edits{
		pgmedic.MethodPlain: {
			"no format":                  func(b *pgmedic.Backup) { b.Format = 0 },
			"negative format":            func(b *pgmedic.Backup) { b.Format = -1 },
			"an id that is a path":       func(b *pgmedic.Backup) { b.ID = "../20261122T020000Z-7f3a9c" },
			"an id of no day":            func(b *pgmedic.Backup) { b.ID = "20261399T020000Z-7f3a9c" },
			"another second":             func(b *pgmedic.Backup) { b.StartedAt = b.StartedAt.Add(time.Second) },
			"no snapshot's time":         func(b *pgmedic.Backup) { b.SnapshotAt = time.Time{} },
			"finished days before":       func(b *pgmedic.Backup) { b.FinishedAt = b.StartedAt.Add(-25 * time.Hour) },
			"the year 9999":              func(b *pgmedic.Backup) { b.FinishedAt = b.FinishedAt.AddDate(7973, 0, 0) },
			"unknown method":             func(b *pgmedic.Backup) { b.Method = "physical" },
			"unknown purpose":            func(b *pgmedic.Backup) { b.Purpose = "" },
			"encryption AGE":             func(b *pgmedic.Backup) { b.Seal.Encryption = "AGE" },
			"encryption empty":           func(b *pgmedic.Backup) { b.Seal.Encryption = "" },
			"compression unknown":        func(b *pgmedic.Backup) { b.Seal.Compression = "lzma" },
			"cbc without authentication": func(b *pgmedic.Backup) { b.Seal.Encryption = "aes-256-cbc" },
			"authentication without cbc": func(b *pgmedic.Backup) { b.Objects[0].HMAC = strings.Repeat("a", 32) + ":" + someHash },
			"an LSN that is none":        func(b *pgmedic.Backup) { b.SnapshotLSN = "latest" },
			"no server":                  func(b *pgmedic.Backup) { b.Server.Name = "" },
			"no version":                 func(b *pgmedic.Backup) { b.Server.VersionNum = 0 },
			"no database":                func(b *pgmedic.Backup) { b.Database.Name = "" },
			"negative database":          func(b *pgmedic.Backup) { b.Database.SizeBytes = -1 },
			"a name of megabytes":        func(b *pgmedic.Backup) { b.Host = strings.Repeat("x", 1<<20) },
			"labels of megabytes":        func(b *pgmedic.Backup) { b.Labels = map[string]string{"x": strings.Repeat("x", 2<<20)} },
			"no objects":                 func(b *pgmedic.Backup) { b.Objects = nil },
			"no dump":                    func(b *pgmedic.Backup) { b.Objects = b.Objects[:4] },
			"no globals":                 func(b *pgmedic.Backup) { b.Objects = b.Objects[1:] },
			"two dumps":                  func(b *pgmedic.Backup) { b.Objects[0].Role = pgmedic.RoleDump },
			"an unknown role":            func(b *pgmedic.Backup) { b.Objects[2].Role = "x" },
			"a pack":                     func(b *pgmedic.Backup) { b.Objects[2].Role = pgmedic.RolePack },
			"an object outside":          func(b *pgmedic.Backup) { b.Objects[0].Name = "../../etc/passwd" },
			"an object of dots":          func(b *pgmedic.Backup) { b.Objects[0].Name = ".." },
			"an object in a folder":      func(b *pgmedic.Backup) { b.Objects[0].Name = "keys/one.age" },
			"an object with a backslash": func(b *pgmedic.Backup) { b.Objects[0].Name = `..\x` },
			"an object that is hidden":   func(b *pgmedic.Backup) { b.Objects[0].Name = ".pgmedic-tmp-x" },
			"an object with an escape":   func(b *pgmedic.Backup) { b.Objects[0].Name = "x\x1b[31m" },
			"an object without a name":   func(b *pgmedic.Backup) { b.Objects[0].Name = "" },
			"the manifest as an object":  func(b *pgmedic.Backup) { b.Objects[0].Name = "manifest.json" },
			"two of one name":            func(b *pgmedic.Backup) { b.Objects[0].Name = b.Objects[1].Name },
			"negative stored size":       func(b *pgmedic.Backup) { b.Objects[0].StoredBytes = -5 },
			"negative plain size":        func(b *pgmedic.Backup) { b.Objects[0].PlainBytes = -1 },
			"impossible plain size":      func(b *pgmedic.Backup) { b.Objects[0].PlainBytes = math.MaxInt64 },
			"sizes that overflow":        func(b *pgmedic.Backup) { grown(b) },
			"no hash":                    func(b *pgmedic.Backup) { b.Objects[0].SHA256 = "" },
			"a hash in capitals":         func(b *pgmedic.Backup) { b.Objects[0].SHA256 = strings.ToUpper(someHash) },
			"a table twice":              func(b *pgmedic.Backup) { b.Tables[1].Name = "a" },
			"a table without a name":     func(b *pgmedic.Backup) { b.Tables[1].Name = "" },
			"half a parent":              func(b *pgmedic.Backup) { b.Tables[1].RootName = "a" },
			"negative rows":              func(b *pgmedic.Backup) { b.Tables[1].Rows = -1 },
			"rows that overflow":         func(b *pgmedic.Backup) { b.Tables[0].Rows, b.Tables[1].Rows = math.MaxInt64, math.MaxInt64 },
			"negative size of a table":   func(b *pgmedic.Backup) { b.Tables[1].SizeBytes = -1 },
			"rows left out of a whole":   func(b *pgmedic.Backup) { b.Tables[1].Rows, b.Tables[1].WithoutRows = 0, true },
			"rows that were left out":    func(b *pgmedic.Backup) { b.Scope, b.Tables[1].WithoutRows = &pgmedic.Scope{}, true },
			"a table in chunks":          func(b *pgmedic.Backup) { b.Tables[1].Format = pgmedic.CopyText },
			"columns":                    func(b *pgmedic.Backup) { b.Tables[1].Columns = []pgmedic.Column{{Name: "a", Type: "int"}} },
			"chunks":                     func(b *pgmedic.Backup) { b.Chunks = soundBackup(pgmedic.MethodParallel).Chunks },
			"a foreign key without its OID": func(b *pgmedic.Backup) {
				b.Scope = &pgmedic.Scope{LeftOutForeignKeys: []pgmedic.ForeignKey{{Name: "k", Table: "a"}}}
			},
		},
		pgmedic.MethodParallel: {
			"cbc":                         func(b *pgmedic.Backup) { b.Seal.Encryption = "aes-256-cbc" },
			"no schema":                   func(b *pgmedic.Backup) { b.Objects[4].Role = pgmedic.RoleRest },
			"two schemas":                 func(b *pgmedic.Backup) { b.Objects[2].Role = pgmedic.RoleSchema },
			"no pack":                     func(b *pgmedic.Backup) { b.Objects = b.Objects[:5] },
			"a dump":                      func(b *pgmedic.Backup) { b.Objects[2].Role = pgmedic.RoleDump },
			"rows of a table":             func(b *pgmedic.Backup) { b.Tables[0].Rows = 5 },
			"no chunks":                   func(b *pgmedic.Backup) { b.Chunks = nil },
			"no chunks and no rows":       func(b *pgmedic.Backup) { b.Chunks, b.Tables[0].Rows, b.Tables[1].Rows = nil, 0, 0 },
			"no tables":                   func(b *pgmedic.Backup) { b.Tables = nil },
			"no tables and no chunks":     func(b *pgmedic.Backup) { b.Tables, b.Chunks = nil, nil },
			"a chunk twice":               func(b *pgmedic.Backup) { b.Chunks = append(b.Chunks, b.Chunks[1]) },
			"a chunk twice, rows doubled": func(b *pgmedic.Backup) { b.Chunks = append(b.Chunks, b.Chunks[1]); b.Tables[0].Rows++ },
			"a chunk less":                func(b *pgmedic.Backup) { b.Chunks = b.Chunks[:1]; b.Tables[0].Rows-- },
			"of no pack":                  func(b *pgmedic.Backup) { b.Chunks[0].Pack = "pack-0009" },
			"of another object":           func(b *pgmedic.Backup) { b.Chunks[0].Pack = "globals.sql.zst" },
			"of a pack outside":           func(b *pgmedic.Backup) { b.Chunks[0].Pack = "../20261122T020000Z-7f3a9d/pack-0001" },
			"negative offset":             func(b *pgmedic.Backup) { b.Chunks[0].Offset = -1 },
			"negative size":               func(b *pgmedic.Backup) { b.Chunks[0].StoredBytes = -1 },
			"offset outside":              func(b *pgmedic.Backup) { b.Chunks[1].Offset = 9 },
			"offset that overflows":       func(b *pgmedic.Backup) { b.Chunks[1].Offset, b.Chunks[1].StoredBytes = 1<<62, 1<<62 },
			"overlapping":                 func(b *pgmedic.Backup) { b.Chunks[1].Offset, b.Chunks[1].StoredBytes = 7, 12 },
			"no hash of a chunk":          func(b *pgmedic.Backup) { b.Chunks[1].SHA256 = "x" },
			"plain size of a chunk":       func(b *pgmedic.Backup) { b.Chunks[1].PlainBytes++ },
			"a plain size that overflows": func(b *pgmedic.Backup) { b.Chunks[1].PlainBytes = math.MaxInt64 },
			"plain size of a pack":        func(b *pgmedic.Backup) { b.Objects[5].PlainBytes++ },
			"no parts":                    func(b *pgmedic.Backup) { b.Chunks[1].Parts = nil },
			"part of no table":            func(b *pgmedic.Backup) { b.Chunks[1].Parts[0].Table = 2 },
			"part before the tables":      func(b *pgmedic.Backup) { b.Chunks[1].Parts[0].Table = -1 },
			"part of another table":       func(b *pgmedic.Backup) { b.Chunks[1].Parts[0].Table = 1 },
			"part of a table not in chunks": func(b *pgmedic.Backup) {
				b.Tables[1].Format, b.Tables[1].Columns = "", nil
			},
			"part too short":      func(b *pgmedic.Backup) { b.Chunks[0].Parts[0].PlainBytes-- },
			"part too long":       func(b *pgmedic.Backup) { b.Chunks[0].Parts[0].PlainBytes++ },
			"negative part":       func(b *pgmedic.Backup) { b.Chunks[0].Parts[0].PlainBytes, b.Chunks[0].Parts[1].PlainBytes = 16, -2 },
			"parts that overflow": func(b *pgmedic.Backup) { overflowed(b) },
			"negative rows of a part": func(b *pgmedic.Backup) {
				b.Chunks[0].Parts[0].Rows, b.Chunks[1].Parts[0].Rows = -1, 4
			},
			"rows of a part":    func(b *pgmedic.Backup) { b.Chunks[0].Parts[0].Rows = math.MaxInt64 },
			"unknown format":    func(b *pgmedic.Backup) { b.Tables[0].Format = "csv" },
			"a nameless column": func(b *pgmedic.Backup) { b.Tables[0].Columns[0].Name = "" },
			"a typeless column": func(b *pgmedic.Backup) { b.Tables[0].Columns[0].Type = "" },
		},
	} {
		for name, edit := range all {
			t.Run(string(method)+", "+name, func(t *testing.T) {
				b := soundBackup(method)
				edit(b)
				if err := b.Check(); err == nil || pgmedic.KindOf(err) != pgmedic.KindIntegrity || len(err.Error()) > 400 {
					t.Errorf("%s: %v", pgmedic.KindOf(err), err)
				}
			})
		}
	}
}

// grown has as many large objects as make their sum overflow.
func grown(b *pgmedic.Backup) {
	for i := range b.Objects {
		b.Objects[i].StoredBytes = math.MaxInt64 / 4
	}
}

func overflowed(b *pgmedic.Backup) {
	huge := pgmedic.Part{PlainBytes: math.MaxInt64}
	b.Chunks[0].Parts = append(b.Chunks[0].Parts, huge, huge, pgmedic.Part{PlainBytes: 2})
}
