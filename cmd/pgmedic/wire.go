package main

import (
	"context"
	"os"

	"github.com/shirou/gopsutil/v4/mem"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// The parts that commands are made of. A command names in its declaration those that it
// uses, and with them what it can reach; each part names those that it uses itself.

// servers is how the configured server, its databases and its standbys are reached.
type servers struct{ job }

// stores opens the store of backups, and those of copies.
type stores struct{ job }

// keyring opens backups with the keys that this host has, says how new ones are sealed,
// and tells claims from proofs.
type keyring struct{ job }

// backups finds backups in a catalogue, as commands name them.
type backups struct {
	job
	servers servers
	keys    keyring
}

func newBackups(j job) backups { return backups{job: j, servers: servers{j}, keys: keyring{j}} }

// copier copies backups to one of the stores of copies.
type copier struct {
	job
	stores stores
	keys   keyring
}

func newCopier(j job) copier { return copier{job: j, stores: stores{j}, keys: keyring{j}} }

// retainer plans what retention keeps and deletes in the configured stores, and does it.
type retainer struct {
	job
	servers servers
	stores  stores
	keys    keyring
}

func newRetainer(j job) retainer {
	return retainer{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}}
}

// tools finds the client programs.
func (j job) tools() pgtool.Finder { return pgtool.Finder{Dirs: j.cfg.Postgres.BinDirs} }

// hostName is what this host is called in what it writes.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// backupOptions are those of the configuration.
func (j job) backupOptions(t postgres.Target, c *catalog.Catalog, how sealing) backup.Options {
	return backup.Options{
		Target: t, Maintenance: j.cfg.Database.MaintenanceDatabase, ServerName: j.cfg.Server,
		Catalog: c, Method: j.method(), Tools: j.tools(),
		Seal: how.options, Wraps: how.wraps, Signer: how.signer,
		Labels: j.cfg.Backup.Labels, LockTimeout: j.cfg.Backup.LockTimeout, MaxDuration: j.cfg.Backup.MaxDuration,
		Host: hostName(), Version: j.version, Logger: j.log, Now: j.now,
	}
}

// method is the configured way to take a backup of a database. Where base backups are
// configured, such as before a swap, it is the default one.
func (j job) method() backup.Method {
	if pgmedic.Method(j.cfg.Backup.Method) == pgmedic.MethodPlain {
		return backup.Plain{}
	}
	return backup.Parallel{Jobs: j.cfg.Backup.Jobs}
}

// restoreOptions are those of the configuration.
func (j job) restoreOptions(t postgres.Target, c *catalog.Catalog, b *pgmedic.Backup, key *seal.Key) restore.Options {
	return restore.Options{
		Catalog: c, Backup: b, Key: key, Target: t, Maintenance: j.cfg.Database.MaintenanceDatabase, Tools: j.tools(),
		Jobs: j.cfg.Backup.Jobs, ShowData: j.shownData(), Logger: j.log, Now: j.now,
	}
}

// drillOptions are those of the configuration, for a private server.
func (j job) drillOptions(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, key *seal.Key) drill.Options {
	d := j.cfg.Drill
	o := drill.Options{
		Catalog: c, Backup: b, Key: key, Tools: j.tools(), ServerDirs: j.cfg.Postgres.BinDirs, ScratchDir: d.ScratchDir,
		PreloadLibraries: d.PreloadLibraries, Jobs: j.cfg.Backup.Jobs, AssertionTimeout: d.AssertionTimeout,
		Host: hostName(), Version: j.version, ShowData: j.shownData(), Logger: j.log, Now: j.now,
	}
	if !d.Amcheck {
		o.SkipAmcheck = "left out by the configuration (drill.amcheck)"
	}
	for _, s := range d.Assertions {
		o.Assertions = append(o.Assertions, drill.Assertion{Name: s.Name, SQL: s.SQL, Expect: s.Expect, Min: s.Min, Max: s.Max})
	}
	// Where it can't be known the receipt does not say.
	if memory, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		o.MemoryBytes = int64(memory.Total)
	}
	return o
}
