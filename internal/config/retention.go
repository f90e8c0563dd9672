package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a host without the database of time zones knows them all the same

	"github.com/pgmedic/pgmedic"
)

// Retention says how long backups are kept: by pgmedic prune alone, unless AfterBackup
// is true. Lengths are texts that pgmedic.ParseLength reads.
type Retention struct {
	Hourly      string        `yaml:"hourly" rule:"length" default:"0" doc:"Keep one backup of each hour for this long, such as 24h; 0 keeps none for that."`
	Daily       string        `yaml:"daily" rule:"length" default:"0" doc:"Keep one backup of each day for this long, such as 30d."`
	Weekly      string        `yaml:"weekly" rule:"length" default:"0" doc:"Keep one backup of each week for this long, such as 12w."`
	Monthly     string        `yaml:"monthly" rule:"length" default:"0" doc:"Keep one backup of each month for this long, such as 12mo."`
	Yearly      string        `yaml:"yearly" rule:"length" default:"0" doc:"Keep one backup of each year for this long, such as 5y."`
	Days        string        `yaml:"days" env:"BACKUP_RETENTION_DAYS" rule:"days" default:"30d" doc:"Keep every backup for this long, in days if no unit is given; 0 keeps none for that, and without the settings above deletes none. Where one of those is set the default is 0, and BACKUP_RETENTION_DAYS means daily."`
	Last        int           `yaml:"last" default:"3" min:"1" max:"10000" doc:"Backups to keep whatever their age."`
	PITR        string        `yaml:"pitr" rule:"length" default:"0" doc:"How far back recovery to any moment stays possible, such as 30d: the base backup before that and all WAL since then are kept, whatever the settings above say. 0 keeps the WAL since the oldest base backup that they keep."`
	Safety      string        `yaml:"safety" rule:"length" default:"14d" doc:"How long to keep safety backups, which swaps take of what they replace."`
	Failed      string        `yaml:"failed" rule:"length" default:"7d" doc:"How long to keep a backup at least after verify or drill found it bad."`
	Timezone    string        `yaml:"timezone" rule:"timezone" default:"UTC" doc:"Time zone whose hours, days, weeks, months and years count, such as Europe/Berlin."`
	WeekStarts  string        `yaml:"week_starts" default:"monday" enum:"monday,saturday,sunday" doc:"First day of a week."`
	Grace       time.Duration `yaml:"grace" default:"24h" doc:"How long a backup is marked before it is deleted. A mark is taken off where the next plan would keep the backup."`
	StaleAfter  string        `yaml:"stale_after" rule:"stale" default:"auto" doc:"Age of the newest backup from which nothing is deleted; auto is the larger of 48h and three times the usual gap between backups, off means no limit."`
	AfterBackup bool          `yaml:"after_backup" env:"PGMEDIC_PRUNE_AFTER_BACKUP" default:"false" doc:"true marks and deletes what retention says at the end of each complete backup, of the databases that were backed up. Where BACKUP_RETENTION_DAYS is set the default is true."`
}

// lengthHint says how lengths of retention are written.
const lengthHint = "write a number and a unit: 36h, 30d, 12w, 6mo or 1y; 0 for none"

// checkLength returns a length as it is kept.
func checkLength(rule, text string) (kept, hint string, err error) {
	text = strings.ToLower(strings.TrimSpace(text))
	switch {
	case rule == "stale" && (text == "auto" || text == "off"):
		return text, "", nil
	case rule == "days" && !wanted(text):
		return "0", "", nil
	case rule == "days":
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			text += "d"
		}
	}
	l, err := pgmedic.ParseLength(text)
	switch {
	case err != nil && rule == "days":
		return "", "write a number of days, or a length such as 12w or 6mo", err
	case err != nil && rule == "stale":
		return "", "write auto, off, or a length such as 3d", err
	case err != nil:
		return "", lengthHint, err
	case l.IsZero():
		return "0", "", nil
	}
	return text, "", nil
}

// Zone returns the time zone.
func (r Retention) Zone() *time.Location {
	zone, err := time.LoadLocation(r.Timezone)
	if err != nil {
		return time.UTC // it was checked
	}
	return zone
}

// tiered reports whether one of the windows is set.
func (r Retention) tiered() bool {
	return r.Hourly != "0" || r.Daily != "0" || r.Weekly != "0" || r.Monthly != "0" || r.Yearly != "0"
}

// imply settles what hangs on other settings. Given tells of a key, within the section,
// whether it was set.
func (r *Retention) imply(given func(key string) Origin) {
	days := given("days")
	if (days.Source == SourceEnvironment || days.Source == SourceEnvFile) && r.Days != "0" {
		if r.tiered() {
			r.Daily, r.Days = r.Days, "0"
		}
		if !given("after_backup").Given() {
			r.AfterBackup = true
		}
	}
	if r.tiered() && !days.Given() {
		r.Days = "0"
	}
}

// check refuses windows that are shorter than what they keep one of.
func (r Retention) check(subject func(key string) string) error {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	for _, w := range []struct {
		key, value, bucket string
		least              pgmedic.Length
	}{
		{"hourly", r.Hourly, "an hour", pgmedic.Length{Rest: time.Hour}},
		{"daily", r.Daily, "a day", pgmedic.Length{Days: 1}},
		{"weekly", r.Weekly, "a week", pgmedic.Length{Days: 7}},
		{"monthly", r.Monthly, "a month", pgmedic.Length{Days: 28}},
		{"yearly", r.Yearly, "a year", pgmedic.Length{Days: 365}},
	} {
		l, err := pgmedic.ParseLength(w.value)
		if err != nil {
			return usage(subject(w.key)+" "+err.Error(), lengthHint)
		}
		if !l.IsZero() && l.Before(now).After(w.least.Before(now)) {
			return usage(fmt.Sprintf("%s is shorter than %s", subject(w.key), w.bucket), "write a longer one, or 0")
		}
	}
	return nil
}

// retentionKey is the key of the section.
const retentionKey = "retention"

// retention settles and checks the policy of the store, and those of the copies: one
// that has no section of its own has the store's.
func (l *loader) retention(cfg *Config) error {
	cfg.Retention.imply(func(key string) Origin { return cfg.origins[retentionKey+"."+key] })
	err := cfg.Retention.check(func(key string) string {
		return cfg.origins[retentionKey+"."+key].subject(retentionKey + "." + key)
	})
	if err != nil {
		return err
	}
	for i := range cfg.Copies {
		c := &cfg.Copies[i]
		if len(c.retained) == 0 {
			c.Retention = cfg.Retention
			continue
		}
		if o, given := c.retained["after_backup"]; given {
			return usage(o.subject(copiesKey+".retention.after_backup")+" is for all stores", "set retention.after_backup instead")
		}
		c.Retention.imply(func(key string) Origin { return c.retained[key] })
		err := c.Retention.check(func(key string) string { return c.retained[key].subject(copiesKey + "." + retentionKey + "." + key) })
		if err != nil {
			return err
		}
	}
	return nil
}

// StoreOf is one of the configured stores.
type StoreOf struct {
	// Name is that of a copy, and the store's own place for the first one.
	Name      string
	Place     Place
	Access    Access
	Locking   Locking
	Retention Retention
	// Primary is true of the store that backups go to.
	Primary bool
}

// Is reports whether a text names the store: by its name, or by its place as
// backup.store would be written, relative to dir.
func (s StoreOf) Is(text, dir string) bool {
	if text == s.Name {
		return true
	}
	place, _, err := checkStore(text, dir)
	return err == nil && placeOf(place) == s.Place
}

// Stores returns every configured store, that which backups go to first. A store that a
// flag names does not take the first one's place here.
func (c *Config) Stores() []StoreOf { return c.stores }

// allStores notes the stores before a flag chooses among them.
func (l *loader) allStores(cfg *Config) error {
	configured := *cfg
	if given := l.lookup(storeField()); given.origin.Source == SourceFlag {
		below := *l
		below.flags = nil
		r := below.lookup(storeField())
		configured.Backup.Store = ""
		if err := l.set(storeField(), r, reflect.ValueOf(&configured.Backup.Store).Elem()); err != nil {
			return err
		}
	}
	name := configured.Backup.Store
	if name == "" {
		name = configured.Backup.Dir
	}
	cfg.stores = []StoreOf{{Name: name, Place: configured.Backup.Place(), Access: cfg.Backup.Access, Retention: cfg.Retention, Primary: true,
		Locking: Locking{ObjectLock: cfg.Backup.ObjectLock, Retention: cfg.Retention}}}
	for _, one := range cfg.Copies {
		if one.Place() != configured.Backup.Place() {
			cfg.stores = append(cfg.stores, StoreOf{Name: one.Name, Place: one.Place(), Access: one.Access, Retention: one.Retention,
				Locking: Locking{ObjectLock: one.ObjectLock, Retention: one.Retention}})
		}
	}
	return nil
}
