package config

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/pgmedic/pgmedic"
)

// later is something that a deployment can ask for and this version does not
// do. A version that learns it removes the row and adds a field to Config.
type later struct {
	key, env string
	// asks reports whether a value that is not empty asks for it.
	asks func(string) bool
	// what is asked for, and why this version can't go on.
	what, but, hint string
	// mild is true where backups are as good without it: a warning is enough.
	mild bool
}

// laters returns what existing deployments may ask for and this version does
// not do. Silence about one of these would leave data unprotected.
func laters() []later {
	return []later{
		{env: "NOTIFICATION_ENABLED", asks: wanted, mild: true,
			what: "notifications are asked for", but: "this version sends none", hint: "have the job that runs pgmedic notify somebody when the exit code is not 0; docs/operations.md shows how"},
	}
}

// ignored returns the names that existing deployments have, that this version
// has no use for and that change nothing about the safety of backups.
func ignored() []string {
	return []string{
		"PGMEDIC_CONFIG", // read before any other
		"DB_CONNECTION_LIMIT", "DB_POOL_TIMEOUT", "DB_SOCKET_TIMEOUT", "DB_QUERY_TIMEOUT",
		"DB_SLOW_QUERY_THRESHOLD", "DB_MAX_RETRIES", "DB_RETRY_DELAY", "DB_RETRY_BACKOFF",
		"DB_HEALTH_CHECK_INTERVAL",
		// Of clouds that are refused as a whole.
		"GCP_BUCKET", "AZURE_STORAGE_CONTAINER", "AZURE_STORAGE_ACCOUNT",
	}
}

// wanted is false for the words that switch something off. Any other word
// asks for it, so that a misspelt one is refused rather than ignored.
func wanted(value string) bool {
	off := []string{"false", "f", "no", "n", "off", "0", "none", "disabled"}
	return !slices.Contains(off, strings.ToLower(strings.TrimSpace(value)))
}

// request is a row of laters that somebody asked for.
type request struct {
	later
	origin Origin
}

// CheckBackup refuses with a KindUsage error when the settings ask for
// something that protects backups and that this version can't do, such as a copy
// in a cloud that it doesn't know. Call it before whatever writes backups or replaces a database on
// the strength of them, and in a check.
func (c *Config) CheckBackup() error {
	for _, r := range c.asked {
		if !r.mild {
			return pgmedic.Errorf(pgmedic.KindUsage, r.hint, "%s (%s) but %s", r.what, r.place(), r.but)
		}
	}
	return c.checkCloud()
}

func (r request) place() string {
	if r.origin.Source == SourceEnvironment {
		return r.origin.Name
	}
	return r.origin.subject(r.key)
}

// Unheeded is something that the settings ask for and this version does not do.
type Unheeded struct {
	// Text is a sentence that names the setting, Hint what to do instead.
	Text, Hint string
}

// Unheeded returns what the settings ask for, this version does not do, and backups
// are as good without. Commands that take or check backups warn of each.
func (c *Config) Unheeded() []Unheeded {
	var all []Unheeded
	for _, r := range c.asked {
		if r.mild {
			all = append(all, Unheeded{Text: r.sentence(), Hint: r.hint})
		}
	}
	return all
}

func (r request) sentence() string { return r.what + " (" + r.place() + ") but " + r.but }

// PoolNames returns the names that are set, that only the pool has a use for and no
// command reads.
func (c *Config) PoolNames() []string { return c.poolNames }

// noteUnused notes the names of ignored that are set.
func (l *loader) noteUnused(cfg *Config) {
	for _, name := range ignored() {
		if strings.HasPrefix(name, "DB_") && (l.environ[name] != "" || l.dotenv[name] != "") {
			cfg.poolNames = append(cfg.poolNames, name)
		}
	}
}

// missing returns what to do about a key of the file that this version lacks and
// that others of its kind have, or empty.
func missing(key string) string {
	name := lastName(key)
	switch {
	case name == "schedule", name == "schedules":
		return "this version starts nothing by itself: take the key out, and use cron or systemd as docs/operations.md shows"
	case strings.HasPrefix(name, "notif"):
		return "this version sends no notifications: take the key out; docs/operations.md shows how a job sends them"
	}
	return ""
}

// isRequest reports whether key is one that laters has for the file.
func isRequest(key string) bool {
	return slices.ContainsFunc(laters(), func(l later) bool { return l.key == key })
}

// request notes a key of laters that the file has and that is not empty.
func (y *yamlFile) request(key string, e entry) {
	if e.value.Type() == ast.NullType {
		return
	}
	text, err := y.scalar(e.value)
	if err == nil && text == "" {
		return
	}
	if list, ok := e.value.(*ast.SequenceNode); ok && len(list.Values) == 0 {
		return
	}
	for _, l := range laters() {
		if l.key == key && (err != nil || l.asks(text)) {
			origin := Origin{Source: SourceFile, File: y.name, Line: lineOf(e.key)}
			y.asked = append(y.asked, request{later: l, origin: origin})
		}
	}
}
