package config_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

// TestRetention: what each way to say how long backups are kept comes to.
func TestRetention(t *testing.T) {
	const tiers = "retention:\n  daily: 14d\n  weekly: 12w\n"
	for name, test := range map[string]struct {
		file  string
		env   []string
		daily string
		days  string
		after bool
	}{
		"nothing said":                         {"", nil, "0", "30d", false},
		"an existing .env":                     {"", []string{"BACKUP_RETENTION_DAYS=30"}, "0", "30d", true},
		"another number":                       {"", []string{"BACKUP_RETENTION_DAYS=7"}, "0", "7d", true},
		"switched off":                         {"", []string{"BACKUP_RETENTION_DAYS=0"}, "0", "0", false},
		"by a word":                            {"", []string{"BACKUP_RETENTION_DAYS=false"}, "0", "0", false},
		"with a unit":                          {"", []string{"BACKUP_RETENTION_DAYS=6mo"}, "0", "6mo", true},
		"not by a backup":                      {"retention:\n  after_backup: false\n", []string{"BACKUP_RETENTION_DAYS=30"}, "0", "30d", false},
		"in the file":                          {"retention:\n  days: 10\n", nil, "0", "10d", false},
		"tiers":                                {tiers, nil, "14d", "0", false},
		"tiers, and the environment":           {tiers, []string{"BACKUP_RETENTION_DAYS=21"}, "21d", "0", true},
		"tiers, and switched off":              {tiers, []string{"BACKUP_RETENTION_DAYS=0"}, "14d", "0", false},
		"tiers and a minimum":                  {tiers + "  days: 3\n", nil, "14d", "3d", false},
		"the environment overrides the file's": {"retention:\n  days: 10\n", []string{"BACKUP_RETENTION_DAYS=20"}, "0", "20d", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if test.file != "" {
				write(t, dir, "pgmedic.yaml", test.file)
			}
			r := load(t, config.Options{Dir: dir, Environ: test.env}).Retention
			if r.Daily != test.daily || r.Days != test.days || r.AfterBackup != test.after {
				t.Errorf("daily %s, days %s, after a backup: %t", r.Daily, r.Days, r.AfterBackup)
			}
		})
	}
}

func TestRetentionErrors(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"shorter than a week":   {"retention:\n  weekly: 3d\n", "pgmedic.yaml:2: retention.weekly is shorter than a week"},
		"shorter than a month":  {"retention:\n  monthly: 27d\n", "retention.monthly is shorter than a month"},
		"no unit":               {"retention:\n  daily: 30\n", "retention.daily must be a length of time"},
		"no length":             {"retention:\n  days: often\n", "retention.days must be a length of time"},
		"negative":              {"retention:\n  days: -3\n", "retention.days must be a length of time"},
		"a day that is none":    {"retention:\n  week_starts: funday\n", "retention.week_starts must be one of monday"},
		"a zone that is none":   {"retention:\n  timezone: Berlin\n", "retention.timezone is not a known time zone"},
		"none kept":             {"retention:\n  last: 0\n", "retention.last must be a whole number from 1"},
		"stale":                 {"retention:\n  stale_after: soon\n", "retention.stale_after must be a length of time"},
		"a copy's":              {"copies:\n  - store: /mnt/nas\n    retention:\n      weekly: 2d\n", "copies.retention.weekly is shorter than a week"},
		"a copy's after backup": {"copies:\n  - store: /mnt/nas\n    retention:\n      after_backup: true\n", "copies.retention.after_backup is for all stores"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "pgmedic.yaml", test.file)
			_, err := config.Load(config.Options{Dir: dir})
			if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestStores: each copy has its own policy, or the store's; the store stays the first
// whatever a flag names.
func TestStores(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", `
backup:
  store: /srv/backups
retention:
  daily: 7d
copies:
  - name: nas
    store: /mnt/nas
  - name: offsite
    store: s3://offsite/clinic
    retention:
      monthly: 12mo
`)
	for name, flags := range map[string][]config.Flag{
		"none":    nil,
		"a copy":  {{Key: "backup.store", Name: "--store", Value: "offsite"}},
		"another": {{Key: "backup.store", Name: "--store", Value: "/elsewhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range load(t, config.Options{Dir: dir, Flags: flags}).Stores() {
				got = append(got, s.Name+" "+s.Retention.Daily+" "+s.Retention.Monthly+" "+s.Retention.Days)
			}
			if all := strings.Join(got, ", "); all != "/srv/backups 7d 0 0, nas 7d 0 0, offsite 0 12mo 0" {
				t.Error(all)
			}
		})
	}
}
