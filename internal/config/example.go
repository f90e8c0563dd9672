package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/schedule"
)

// preset is what one kind of deployment sets apart from the defaults, by key.
type preset struct {
	name, words string
	values      map[string]string
	labels      map[string]string
}

func presets() []preset {
	return []preset{
		{
			name: "development", words: "a developer's machine: fast, and patient with a small, cold server",
			values: map[string]string{
				"report.thresholds.cache_hit_warn_percent":     "90",
				"report.thresholds.cache_hit_critical_percent": "80",
				"report.thresholds.idle_in_transaction_warn":   "30m",
				"retention.daily": "7d",
				"retention.days":  "0",
			},
			labels: map[string]string{"env": "development"},
		},
		{
			name: "staging", words: "staging: as production, with more patience",
			values: map[string]string{
				"log.format": "json",
				"report.thresholds.cache_hit_warn_percent":     "95",
				"report.thresholds.cache_hit_critical_percent": "90",
				"retention.daily": "14d",
				"retention.days":  "0",
			},
			labels: map[string]string{"env": "staging"},
		},
		{
			name: "production", words: "production: machine-readable logs, and early warnings",
			values: map[string]string{
				"log.format": "json",
				"report.thresholds.connections_warn_percent": "70",
				"report.thresholds.idle_in_transaction_warn": "1m",
				"retention.hourly":                           "24h",
				"retention.daily":                            "30d",
				"retention.weekly":                           "90d",
				"retention.monthly":                          "1y",
				"retention.days":                             "0",
			},
			labels: map[string]string{"env": "production"},
		},
	}
}

// Presets returns the names that Example knows.
func Presets() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// Example returns a commented pgmedic.yaml for a preset, with every setting in
// it. A line that begins with # and a space is a comment; one that begins with
// # and a key is a setting at its default, ready to be changed. An unknown
// preset is a KindUsage error.
func Example(name string) ([]byte, error) { return ExampleWith(name, nil) }

// ExampleWith is Example with settings that have these values, by key.
func ExampleWith(name string, values map[string]string) ([]byte, error) {
	i := slices.IndexFunc(presets(), func(p preset) bool { return p.name == name })
	if i < 0 {
		return nil, usage("there is no such preset", "the presets are "+strings.Join(Presets(), ", "))
	}
	p := presets()[i]
	p.values = maps.Clone(p.values)
	for key, value := range values {
		p.values[key] = yamlText(value)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# pgmedic.yaml for %s.\n#\n", p.words)
	b.WriteString("# Lines such as #host: localhost show defaults: take the # away to change one.\n")
	b.WriteString("# Flags and environment variables (named in brackets) override this file, and\n")
	b.WriteString("# `pgmedic config` prints each value and where it comes from. Relative paths\n")
	b.WriteString("# start from the folder of this file. Keep secrets out of it: write file:/path\n")
	b.WriteString("# or env:NAME instead.\n")
	open := ""
	for _, f := range fields() {
		open = openSection(&b, open, f.key)
		p.write(&b, f)
	}
	b.WriteString(`
# Further stores: each backup is copied to them, sealed as it is. Each has a store
# as above, an s3:, azure: or gcs: section of its own, and a name for pgmedic copy --to. A retention:
# section says how long copies are kept there, where that is another time.
#
#   copies:
#     - name: offsite
#       store: s3://another-bucket/clinic
#       s3:
#         region: eu-central-1
`)
	b.WriteString(`
# When jobs run. pgmedic starts nothing by itself: "pgmedic schedule install" hands these
# over to cron or systemd, "pgmedic schedule list" shows the next runs. docs/schedules.md
# has the keys. A drill reads backups: run it on a host that has the secret key.
schedules:
  `)
	b.WriteString(strings.TrimSuffix(strings.ReplaceAll(schedule.Example(name), "\n", "\n  "), "  "))
	return []byte(b.String()), nil
}

// openSection writes the headings that lead to key and were not open yet, and
// returns the section that is open now.
func openSection(b *strings.Builder, open, key string) string {
	for _, s := range sections() {
		inside := strings.HasPrefix(key, s.key+".")
		if !inside || open == s.key || strings.HasPrefix(open, s.key+".") {
			continue
		}
		indent := indentOf(s.key)
		fmt.Fprintf(b, "\n%s# %s\n%s%s:\n", indent, s.doc, indent, lastName(s.key))
		open = s.key
	}
	return open
}

// write writes one setting with its comment.
func (p preset) write(b *strings.Builder, f field) {
	indent := indentOf(f.key)
	if !strings.Contains(f.key, ".") {
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "%s# %s", indent, f.doc)
	if f.env != "" {
		fmt.Fprintf(b, " [%s]", f.env)
	}
	b.WriteString("\n")
	if f.isMap() && len(p.labels) > 0 {
		fmt.Fprintf(b, "%s%s:\n", indent, lastName(f.key))
		for _, k := range slices.Sorted(maps.Keys(p.labels)) {
			fmt.Fprintf(b, "%s  %s: %s\n", indent, k, p.labels[k])
		}
		return
	}
	value, mark := p.values[f.key], ""
	if value == "" || value == f.def {
		value, mark = f.def, "#"
	}
	switch {
	case value == "" && f.isList():
		value = "[]"
	case value == "":
		value = `""`
	}
	fmt.Fprintf(b, "%s%s%s: %s\n", indent, mark, lastName(f.key), value)
}

// yamlText writes a value so that YAML reads it as it is.
func yamlText(value string) string {
	if regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9_./-]*$`).MatchString(value) {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", "''") + "'"
}

func indentOf(key string) string { return strings.Repeat("  ", strings.Count(key, ".")) }

func lastName(key string) string { return key[strings.LastIndex(key, ".")+1:] }
