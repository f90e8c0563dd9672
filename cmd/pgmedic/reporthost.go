package main

import (
	"context"
	"runtime"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/pgmedic/pgmedic/internal/monitor"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// readHost adds what is known of the server's machine: what the configuration
// states, else what this machine says of itself where the server is surely on
// it. A Unix socket is; a port on this machine can be a tunnel or a container.
func (a *app) readHost(ctx context.Context, conn *pgx.Conn, r *monitor.Reading) {
	// What is judged by them.
	if !r.Wants(monitor.SectionSize) && !r.Wants(monitor.SectionSettings) {
		return
	}
	if mb := a.cfg.Report.ServerMemoryMB; mb > 0 {
		r.Host = &monitor.Host{MemoryBytes: int64(mb) << 20, Source: "stated"}
	}
	a.statedDisk(r)
	address := conn.PgConn().Conn().RemoteAddr()
	local := address != nil && address.Network() == "unix"
	unseen := "the connection is over a network, and what is at its other end can't be known: "
	if local {
		unseen = localHost(ctx, r)
	}
	skipUnknownHost(r, local, unseen)
}

// skipUnknownHost lists what of the server's machine is judged and could not be read.
func skipUnknownHost(r *monitor.Reading, local bool, diskUnseen string) {
	where := "run the report on the server's machine, over its socket (--host FOLDER), or "
	if local {
		where = ""
	}
	if r.Wants(monitor.SectionSize) && (r.Host == nil || r.Host.DiskBytes == 0) {
		r.Skipped = append(r.Skipped, monitor.Skipped{
			Section: monitor.SectionSize, Query: "the disk that holds the data",
			Reason: diskUnseen + where + "state its size in report.server_disk_mb",
		})
	}
	if r.Wants(monitor.SectionSettings) && (r.Host == nil || r.Host.MemoryBytes == 0) {
		reason := "the connection is over a network: "
		if local {
			reason = "this machine does not say: "
		}
		r.Skipped = append(r.Skipped, monitor.Skipped{
			Section: monitor.SectionSettings, Query: "the memory of the server's machine, which settings are compared with",
			Reason: reason + where + "state it in report.server_memory_mb",
		})
	}
}

// localHost reads this machine, which is the server's. Where its disk can't be read
// it says why.
func localHost(ctx context.Context, r *monitor.Reading) (diskUnseen string) {
	host := monitor.Host{CPUs: runtime.NumCPU(), Source: "local"}
	if memory, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		host.MemoryBytes = int64(min(memory.Total, 1<<62))
	}
	diskUnseen = "this role may not see data_directory: grant it pg_monitor, or "
	if folder, ok := r.Server.Setting("data_directory"); ok && folder != "" {
		usage, err := disk.UsageWithContext(ctx, folder)
		if err == nil {
			host.DiskBytes, host.DiskFreeBytes = int64(min(usage.Total, 1<<62)), int64(min(usage.Free, 1<<62))
		} else {
			diskUnseen = oneLine(err.Error()) + " (the server may be in a container): "
		}
	}
	if r.Host != nil {
		host.Source = r.Host.Source
		if r.Host.MemoryBytes > 0 {
			host.MemoryBytes = r.Host.MemoryBytes
		}
		if r.Host.DiskBytes > 0 {
			host.DiskBytes, host.DiskFreeBytes = r.Host.DiskBytes, r.Host.DiskFreeBytes
		}
	}
	r.Host = &host
	return diskUnseen
}

// statedDisk adds the disk that the configuration states, of which the databases
// and the WAL are known to take some.
func (a *app) statedDisk(r *monitor.Reading) {
	mb := a.cfg.Report.ServerDiskMB
	if mb == 0 || r.Size == nil {
		return
	}
	used := int64(0)
	for _, d := range r.Size.Databases {
		used += d.Bytes
	}
	for _, k := range r.Size.Kept {
		if k.Bytes != nil {
			used += *k.Bytes
		}
	}
	if r.Replication != nil && r.Replication.WALBytes != nil {
		used += *r.Replication.WALBytes
	}
	if r.Host == nil {
		r.Host = &monitor.Host{Source: "stated"}
	}
	r.Host.DiskBytes = int64(mb) << 20
	r.Host.DiskFreeBytes = max(0, r.Host.DiskBytes-used)
}

// connectable leaves out the databases that the role may not connect to, and lists
// them as skipped: the server would log each refusal.
func (a *app) connectable(ctx context.Context, conn *pgx.Conn, r *monitor.Reading, names []string) ([]string, error) {
	r.Cost.Queries, r.Cost.Statements = r.Cost.Queries+1, r.Cost.Statements+1
	rows, err := conn.Query(ctx, `SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')`)
	if err != nil {
		return nil, postgres.Wrap(err, "read which databases the role may connect to")
	}
	may, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, postgres.Wrap(err, "read which databases the role may connect to")
	}
	return slices.DeleteFunc(names, func(name string) bool {
		if slices.Contains(may, name) {
			return false
		}
		r.Skipped = append(r.Skipped, monitor.Skipped{
			Section: monitor.SectionOverview, Query: "database " + oneLine(name), Reason: "this role lacks CONNECT on it",
		})
		return true
	}), nil
}

// otherDatabases looks at the server's other databases, one after the other. One
// that can't be read is listed as skipped.
func (a *app) otherDatabases(ctx context.Context, r *monitor.Reading, opts monitor.CollectOptions, names []string, connect func(name string) (*pgx.Conn, func(), error)) error {
	opts.DatabaseOnly, opts.Interval = true, 0
	for _, name := range names {
		if name == r.Database {
			continue
		}
		other, err := func() (*monitor.Reading, error) {
			conn, closed, err := connect(name)
			if err != nil {
				return nil, err
			}
			defer closed()
			return monitor.Collect(ctx, conn, opts)
		}()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.Skipped = append(r.Skipped, monitor.Skipped{
				Section: monitor.SectionOverview, Query: "database " + oneLine(name), Reason: oneLine(err.Error()),
			})
			continue
		}
		if err := a.readReplicas(ctx, other, opts); err != nil {
			return err
		}
		r.Databases = append(r.Databases, other)
		r.Cost.Queries += other.Cost.Queries
		r.Cost.Statements += other.Cost.Statements + statementsOfConnect
		r.Cost.Connections += other.Cost.Connections
		r.Cost.Seconds += other.Cost.Seconds
	}
	return nil
}
