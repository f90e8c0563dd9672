package inspect

import (
	"context"
	"runtime"

	"github.com/jackc/pgx/v5"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Stated is what the configuration states of the server's machine. Zero is nothing.
type Stated struct {
	MemoryMB, DiskMB int
}

// read adds what is known of the server's machine: what is stated, else what this
// machine says of itself where the server is surely on it. A Unix socket is; a port
// on this machine can be a tunnel or a container.
func (s Stated) read(ctx context.Context, conn *pgx.Conn, r *reading.Reading) {
	// What is judged by them.
	if !r.Wants(reading.SectionSize) && !r.Wants(reading.SectionSettings) {
		return
	}
	if s.MemoryMB > 0 {
		r.Host = &reading.Host{MemoryBytes: int64(s.MemoryMB) << 20, Source: "stated"}
	}
	s.addDisk(r)
	address := conn.PgConn().Conn().RemoteAddr()
	local := address != nil && address.Network() == "unix"
	unseen := "the connection is over a network, and what is at its other end can't be known: "
	if local {
		unseen = localHost(ctx, r)
	}
	skipUnknownHost(r, local, unseen)
}

// skipUnknownHost lists what of the server's machine is judged and could not be read.
func skipUnknownHost(r *reading.Reading, local bool, diskUnseen string) {
	where := "run the report on the server's machine, over its socket (--host FOLDER), or "
	if local {
		where = ""
	}
	if r.Wants(reading.SectionSize) && (r.Host == nil || r.Host.DiskBytes == 0) {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionSize, Query: "the disk that holds the data",
			Reason: diskUnseen + where + "state its size in report.server_disk_mb",
		})
	}
	if r.Wants(reading.SectionSettings) && (r.Host == nil || r.Host.MemoryBytes == 0) {
		reason := "the connection is over a network: "
		if local {
			reason = "this machine does not say: "
		}
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionSettings, Query: "the memory of the server's machine, which settings are compared with",
			Reason: reason + where + "state it in report.server_memory_mb",
		})
	}
}

// localHost reads this machine, which is the server's. Where its disk can't be read
// it says why.
func localHost(ctx context.Context, r *reading.Reading) (diskUnseen string) {
	host := reading.Host{CPUs: runtime.NumCPU(), Source: "local"}
	if memory, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		host.MemoryBytes = int64(min(memory.Total, 1<<62))
	}
	diskUnseen = "this role may not see data_directory: grant it pg_monitor, or "
	if folder, ok := r.Server.Setting("data_directory"); ok && folder != "" {
		usage, err := disk.UsageWithContext(ctx, folder)
		if err == nil {
			host.DiskBytes, host.DiskFreeBytes = int64(min(usage.Total, 1<<62)), int64(min(usage.Free, 1<<62))
		} else {
			diskUnseen = words.OneLine(err.Error()) + " (the server may be in a container): "
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

// FreeDisk measures how much is free now on the disk that holds the data directory of a
// server that was read, or says why that is not known.
func (s Stated) FreeDisk(ctx context.Context, conn *pgx.Conn, r *reading.Reading) (free int64, unknown string) {
	address := conn.PgConn().Conn().RemoteAddr()
	folder, known := r.Server.Setting("data_directory")
	switch {
	case s.DiskMB > 0 && r.Host != nil:
		return r.Host.DiskFreeBytes, ""
	case address == nil || address.Network() != "unix":
		return 0, "the connection is over a network: run it on the server's machine, over its socket (--host FOLDER), or state the size of the disk in report.server_disk_mb"
	case !known || folder == "":
		return 0, "this role may not see data_directory: grant it pg_monitor, or state the size of the disk in report.server_disk_mb"
	}
	usage, err := disk.UsageWithContext(ctx, folder)
	if err != nil {
		return 0, words.OneLine(err.Error()) + ": state the size of the disk in report.server_disk_mb"
	}
	return int64(min(usage.Free, 1<<62)), ""
}

// addDisk adds the disk that is stated, of which the databases and the WAL are known
// to take some.
func (s Stated) addDisk(r *reading.Reading) {
	if s.DiskMB == 0 || r.Size == nil {
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
		r.Host = &reading.Host{Source: "stated"}
	}
	r.Host.DiskBytes = int64(s.DiskMB) << 20
	r.Host.DiskFreeBytes = max(0, r.Host.DiskBytes-used)
}
