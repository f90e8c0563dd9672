package judge

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// setting makes a finding about a setting, with a fix that a reload or a
// restart puts into effect.
func (a *analysis) setting(id string, severity pgmedic.Severity, name, suggested, summary, risk string, more ...pgmedic.Evidence) {
	now, ok := a.reading.Server.Setting(name)
	if !ok {
		return
	}
	f := pgmedic.Finding{
		ID: id, Section: reading.SectionSettings, Severity: severity, Object: name, Summary: summary, Risk: risk,
		Evidence: append([]pgmedic.Evidence{evidenceText("current", settingText(a.reading.Server, name, now)), evidenceText("suggested", suggested)}, more...),
	}
	if suggested != "" {
		f.Fix = fmt.Sprintf("ALTER SYSTEM SET %s = %s;\nSELECT pg_catalog.pg_reload_conf();", name, sqltext.PrintableLiteral(suggested))
	}
	a.add(0, f)
}

// settingText writes a setting's value with its unit.
func settingText(s reading.Server, name, value string) string {
	for _, x := range s.Settings {
		if x.Name != name || x.Unit == "" {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return value
		}
		for unit, bytes := range map[string]int64{"B": 1, "kB": 1 << 10, "8kB": 8 << 10, "MB": 1 << 20} {
			if x.Unit == unit {
				return words.Size(n * bytes)
			}
		}
		return value + " " + x.Unit
	}
	return value
}

// isOff reports whether a setting was read and is off.
func (a *analysis) isOff(name string) bool {
	value, ok := a.reading.Server.Setting(name)
	return ok && value == "off"
}

// settings finds settings that can lose data, or that don't fit.
func (a *analysis) settings() {
	const reload = "Takes effect at once."
	if a.isOff("fsync") {
		a.setting("fsync-off", pgmedic.SeverityCritical, "fsync", "on",
			"The server doesn't wait for the disk: a crash of the machine can leave every database on it beyond repair.",
			reload+" Commits take as long as the disk does. What was written before is on disk only after a sync of the machine.")
	}
	if a.isOff("full_page_writes") {
		a.setting("full-page-writes-off", pgmedic.SeverityCritical, "full_page_writes", "on",
			"A page that a crash tears can't be repaired from WAL: data may be lost. Only file systems that never tear pages may have it off.",
			reload+" More WAL is written after each checkpoint.")
	}
	if a.isOff("autovacuum") {
		a.setting("autovacuum-off", pgmedic.SeverityWarn, "autovacuum", "on",
			"Nothing removes dead rows or refreshes the planner's statistics by itself.",
			reload+" It may have much to do at first, and works at a bounded rate.")
	}
	if a.isOff("track_counts") {
		a.setting("track-counts-off", pgmedic.SeverityWarn, "track_counts", "on",
			"Nothing is counted: autovacuum doesn't know which tables need it, and neither does this report.", reload)
	}
	if a.isOff("data_checksums") {
		a.setting("checksums-off", pgmedic.SeverityInfo, "data_checksums", "",
			"Pages have no checksums: a disk that returns wrong data is not noticed.",
			"There is no fix to paste: stop the server and run pg_checksums --enable, which writes every page, or restore a backup into a "+
				"cluster that was made with checksums (the default from PostgreSQL 18).")
	}
	for _, s := range a.reading.Server.Settings {
		if s.PendingRestart {
			a.setting("restart-pending", pgmedic.SeverityInfo, s.Name, "",
				"Its new value in the configuration takes effect at the next restart only.",
				"There is no fix to paste: restart the server when it suits. A value that is wrong shows only then.")
		}
	}
	a.memory()
	if cost := numberSetting(&a.reading.Server, "random_page_cost", 0); cost == 4 {
		a.setting("random-page-cost-default", pgmedic.SeverityInfo, "random_page_cost", "1.1",
			"It is the default for spinning disks; with it the planner shuns indexes on SSDs.",
			reload+" Plans change, mostly towards indexes. Leave it where the data is on spinning disks. The value is the one that "+
				"hosters set for SSDs.")
	}
}

// memory finds memory settings that nobody has fitted to the machine. The
// machine's memory is known or not; it is never guessed.
func (a *analysis) memory() {
	s := &a.reading.Server
	block := numberSetting(s, "block_size", 8192)
	shared := int64(numberSetting(s, "shared_buffers", 0) * block)
	if h := a.reading.Host; h != nil && h.MemoryBytes > 0 && shared > 0 {
		known := []pgmedic.Evidence{evidence("memory_bytes", h.MemoryBytes), evidenceText("memory_source", h.Source)}
		share := 100 * float64(shared) / float64(h.MemoryBytes)
		suggested := megabytes(h.MemoryBytes / 4)
		const formula = "A quarter of the memory is what PostgreSQL's manual starts from (Resource Consumption, shared_buffers)."
		if share < 10 && a.reading.Size != nil && a.reading.Size.DatabaseBytes > shared {
			a.setting("shared-buffers-size", pgmedic.SeverityInfo, "shared_buffers", suggested,
				fmt.Sprintf("It is %.1f %% of the machine's memory, and the database is larger. %s", share, formula),
				"Needs a restart of the server, and no other program that wants the same memory.", known...)
		}
		if share > 50 {
			a.setting("shared-buffers-size", pgmedic.SeverityWarn, "shared_buffers", suggested,
				fmt.Sprintf("It is %.0f %% of the machine's memory, which leaves little for sessions and for the system's cache. %s", share, formula),
				"Needs a restart of the server.", known...)
		}
		cache := int64(numberSetting(s, "effective_cache_size", 0) * block)
		if want := h.MemoryBytes * 3 / 4; cache > 0 && (cache > h.MemoryBytes || cache < want/3) {
			a.setting("effective-cache-size", pgmedic.SeverityInfo, "effective_cache_size", megabytes(want),
				"It is what the planner takes the caches for, and is far from the machine's memory. Three quarters are a common start.",
				"Takes effect at once and takes no memory: only plans change.", known...)
		}
		return
	}
	if shared > 0 && shared <= 128<<20 && a.reading.Size != nil && a.reading.Size.DatabaseBytes > 8*shared {
		a.setting("shared-buffers-size", pgmedic.SeverityInfo, "shared_buffers", "",
			"It is the small default, and the database is many times larger. A quarter of the machine's memory is what PostgreSQL's manual starts from.",
			"There is no fix to paste, as the machine's memory is not known here: state it in report.server_memory_mb. A change needs a restart.",
			evidence("database_bytes", a.reading.Size.DatabaseBytes))
	}
}

// megabytes writes a size as a setting, in whole steps of 64 MB.
func megabytes(bytes int64) string {
	return fmt.Sprintf("%dMB", max(64, bytes>>26<<6))
}

// security finds sessions and passwords that could be guarded better.
func (a *analysis) security() {
	s := a.reading.Security
	if s == nil {
		return
	}
	for _, u := range s.Superusers {
		a.add(0, pgmedic.Finding{
			ID: "superuser-sessions", Section: reading.SectionSettings, Severity: pgmedic.SeverityInfo, Object: "role " + sqltext.Readable(u.User),
			Summary: fmt.Sprintf("An application uses this superuser, in %s: a fault in it can do anything to the server.",
				words.Plural(u.Connections, "session")),
			Evidence: []pgmedic.Evidence{evidenceText("application", u.Application), evidence("sessions", u.Connections)},
			Risk: "There is no fix to paste: give the application a role of its own, with what it needs on its own tables. Superusers also " +
				"take the connections that are reserved for emergencies.",
		})
	}
	if s.Unencrypted != nil && *s.Unencrypted > 0 {
		a.add(serverWide, pgmedic.Finding{
			ID: "sessions-unencrypted", Section: reading.SectionSettings, Severity: pgmedic.SeverityWarn, Object: "server",
			Summary:  fmt.Sprintf("%s over a network without TLS: anyone who can listen there reads all data.", come(*s.Unencrypted)),
			Evidence: []pgmedic.Evidence{evidence("sessions", *s.Unencrypted)},
			Fix: "SELECT a.usename, a.application_name, a.client_addr FROM pg_catalog.pg_stat_activity a " +
				"JOIN pg_catalog.pg_stat_ssl s ON s.pid OPERATOR(pg_catalog.=) a.pid WHERE NOT s.ssl AND a.client_addr IS NOT NULL;",
			Risk: "Changes nothing: it shows whose they are. Set ssl = on with a certificate, sslmode=verify-full in the clients, and then " +
				"hostssl instead of host in pg_hba.conf.",
		})
	}
	if s.MD5Roles != nil && *s.MD5Roles > 0 {
		a.add(0, pgmedic.Finding{
			ID: "passwords-md5", Section: reading.SectionSettings, Severity: pgmedic.SeverityInfo, Object: "server",
			Summary:  fmt.Sprintf("%s kept as MD5, which is easy to break and which PostgreSQL 18 calls deprecated.", passwordsAre(*s.MD5Roles)),
			Evidence: []pgmedic.Evidence{evidence("roles", *s.MD5Roles)},
			Fix:      "SELECT rolname FROM pg_catalog.pg_authid WHERE pg_catalog.starts_with(rolpassword, 'md5');",
			Risk: "Changes nothing: it shows the roles. Set password_encryption = 'scram-sha-256', have each of them set its password again, and then " +
				"ask for scram-sha-256 in pg_hba.conf. Clients of before 2018 may not know it.",
		})
	}
}

func come(n int) string {
	if n == 1 {
		return "1 session comes"
	}
	return words.Plural(n, "session") + " come"
}

func passwordsAre(n int) string {
	if n == 1 {
		return "The password of 1 role is"
	}
	return fmt.Sprintf("The passwords of %d roles are", n)
}

// release is what is known of a major version of PostgreSQL.
type release struct {
	// minor is the newest that this pgmedic has seen; there may be newer ones.
	minor int
	// end is the day after which there are no more fixes.
	end time.Time
}

// releases are from https://www.postgresql.org/support/versioning/.
func releases() map[int]release {
	// Always in November.
	day := func(y, d int) time.Time { return time.Date(y, time.November, d, 0, 0, 0, 0, time.UTC) }
	return map[int]release{
		12: {22, day(2024, 21)}, 13: {23, day(2025, 13)},
		14: {23, day(2026, 12)}, 15: {20, day(2027, 11)},
		16: {14, day(2028, 9)}, 17: {10, day(2029, 8)},
		18: {4, day(2030, 14)},
	}
}

// versions finds a server that lacks fixes.
func (a *analysis) versions() {
	s := a.reading.Server
	major, minor := s.VersionNum/10000, s.VersionNum%10000
	r, ok := releases()[major]
	if !ok {
		return
	}
	if minor < r.minor {
		a.add(serverWide, pgmedic.Finding{
			ID: "version-outdated", Section: reading.SectionOverview, Severity: pgmedic.SeverityWarn, Object: "server",
			Summary: fmt.Sprintf("It lacks the fixes of %s, some of which are for lost data or security.", words.Plural(r.minor-minor, "minor release")),
			Evidence: []pgmedic.Evidence{
				evidenceText("version", s.Version), evidenceText("known_to_be_out", fmt.Sprintf("%d.%d", major, r.minor)),
			},
			Risk: "There is no fix to paste: install the newer packages and restart. A minor release needs no dump and changes no " +
				"files; read its release notes for indexes to rebuild.",
		})
	}
	if a.reading.TakenAt.After(r.end) {
		a.add(serverWide, pgmedic.Finding{
			ID: "version-unsupported", Section: reading.SectionOverview, Severity: pgmedic.SeverityWarn, Object: "server",
			Summary:  fmt.Sprintf("PostgreSQL %d has had no fixes, for security or anything else, since %s.", major, r.end.Format(time.DateOnly)),
			Evidence: []pgmedic.Evidence{evidenceText("version", s.Version), evidenceText("end_of_support", r.end.Format(time.DateOnly))},
			Risk:     "There is no fix to paste: plan an upgrade to a newer major version, with a backup that is proven to restore there.",
		})
	}
}
