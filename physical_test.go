package pgmedic_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
)

// baseBackup is a manifest of a base backup that is right.
func baseBackup() *pgmedic.Backup {
	at := time.Date(2026, 11, 30, 1, 0, 0, 0, time.UTC)
	object := func(name string, role pgmedic.ObjectRole) pgmedic.Object {
		return pgmedic.Object{Name: name, Role: role, StoredBytes: 100, PlainBytes: 200, SHA256: strings.Repeat("0a", 32)}
	}
	return &pgmedic.Backup{
		Format: pgmedic.PhysicalFormat, ID: "20261130T010000Z-abcdef", Method: pgmedic.MethodPhysical, Purpose: pgmedic.PurposeRegular,
		StartedAt: at, SnapshotAt: at, FinishedAt: at, SnapshotLSN: "0/2000100", SnapshotTimeline: 1, Host: "host",
		Server: pgmedic.Server{Name: "clinic", SystemIdentifier: "7123456789012345678", Version: "15.18", VersionNum: 150018},
		Seal:   pgmedic.Seal{Compression: "zstd", Encryption: "none"}, Tables: []pgmedic.Table{},
		Objects: []pgmedic.Object{
			object("files.ndjson.zst", pgmedic.RoleFiles), object("pack-0001", pgmedic.RolePack), object("pg_manifest.json.zst", pgmedic.RoleServerManifest),
			object("settings.json.zst", pgmedic.RoleSettings), object("recover.sh", pgmedic.RoleRecovery),
		},
		Physical: &pgmedic.Physical{
			Kind: pgmedic.PhysicalFull, Timeline: 1, StartLSN: "0/2000028", CheckpointLSN: "0/2000060", StopTimeline: 1, StopLSN: "0/2000100",
			BlockBytes: 8192, SegmentBytes: 1 << 30, WALSegmentBytes: 16 << 20, Checksums: true, ControlVersion: 1300, CatalogVersion: 202209061,
			Tablespaces: []pgmedic.Tablespace{{OID: 16400, Location: "/srv/ts", SizeBytes: 10}},
			Databases:   []pgmedic.ClusterDatabase{{OID: 5, Name: "postgres", Collate: "C", LocaleProvider: "libc"}},
			Files:       10, PlainBytes: 1000, ServerManifestSHA256: strings.Repeat("0b", 32), PagesChecked: 10, BadPages: 1,
			PageErrors: []pgmedic.PageError{{Path: "base/5/1", Block: 3, Why: pgmedic.PageFaultChecksum}},
		},
	}
}

// sqlBackup is that of one whose files were read by SQL.
func sqlBackup() *pgmedic.Backup {
	b := baseBackup()
	listed := time.Date(2026, 11, 30, 1, 0, 4, 0, time.UTC)
	b.Format, b.Physical.ServerManifestSHA256 = pgmedic.SQLFormat, ""
	b.Physical.SQL = &pgmedic.SQLRead{ServerStartedAt: listed.AddDate(0, 0, -1), ClockAt: &listed, ListSHA256: strings.Repeat("0c", 32)}
	b.Objects = append(b.Objects[:2:2], b.Objects[3:]...)
	return b
}

// checkBySQL: it has no server's manifest, can be incremental in every version, and says when it
// was read.
func checkBySQL(t *testing.T) {
	incremental := func(b *pgmedic.Backup) {
		b.Physical.Kind, b.Physical.Parent, b.Physical.Depth = pgmedic.PhysicalIncremental, "20261129T010000Z-abcdef", 1
	}
	for name, c := range map[string]struct {
		change func(*pgmedic.Backup, *pgmedic.Physical)
		right  bool
	}{
		"full":                   {func(*pgmedic.Backup, *pgmedic.Physical) {}, true},
		"incremental":            {func(b *pgmedic.Backup, _ *pgmedic.Physical) { incremental(b) }, true},
		"no parent later":        {func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.SQL.ClockAt = nil }, true},
		"the stream's format":    {func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Format = pgmedic.PhysicalFormat }, false},
		"a stream":               {func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.SQL = nil }, false},
		"the server's manifest":  {func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.ServerManifestSHA256 = strings.Repeat("0b", 32) }, false},
		"its object":             {func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Objects = baseBackup().Objects }, false},
		"no hash of the list":    {func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.SQL.ListSHA256 = "" }, false},
		"a server never started": {func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.SQL.ServerStartedAt = time.Time{} }, false},
		"listed before that":     {func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.SQL.ServerStartedAt = p.SQL.ClockAt.AddDate(0, 0, 1) }, false},
		"a standby":              {func(b *pgmedic.Backup, p *pgmedic.Physical) { p.FromStandby, b.Server.Standby = true, true }, false},
		"cuts": {func(b *pgmedic.Backup, p *pgmedic.Physical) {
			incremental(b)
			p.Truncations = []pgmedic.Truncation{{Tablespace: 1663, Database: 5, Relation: 100, Block: 7}}
		}, false},
	} {
		b := sqlBackup()
		c.change(b, b.Physical)
		if err := b.Check(); (err == nil) != c.right || err != nil && pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("read by SQL, %s: %v", name, err)
		}
	}
}

// TestCheckPhysical: a manifest of a base backup that contradicts itself is damaged.
func TestCheckPhysical(t *testing.T) {
	b := baseBackup()
	if err := b.Check(); err != nil || b.Clean() {
		t.Fatalf("%v, clean: %t", err, b.Clean())
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var again pgmedic.Backup
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(&again, b) {
		t.Errorf("read back it is another one: %v", err)
	}
	twelve := baseBackup()
	twelve.Server.VersionNum, twelve.Physical.ServerManifestSHA256 = 120022, ""
	twelve.Objects = append(twelve.Objects[:2:2], twelve.Objects[3:]...)
	if err := twelve.Check(); err != nil {
		t.Errorf("of PostgreSQL 12, which makes no manifest: %v", err)
	}
	checkBySQL(t)
	for name, change := range map[string]func(*pgmedic.Backup, *pgmedic.Physical){
		"the format of a database's":           func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Format = pgmedic.ManifestFormat },
		"another method":                       func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Method = pgmedic.MethodParallel },
		"no such part":                         func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Physical = nil },
		"a database":                           func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Database.Name = "clinic" },
		"a table":                              func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Tables = []pgmedic.Table{{Schema: "s", Name: "t"}} },
		"no list of files":                     func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Objects = b.Objects[1:] },
		"two lists of files":                   func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Objects[3].Role = pgmedic.RoleFiles },
		"no server's manifest":                 func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Objects = append(b.Objects[:2], b.Objects[3:]...) },
		"globals":                              func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Objects[3].Role = pgmedic.RoleGlobals },
		"no system identifier":                 func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Server.SystemIdentifier = "" },
		"a system identifier that is none":     func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Server.SystemIdentifier = "x" },
		"encrypted by openssl":                 func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Seal.Encryption = "aes-256-cbc" },
		"no timeline":                          func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Timeline = 0 },
		"a timeline that goes back":            func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Timeline = 2 },
		"a start that is none":                 func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.StartLSN = "x" },
		"a stop before the start":              func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.StopLSN = "0/1000000" },
		"a checkpoint before the start":        func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.CheckpointLSN = "0/1000000" },
		"pages of another size":                func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.BlockBytes = 5000 },
		"files of half a page":                 func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.SegmentBytes = 12000 },
		"segments of another size":             func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.WALSegmentBytes = 3 << 20 },
		"no files":                             func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Files = 0 },
		"a negative size":                      func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.PlainBytes = -1 },
		"a tablespace that is larger than all": func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Tablespaces[0].SizeBytes = 5000 },
		"a tablespace twice":                   func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Tablespaces = append(p.Tablespaces, p.Tablespaces[0]) },
		"a tablespace nowhere":                 func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Tablespaces[0].Location = "" },
		"a database without a name":            func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Databases[0].Name = "" },
		"more bad pages than pages":            func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.PagesChecked = 0 },
		"bad pages without names":              func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.BadPages = 2 },
		"a bad page that is denied":            func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.BadPages = 0 },
		"a bad page for no reason":             func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.PageErrors[0].Why = "x" },
		"a bad page of no file":                func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.PageErrors[0].Path = "" },
		"no hash of the manifest":              func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.ServerManifestSHA256 = "" },
	} {
		b := baseBackup()
		change(b, b.Physical)
		if err := b.Check(); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("%s: %v", name, err)
		}
	}
	later := baseBackup()
	later.Physical.Kind = "differential"
	if err := later.Check(); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "update pgmedic") {
		t.Errorf("a kind of a later version: %v", err)
	}
}
