package prometheus

import "github.com/pgmedic/pgmedic/internal/monitor/reading"

// recoveryMetrics are about the WAL of the server that is stored, and the moments to which
// it recovers the server. Without WAL there are none.
func recoveryMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Recovery, put put)) metricRow {
		return metricRow{once: true, Metric: Metric{Name: name, Section: reading.SectionBackups, Labels: labels, Help: help},
			read: part(func(r *reading.Reading) *reading.Recovery { return r.Recovery }, read)}
	}
	return []metricRow{
		of("pgmedic_wal_state", "State of the stored WAL: ok, behind, unknown, broken or none; always 1. Absent where no WAL is stored and none is to be.", []string{"state"},
			func(x *reading.Recovery, put put) { put(1, x.State) }),
		of("pgmedic_wal_stored_lag_bytes", "WAL that the server was last seen to have and that is not stored.", nil,
			func(x *reading.Recovery, put put) { put(float64(x.LagBytes)) }),
		of("pgmedic_wal_gaps", "Ranges of WAL that are missing between WAL that is stored.", nil,
			func(x *reading.Recovery, put put) { put(float64(x.Gaps)) }),
		of("pgmedic_recoverable_from_timestamp_seconds", "The moment, by the server's clock, from which on any moment can be recovered from a base backup in the store; absent if there is none.", nil,
			func(x *reading.Recovery, put put) { moment(put, x.From) }),
		of("pgmedic_recoverable_until_timestamp_seconds", "The moment, by the server's clock, up to which any moment can be recovered from a base backup in the store; absent if there is none.", nil,
			func(x *reading.Recovery, put put) { moment(put, x.Until) }),
		of("pgmedic_proven_until_timestamp_seconds", "The newest moment, by the server's clock, that a drill has proven the server can be recovered to; absent if there is none.", nil,
			func(x *reading.Recovery, put put) {
				if x.Proven != nil {
					moment(put, x.Proven.Until)
				}
			}),
	}
}
