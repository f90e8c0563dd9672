package emergency

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// quoteName quotes a name as an SQL identifier.
func quoteName(name string) string { return sqltext.QuoteIdent(name) }

// mostSlots is how many slots get a step of their own: those that keep the most WAL.
const mostSlots = 5

const never = "Never delete or move anything in the data folder by hand, least of all in pg_wal: the server can't start without it. VACUUM FULL and CLUSTER need the table's size once more."

func diskFull(p *planner) {
	p.say("Delete nothing in the data folder", never+" Don't take a backup onto the same disk.")
	if !p.Server.Reached {
		p.startServer()
	} else {
		p.pgmedic("See what takes the space", p.spaceWords(), usesConnection|usesStore, "report", "--section", "size,replication,tables", "--no-history")
	}
	p.emptyWAL()
	if p.Server.Kept > 0 || !p.Server.Reached {
		p.pgmedic("See which databases swaps have set aside", "They are how a swap is undone. Without --yes this shows the plan; at a terminal it asks before it drops any.", usesConnection|changes, "prune", "--only", "databases")
	}
	p.sql("See which statements run for longest", "One that sorts or joins more than memory holds fills the disk with temporary files. `SELECT pg_cancel_backend(PID);` ends one: first make sure what it is.", p.maintenance(),
		"SELECT pid, usename, now() - query_start AS since, left(query, 80) AS query FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY query_start LIMIT 5")
	p.afterSpace()
}

// afterSpace are the last steps where room was made.
func (p *planner) afterSpace() {
	if p.Server.DiskBytes == 0 { // else the report says it
		p.shell("Check that there is room", "", "df -h")
	}
	p.pgmedic("See that nothing critical is left", "", usesConnection|usesStore, "report", "--section", "size,replication", "--no-history", "--fail-on", "critical")
	p.pgmedic("Take a backup", "If the backups are on the same disk, move them to another one first: --store names it.", usesConnection|usesStore|changes, "backup")
}

// startServer are the steps where the server is down.
func (p *planner) startServer() {
	p.shell("See which disk is full", "The server does not answer. If it has stopped because its disk is full, it starts once there is room.", "df -h")
	p.say("Make room beside the data folder", "Enlarge the disk, or move logs and files of other programs away. A few hundred megabytes are enough. Then start the server: it recovers by itself, and nothing is lost. "+
		"Run `pgmedic emergency` again afterwards: it then knows what takes the space.")
}

// spaceWords say how full the disk is.
func (p *planner) spaceWords() string {
	var parts []string
	if p.Server.DiskBytes > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s are free on the disk of the data folder.", words.Bytes(p.Server.DiskFreeBytes), words.Bytes(p.Server.DiskBytes)))
	}
	if p.Server.WALBytes > 0 {
		parts = append(parts, "pg_wal takes "+words.Bytes(p.Server.WALBytes)+".")
	}
	return strings.Join(parts, " ")
}

func walFull(p *planner) {
	p.say("Delete nothing in pg_wal", never+" WAL goes by itself once nothing needs it any more: a slot, the archive, or a standby.")
	if !p.Server.Reached {
		p.startServer()
	}
	if w := p.spaceWords(); w != "" {
		p.say("Know what is full", w)
	}
	p.emptyWAL()
	p.sql("See what else keeps WAL", "wal_keep_size (wal_keep_segments before PostgreSQL 13) and max_wal_size keep WAL on purpose. To lower one: ALTER SYSTEM SET …, and SELECT pg_reload_conf().", p.maintenance(),
		"SELECT name, setting, unit FROM pg_settings WHERE name IN ('wal_keep_size', 'wal_keep_segments', 'max_wal_size', 'min_wal_size', 'max_slot_wal_keep_size', 'archive_mode', 'archive_command')")
	p.sql("Have the server remove what it no longer needs", "The number of files falls only after this. If it does not, something above still needs them.", p.maintenance(), "CHECKPOINT")
	p.afterSpace()
}

// emptyWAL are the steps by which the server removes WAL itself.
func (p *planner) emptyWAL() {
	if !p.Server.Reached {
		p.sql("Once it runs, see which slots keep WAL", "A slot that is not active keeps all WAL since its consumer left. `pgmedic emergency slot-inactive` then has the steps.", p.maintenance(), slotsSQL)
	}
	p.dropSlots()
	if p.Server.ArchiverFails || !p.Server.Reached {
		p.sql("See why WAL is not archived", "If last_failed_time is later than last_archived_time, repair what archive_command writes to. The server's log has its message. It then archives and removes the WAL by itself.", p.maintenance(),
			"SELECT last_failed_wal, last_failed_time, last_archived_time FROM pg_stat_archiver")
	}
}

const slotsSQL = "SELECT slot_name, slot_type, active, pg_size_pretty(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)) AS keeps_wal FROM pg_replication_slots ORDER BY restart_lsn"

// inactive are the slots without a consumer, those that keep the most WAL first.
func (p *planner) inactive() []Slot {
	var slots []Slot
	for _, s := range p.Server.Slots {
		if !s.Active {
			slots = append(slots, s)
		}
	}
	slices.SortStableFunc(slots, func(a, b Slot) int {
		switch {
		case a.RetainedBytes > b.RetainedBytes:
			return -1
		case a.RetainedBytes < b.RetainedBytes:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return slots
}

// dropSlots are the steps for slots without a consumer.
func (p *planner) dropSlots() {
	slots := p.inactive()
	for _, s := range slots[:min(len(slots), mostSlots)] {
		keeps := "It keeps " + words.Bytes(s.RetainedBytes) + " of WAL."
		if s.Name == p.OwnSlot {
			p.pgmedic("Start the stream of WAL again", "Slot "+words.Clean(s.Name)+" is the one of `pgmedic wal stream`. "+keeps+" Let your service manager start the stream, or this. Dropping the slot instead makes a gap that no recovery to a moment can cross.",
				usesConnection|usesStore|changes, "wal", "stream")
			continue
		}
		if strings.HasPrefix(s.Name, "pgmedic_") {
			keeps += " It has the name of a stream of WAL (`pgmedic wal stream`) of another host: start that there."
		}
		who := "the standby or program"
		if s.Type == "logical" {
			who = "the subscriber"
		}
		statement := "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = " + literal(s.Name) + " AND NOT active"
		database := p.maintenance()
		if s.Type == "logical" && s.Database != "" {
			database = s.Database
		}
		p.sql("Start the consumer of slot "+words.Clean(s.Name)+", or drop the slot", keeps+" If "+who+" behind it can come back soon, start it, and leave the slot. If not, drop it: "+who+" must then be created again.", database, statement)
	}
	if n := len(slots) - mostSlots; n > 0 {
		p.sql("See the other slots", fmt.Sprintf("%d more have no consumer, and keep less.", n), p.maintenance(), slotsSQL)
	}
}

func slotInactive(p *planner) {
	p.say("Find out what the slot is for", "The server keeps all WAL since the consumer of the slot left, until the disk is full. A slot belongs to a standby, a subscriber, `pgmedic wal stream` or another program.")
	p.sql("See all slots", "active is true where a consumer is connected.", p.maintenance(), slotsSQL)
	if p.Server.Reached && len(p.inactive()) == 0 {
		p.say("Nothing to do now", "Every slot has its consumer.")
	}
	p.dropSlots()
	p.sql("Have the server remove what it no longer needs", "", p.maintenance(), "CHECKPOINT")
	if p.Server.Major >= 13 || p.Server.Major == 0 {
		p.sql("Limit what a slot may keep", "From PostgreSQL 13 on. A slot that falls further behind is then invalidated instead of filling the disk, and its consumer must be created again. "+
			"That holds for every slot, and for one that is behind now, too: choose more than those that you need keep now, and less than the room on the disk.", p.maintenance(),
			"ALTER SYSTEM SET max_slot_wal_keep_size = '"+p.slotLimit()+"'")
		p.sql("Make the limit take effect", "No restart is needed.", p.maintenance(), "SELECT pg_reload_conf()")
	}
}

// slotLimit is a fifth of the disk, 10 GB where that is not known, and in any case twice
// what a slot with a consumer keeps now. The share is our choice.
func (p *planner) slotLimit() string {
	limit := int64(10 << 30)
	if p.Server.DiskBytes > 0 {
		limit = p.Server.DiskBytes / 5
	}
	for _, s := range p.Server.Slots {
		if s.Active || s.Name == p.OwnSlot {
			limit = max(limit, 2*s.RetainedBytes)
		}
	}
	return fmt.Sprintf("%dGB", max(1, (limit+(1<<30)-1)>>30))
}
