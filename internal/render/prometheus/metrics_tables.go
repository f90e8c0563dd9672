package prometheus

import (
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

func limitMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Limits, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Section: reading.SectionLimits, Labels: labels, Help: help},
			read: part(func(r *reading.Reading) *reading.Limits { return r.Limits }, read)}
	}
	return []metricRow{
		of("pgmedic_database_xid_age", "Age of a database's oldest unfrozen transaction ID; the 50 oldest databases.", []string{"datname"},
			func(x *reading.Limits, put put) {
				for _, d := range first(x.Databases, databaseSeries) {
					put(float64(d.XIDAge), d.Name)
				}
			}),
		of("pgmedic_database_multixact_age", "Age of a database's oldest multixact ID; the 50 oldest databases.", []string{"datname"},
			func(x *reading.Limits, put put) {
				for _, d := range first(x.Databases, databaseSeries) {
					put(float64(d.MultiXactAge), d.Name)
				}
			}),
		of("pgmedic_wraparound_used_ratio", "Share of the transaction or multixact IDs that the oldest database has used up; at 1 the server has refused writes.", nil,
			func(x *reading.Limits, put put) {
				if len(x.Databases) > 0 {
					put(float64(max(x.Databases[0].XIDAge, x.Databases[0].MultiXactAge)) / (1 << 31))
				}
			}),
		of("pgmedic_table_xid_age", "Age of a table's oldest unfrozen transaction ID; the 20 oldest tables.", []string{"schema", "table"},
			func(x *reading.Limits, put put) {
				for _, t := range x.Tables {
					put(float64(t.XIDAge), t.Schema, t.Name)
				}
			}),
		of("pgmedic_sequences", "Sequences of the database.", nil,
			func(x *reading.Limits, put put) {
				if x.Sequences != nil {
					put(float64(x.SequencesTotal))
				}
			}),
		of("pgmedic_sequence_used_ratio", "Share of a sequence's range that is used up, limited by its column's type; the 50 highest.", []string{"schema", "sequence"},
			func(x *reading.Limits, put put) {
				for _, s := range x.Sequences {
					put(s.UsedPercent/100, s.Schema, s.Name)
				}
			}),
		of("pgmedic_vacuum_held_back_xid_age", "Age of the oldest transaction that keeps VACUUM from removing dead rows, by kind of holder.", []string{"kind"},
			func(x *reading.Limits, put put) {
				for _, h := range x.Holders {
					put(float64(max(h.XIDAge, h.CatalogXIDAge)), h.Kind)
				}
			}),
		of("pgmedic_prepared_transaction_oldest_seconds", "Age of the oldest prepared transaction; 0 if there is none.", nil,
			func(x *reading.Limits, put put) {
				if x.Prepared == nil {
					return
				}
				oldest := 0.0
				for _, p := range x.Prepared {
					oldest = max(oldest, p.AgeSeconds)
				}
				put(oldest)
			}),
		of("pgmedic_workers_used", "Processes or slots in use, by kind.", []string{"kind"},
			func(x *reading.Limits, put put) {
				for _, w := range x.Workers {
					put(float64(w.Used), w.Kind)
				}
			}),
		of("pgmedic_workers_max", "Limit on processes or slots, by kind.", []string{"kind"},
			func(x *reading.Limits, put put) {
				for _, w := range x.Workers {
					put(float64(w.Max), w.Kind)
				}
			}),
	}
}

// ofTables makes a metric of all tables together.
func ofTables(name, help string, labels []string, read func(x *reading.Tables, put put)) metricRow {
	return metricRow{Metric: Metric{Name: name, Section: reading.SectionTables, Labels: labels, Help: help},
		read: part(func(r *reading.Reading) *reading.Tables { return r.Tables }, read)}
}

// eachTable makes a metric of the tables that are counted by name.
func eachTable(name, help string, counter bool, read func(x *reading.Table, put put, labels ...string)) metricRow {
	row := ofTables(name, help, []string{"schema", "table"}, func(x *reading.Tables, put put) {
		for i := range x.Items {
			t := &x.Items[i]
			read(t, put, t.Schema, t.Name)
		}
	})
	row.Counter = counter
	return row
}

func tableMetrics() []metricRow {
	gauge := func(name, help string, read func(x *reading.Table, put put, labels ...string)) metricRow {
		return eachTable(name, help, false, read)
	}
	return []metricRow{
		ofTables("pgmedic_tables", "Tables of the database.", nil, func(x *reading.Tables, put put) {
			if x.Items != nil {
				put(float64(x.Total))
			}
		}),
		ofTables("pgmedic_tables_without_primary_key", "Tables without a primary key.", nil, func(x *reading.Tables, put put) {
			if x.WithoutPrimaryKey != nil {
				put(float64(x.WithoutPrimaryKeyTotal))
			}
		}),
		ofTables("pgmedic_vacuums_running", "VACUUMs running now.", nil, func(x *reading.Tables, put put) {
			if x.Vacuums != nil {
				put(float64(len(x.Vacuums)))
			}
		}),
		gauge("pgmedic_table_bytes", "Total size of a table with indexes and TOAST; if it could not be measured, the last estimate of its own size.",
			func(x *reading.Table, put put, labels ...string) { put(float64(x.Bytes()), labels...) }),
		gauge("pgmedic_table_heap_bytes", "Size of a table without indexes and TOAST.", func(x *reading.Table, put put, labels ...string) {
			if x.Exact {
				put(float64(x.TableBytes), labels...)
			}
		}),
		gauge("pgmedic_table_index_bytes", "Size of a table's indexes.", func(x *reading.Table, put put, labels ...string) {
			if x.Exact {
				put(float64(x.IndexBytes), labels...)
			}
		}),
		gauge("pgmedic_table_toast_bytes", "Size of a table's TOAST data.", func(x *reading.Table, put put, labels ...string) {
			if x.Exact {
				put(float64(x.ToastBytes), labels...)
			}
		}),
		gauge("pgmedic_table_bloat_bytes", "Estimated bloat of a table: empty space and dead rows.", func(x *reading.Table, put put, labels ...string) {
			if x.Bloat != nil {
				put(float64(x.Bloat.Bytes), labels...)
			}
		}),
		gauge("pgmedic_table_live_rows", "Live rows of a table, as the server's statistics estimate them.",
			func(x *reading.Table, put put, labels ...string) { put(float64(x.LiveTuples), labels...) }),
		gauge("pgmedic_table_dead_rows", "Dead rows of a table, as the server's statistics estimate them.",
			func(x *reading.Table, put put, labels ...string) { put(float64(x.DeadTuples), labels...) }),
		gauge("pgmedic_table_last_vacuum_timestamp_seconds", "When a table was last vacuumed, by hand or by autovacuum; absent if never.",
			func(x *reading.Table, put put, labels ...string) {
				moment(put, later(x.LastVacuum, x.LastAutovacuum), labels...)
			}),
		gauge("pgmedic_table_last_analyze_timestamp_seconds", "When a table was last analyzed, by hand or by autovacuum; absent if never.",
			func(x *reading.Table, put put, labels ...string) {
				moment(put, later(x.LastAnalyze, x.LastAutoanalyze), labels...)
			}),
	}
}

// later is the later of two moments, each of which may never have been.
func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

func tableCounters() []metricRow {
	counter := func(name, help string, value func(x *reading.Table) int64) metricRow {
		return eachTable(name, help, true, func(x *reading.Table, put put, labels ...string) { put(float64(value(x)), labels...) })
	}
	return []metricRow{
		counter("pgmedic_table_seq_scans_total", "Sequential scans of a table.", func(x *reading.Table) int64 { return x.SeqScans }),
		counter("pgmedic_table_seq_rows_read_total", "Rows read by sequential scans of a table.", func(x *reading.Table) int64 { return x.SeqTuplesRead }),
		counter("pgmedic_table_index_scans_total", "Index scans of a table.", func(x *reading.Table) int64 { return x.IdxScans }),
		counter("pgmedic_table_rows_inserted_total", "Rows inserted into a table.", func(x *reading.Table) int64 { return x.InsertedTuples }),
		counter("pgmedic_table_rows_updated_total", "Rows of a table updated.", func(x *reading.Table) int64 { return x.UpdatedTuples }),
		counter("pgmedic_table_rows_hot_updated_total", "Rows of a table updated without new index entries.",
			func(x *reading.Table) int64 { return x.HotUpdatedTuples }),
		counter("pgmedic_table_rows_deleted_total", "Rows deleted from a table.", func(x *reading.Table) int64 { return x.DeletedTuples }),
	}
}

func indexMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Indexes, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Section: reading.SectionIndexes, Labels: labels, Help: help},
			read: part(func(r *reading.Reading) *reading.Indexes { return r.Indexes }, read)}
	}
	// The numbers of all indexes and the largest are of one query.
	all := func(name, help string, value func(x *reading.Indexes) float64) metricRow {
		return of(name, help, nil, func(x *reading.Indexes, put put) {
			if x.Largest != nil {
				put(value(x))
			}
		})
	}
	named := []string{"schema", "index", "table"}
	scans := of("pgmedic_index_scans_total", "Scans of an index; the 20 largest indexes.", named, func(x *reading.Indexes, put put) {
		for _, i := range x.Largest {
			put(float64(i.Scans), i.Schema, i.Name, i.Table)
		}
	})
	scans.Counter = true
	return []metricRow{
		all("pgmedic_indexes", "Indexes of the database.", func(x *reading.Indexes) float64 { return float64(x.Total) }),
		all("pgmedic_indexes_unused", "Indexes that no scan has used and that enforce no uniqueness.",
			func(x *reading.Indexes) float64 { return float64(x.UnusedTotal) }),
		all("pgmedic_indexes_invalid", "Invalid indexes, at most 50.", func(x *reading.Indexes) float64 { return float64(len(x.Invalid)) }),
		of("pgmedic_indexes_redundant", "Indexes made redundant by another index, at most 50.", nil, func(x *reading.Indexes, put put) {
			if x.Redundant != nil {
				put(float64(len(x.Redundant)))
			}
		}),
		of("pgmedic_foreign_keys_without_index", "Foreign keys without a supporting index.", nil, func(x *reading.Indexes, put put) {
			if x.ForeignKeysWithoutIndex != nil {
				put(float64(x.ForeignKeysWithoutIndexTotal))
			}
		}),
		of("pgmedic_index_bytes", "Size of an index as last estimated: the 20 largest, and the others together.", named,
			func(x *reading.Indexes, put put) {
				rest := x.EstimatedBytes
				for _, i := range x.Largest {
					put(float64(i.EstimatedBytes), i.Schema, i.Name, i.Table)
					rest -= i.EstimatedBytes
				}
				if x.Total > len(x.Largest) && x.Largest != nil {
					put(float64(rest), other, other, other)
				}
			}),
		of("pgmedic_index_bloat_bytes", "Estimated empty space in an index; the 20 largest indexes.", named,
			func(x *reading.Indexes, put put) {
				for _, i := range x.Largest {
					known(put, i.BloatBytes, i.Schema, i.Name, i.Table)
				}
			}),
		scans,
	}
}

func sizeMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(r *reading.Reading, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Section: reading.SectionSize, Labels: labels, Help: help},
			read: func(s source, put put) { read(s.reading, put) }}
	}
	host := func(name, help string, value func(h *reading.Host) int64) metricRow {
		row := of(name, help, nil, func(r *reading.Reading, put put) {
			if r.Host != nil && value(r.Host) > 0 && r.Wants(reading.SectionSize) {
				put(float64(value(r.Host)))
			}
		})
		row.once = true
		return row
	}
	return []metricRow{
		of("pgmedic_database_bytes", "Size of the database; with --all-databases, also of the others.", nil, func(r *reading.Reading, put put) {
			if r.Size != nil && r.Size.DatabaseBytes > 0 {
				put(float64(r.Size.DatabaseBytes))
			}
		}),
		host("pgmedic_host_memory_bytes", "Memory of the machine, if known.", func(h *reading.Host) int64 { return h.MemoryBytes }),
		host("pgmedic_disk_bytes", "Size of the disk that holds the data, if known.", func(h *reading.Host) int64 { return h.DiskBytes }),
		{once: true, Metric: Metric{Name: "pgmedic_disk_free_bytes", Section: reading.SectionSize,
			Help: "Free space on the disk that holds the data, if known."},
			read: func(s source, put put) {
				if h := s.reading.Host; h != nil && h.DiskBytes > 0 && s.reading.Wants(reading.SectionSize) {
					put(float64(h.DiskFreeBytes))
				}
			}},
	}
}
