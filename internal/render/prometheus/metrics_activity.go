package prometheus

import (
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

func statementMetrics() []metricRow {
	of := func(name, help string, counter bool, read func(x *reading.Statements, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Counter: counter, Section: reading.SectionStatements, Help: help},
			read: part(func(r *reading.Reading) *reading.Statements { return r.Statements }, read)}
	}
	// The counters are of one query, what is known of the extension of another.
	counted := func(x *reading.Statements) bool { return x.Items != nil }
	each := func(name, help string, value func(x *reading.Statement) float64) metricRow {
		row := of(name, help, true, func(x *reading.Statements, put put) {
			n := 0
			for i := range x.Items {
				s := &x.Items[i]
				// The ids of other roles' statements are hidden from some.
				if s.QueryID == "" || n == statementSeries {
					continue
				}
				n++
				nested := ""
				if s.Toplevel != nil {
					nested = word(*s.Toplevel)
				}
				put(value(s), s.QueryID, s.Database, s.User, nested)
			}
		})
		row.Labels = []string{"queryid", "datname", "user", "toplevel"}
		return row
	}
	return []metricRow{
		of("pgmedic_statements_tracked", "Entries of pg_stat_statements.", false, func(x *reading.Statements, put put) {
			if counted(x) {
				put(float64(x.Total))
			}
		}),
		of("pgmedic_statements_max", "Maximum number of entries in pg_stat_statements.", false, func(x *reading.Statements, put put) {
			if x.Max > 0 {
				put(float64(x.Max))
			}
		}),
		of("pgmedic_statements_evictions_total", "Times that pg_stat_statements discarded its least used entries; from version 1.9 of the extension.", true,
			func(x *reading.Statements, put put) { known(put, x.Evicted) }),
		of("pgmedic_statements_calls_total", "Calls of all statements together.", true, func(x *reading.Statements, put put) {
			if counted(x) {
				put(float64(x.Calls))
			}
		}),
		of("pgmedic_statements_seconds_total", "Execution time of all statements together.", true, func(x *reading.Statements, put put) {
			if counted(x) {
				put(x.ExecSeconds)
			}
		}),
		each("pgmedic_statement_calls_total", "Calls of a statement; the 20 with the most execution time.",
			func(x *reading.Statement) float64 { return float64(x.Calls) }),
		each("pgmedic_statement_seconds_total", "Execution time of a statement.", func(x *reading.Statement) float64 { return x.ExecSeconds }),
		each("pgmedic_statement_plan_seconds_total", "Planning time of a statement, if it is tracked.",
			func(x *reading.Statement) float64 { return x.PlanSeconds }),
		each("pgmedic_statement_io_seconds_total", "I/O time of a statement; needs track_io_timing.",
			func(x *reading.Statement) float64 { return x.IOSeconds }),
		each("pgmedic_statement_rows_total", "Rows that a statement returned or changed.", func(x *reading.Statement) float64 { return float64(x.Rows) }),
		each("pgmedic_statement_hit_bytes_total", "Data that a statement found in shared buffers.", func(x *reading.Statement) float64 { return float64(x.HitBytes) }),
		each("pgmedic_statement_read_bytes_total", "Data that a statement read from outside shared buffers.",
			func(x *reading.Statement) float64 { return float64(x.ReadBytes) }),
		each("pgmedic_statement_temp_bytes_total", "Temporary file data that a statement read and wrote.",
			func(x *reading.Statement) float64 { return float64(x.TempBytes) }),
		each("pgmedic_statement_wal_bytes_total", "WAL that a statement wrote; from version 1.8 of the extension.",
			func(x *reading.Statement) float64 { return float64(x.WALBytes) }),
	}
}

func cacheMetrics() []metricRow {
	of := func(name, help string, read func(x *reading.Cache, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Counter: true, Section: reading.SectionCache, Help: help},
			read: part(func(r *reading.Reading) *reading.Cache { return r.Cache }, read)}
	}
	table := func(name, help string, value func(x *reading.TableCache) int64) metricRow {
		row := of(name, help, func(x *reading.Cache, put put) {
			for i := range x.Tables {
				put(float64(value(&x.Tables[i])), x.Tables[i].Schema, x.Tables[i].Name)
			}
		})
		row.Labels = []string{"schema", "table"}
		return row
	}
	// Without its own query, the section can be there for the list of tables.
	counted := func(x *reading.Cache) bool { return x.LifetimeHits+x.LifetimeReads > 0 }
	return []metricRow{
		of("pgmedic_cache_hits_total", "Blocks of the database found in shared_buffers.", func(x *reading.Cache, put put) {
			if counted(x) {
				put(float64(x.LifetimeHits))
			}
		}),
		of("pgmedic_cache_reads_total", "Blocks of the database not found in shared_buffers.", func(x *reading.Cache, put put) {
			if counted(x) {
				put(float64(x.LifetimeReads))
			}
		}),
		table("pgmedic_table_cache_hits_total", "Blocks of a table, its indexes and TOAST found in shared buffers; the 20 tables with the most reads.",
			(*reading.TableCache).Hits),
		table("pgmedic_table_cache_reads_total", "Blocks of a table, its indexes and TOAST not found in shared buffers.",
			(*reading.TableCache).Reads),
	}
}

// ofTransactions makes a metric of what the database's sessions did.
func ofTransactions(name, help string, labels []string, counter bool, read func(x *reading.Transactions, put put)) metricRow {
	return metricRow{Metric: Metric{Name: name, Counter: counter, Section: reading.SectionTransactions, Labels: labels, Help: help},
		read: part(func(r *reading.Reading) *reading.Transactions { return r.Transactions }, read)}
}

func transactionMetrics() []metricRow {
	counter := func(name, help string, value func(x *reading.Transactions) float64) metricRow {
		return ofTransactions(name, help, nil, true, func(x *reading.Transactions, put put) { put(value(x)) })
	}
	return []metricRow{
		counter("pgmedic_transactions_committed_total", "Transactions committed.", func(x *reading.Transactions) float64 { return float64(x.Commits) }),
		counter("pgmedic_transactions_rolled_back_total", "Transactions rolled back.", func(x *reading.Transactions) float64 { return float64(x.Rollbacks) }),
		ofTransactions("pgmedic_rows_total", "Rows by operation: returned by scans, fetched, inserted, updated, deleted.", []string{"operation"}, true,
			func(x *reading.Transactions, put put) {
				put(float64(x.Returned), "returned")
				put(float64(x.Fetched), "fetched")
				put(float64(x.Inserted), "inserted")
				put(float64(x.Updated), "updated")
				put(float64(x.Deleted), "deleted")
			}),
		counter("pgmedic_deadlocks_total", "Deadlocks.", func(x *reading.Transactions) float64 { return float64(x.Deadlocks) }),
		counter("pgmedic_temp_files_total", "Temporary files written by queries.", func(x *reading.Transactions) float64 { return float64(x.TempFiles) }),
		counter("pgmedic_temp_bytes_total", "Data that queries wrote to temporary files.", func(x *reading.Transactions) float64 { return float64(x.TempBytes) }),
		counter("pgmedic_block_read_seconds_total", "Time spent reading blocks; needs track_io_timing.", func(x *reading.Transactions) float64 { return x.ReadSeconds }),
		counter("pgmedic_block_write_seconds_total", "Time spent writing blocks; needs track_io_timing.", func(x *reading.Transactions) float64 { return x.WriteSeconds }),
		ofTransactions("pgmedic_checksum_failures_total", "Data pages with a wrong checksum; absent if checksums are off.", nil, true,
			func(x *reading.Transactions, put put) { known(put, x.ChecksumFailures) }),
		ofTransactions("pgmedic_stats_reset_timestamp_seconds", "When the database's statistics were last reset; absent if never.", nil, false,
			func(x *reading.Transactions, put put) { moment(put, x.StatsReset) }),
	}
}

func sessionMetrics() []metricRow {
	return []metricRow{
		ofTransactions("pgmedic_sessions_total", "Sessions started; from PostgreSQL 14.", nil, true,
			func(x *reading.Transactions, put put) { known(put, x.Sessions) }),
		ofTransactions("pgmedic_sessions_ended_total", "Sessions that ended other than by the client: abandoned, fatal, killed; from PostgreSQL 14.",
			[]string{"reason"}, true, func(x *reading.Transactions, put put) {
				known(put, x.SessionsAbandoned, "abandoned")
				known(put, x.SessionsFatal, "fatal")
				known(put, x.SessionsKilled, "killed")
			}),
		ofTransactions("pgmedic_session_seconds_total", "Time spent in sessions, updated when a session changes state or ends; from PostgreSQL 14.", nil, true,
			func(x *reading.Transactions, put put) { known(put, x.SessionSeconds) }),
		ofTransactions("pgmedic_session_active_seconds_total", "Time spent executing statements; from PostgreSQL 14.", nil, true,
			func(x *reading.Transactions, put put) { known(put, x.ActiveSeconds) }),
		ofTransactions("pgmedic_session_idle_in_transaction_seconds_total", "Time that sessions spent idle in a transaction; from PostgreSQL 14.", nil, true,
			func(x *reading.Transactions, put put) { known(put, x.IdleInSeconds) }),
	}
}

func checkpointMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Checkpoints, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Counter: true, Section: reading.SectionCheckpoints, Labels: labels, Help: help},
			read: part(func(r *reading.Reading) *reading.Checkpoints { return r.Checkpoints }, read)}
	}
	return []metricRow{
		of("pgmedic_checkpoints_total", "Checkpoints by kind: timed or requested.", []string{"kind"},
			func(x *reading.Checkpoints, put put) {
				put(float64(x.Timed), "timed")
				put(float64(x.Requested), "requested")
			}),
		of("pgmedic_checkpoint_write_seconds_total", "Time that checkpoints spent writing.", nil, func(x *reading.Checkpoints, put put) { put(x.WriteSeconds) }),
		of("pgmedic_checkpoint_sync_seconds_total", "Time that checkpoints spent flushing to disk.", nil, func(x *reading.Checkpoints, put put) { put(x.SyncSeconds) }),
		of("pgmedic_buffers_written_bytes_total", "Data written from shared buffers, by kind of process; sessions' own writes until PostgreSQL 16.", []string{"by"},
			func(x *reading.Checkpoints, put put) {
				put(float64(x.CheckpointBytes), "checkpointer")
				put(float64(x.BgwriterBytes), "bgwriter")
				known(put, x.BackendBytes, "backend")
			}),
		of("pgmedic_bgwriter_stops_total", "Times that the background writer stopped at its limit.", nil,
			func(x *reading.Checkpoints, put put) { put(float64(x.BgwriterStops)) }),
	}
}

func walMetrics() []metricRow {
	of := func(name, help string, value func(x *reading.WAL) int64) metricRow {
		return metricRow{Metric: Metric{Name: name, Counter: true, Section: reading.SectionCheckpoints, Help: help + "; from PostgreSQL 14."},
			read: func(s source, put put) {
				if s.reading.WAL != nil {
					put(float64(value(s.reading.WAL)))
				}
			}}
	}
	return []metricRow{
		of("pgmedic_wal_records_total", "WAL records generated", func(x *reading.WAL) int64 { return x.Records }),
		of("pgmedic_wal_full_page_images_total", "Full page images in WAL", func(x *reading.WAL) int64 { return x.FullPageImages }),
		of("pgmedic_wal_bytes_total", "WAL generated", func(x *reading.WAL) int64 { return x.Bytes }),
		of("pgmedic_wal_buffers_full_total", "Times that wal_buffers was full", func(x *reading.WAL) int64 { return x.BuffersFull }),
	}
}

func ioMetrics() []metricRow {
	of := func(name, help string, value func(x *reading.IO) float64) metricRow {
		return metricRow{Metric: Metric{Name: name, Counter: true, Section: reading.SectionCheckpoints,
			Labels: []string{"backend", "object", "context"}, Help: help + "; from PostgreSQL 16."},
			read: func(s source, put put) {
				for i := range s.reading.IO {
					x := &s.reading.IO[i]
					put(value(x), x.Backend, x.Object, x.Context)
				}
			}}
	}
	return []metricRow{
		of("pgmedic_io_read_bytes_total", "Data read by a kind of process", func(x *reading.IO) float64 { return float64(x.ReadBytes) }),
		of("pgmedic_io_write_bytes_total", "Data written by a kind of process", func(x *reading.IO) float64 { return float64(x.WriteBytes) }),
		of("pgmedic_io_extend_bytes_total", "Data by which a kind of process extended files", func(x *reading.IO) float64 { return float64(x.Extended) }),
		of("pgmedic_io_hits_total", "Blocks found in shared buffers", func(x *reading.IO) float64 { return float64(x.Hits) }),
		of("pgmedic_io_reads_total", "Read operations", func(x *reading.IO) float64 { return float64(x.Reads) }),
		of("pgmedic_io_writes_total", "Write operations", func(x *reading.IO) float64 { return float64(x.Writes) }),
		of("pgmedic_io_evictions_total", "Blocks evicted to make room for others", func(x *reading.IO) float64 { return float64(x.Evictions) }),
		of("pgmedic_io_fsyncs_total", "Flushes to disk", func(x *reading.IO) float64 { return float64(x.Fsyncs) }),
		of("pgmedic_io_read_seconds_total", "Time spent reading; needs track_io_timing", func(x *reading.IO) float64 { return x.ReadTime }),
		of("pgmedic_io_write_seconds_total", "Time spent writing; needs track_io_timing", func(x *reading.IO) float64 { return x.WriteTime }),
	}
}

func waitMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Waits, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Section: reading.SectionWaits, Labels: labels, Help: help},
			read: func(s source, put put) {
				if w := s.reading.Waits; w != nil && w.Samples > 0 {
					read(w, put)
				}
			}}
	}
	return []metricRow{
		of("pgmedic_active_sessions", "Average number of active sessions over the watched interval; only with --interval.", nil,
			func(x *reading.Waits, put put) { put(x.ActiveSessions) }),
		of("pgmedic_wait_sessions", "Average number of active sessions by wait event; both labels are empty for sessions that were not waiting. Only with --interval.",
			[]string{"type", "event"}, func(x *reading.Waits, put put) {
				for _, e := range x.Events {
					put(float64(e.Seen)/float64(x.Samples), e.Type, e.Event)
				}
			}),
	}
}

func securityMetrics() []metricRow {
	of := func(name, help string, read func(x *reading.Security, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Section: reading.SectionSettings, Help: help},
			read: part(func(r *reading.Reading) *reading.Security { return r.Security }, read)}
	}
	return []metricRow{
		of("pgmedic_superuser_sessions", "Client sessions of superusers, without this collection and backups.", func(x *reading.Security, put put) {
			if x.Superusers == nil {
				return
			}
			n := 0
			for _, u := range x.Superusers {
				n += u.Connections
			}
			put(float64(n))
		}),
		of("pgmedic_unencrypted_sessions", "Client sessions over a network without TLS.", func(x *reading.Security, put put) { known(put, x.Unencrypted) }),
		of("pgmedic_md5_password_roles", "Roles that can log in and whose password is stored as MD5.", func(x *reading.Security, put put) { known(put, x.MD5Roles) }),
	}
}
