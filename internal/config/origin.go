package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Source is a place that a value can come from. A higher one overrides a
// lower one.
type Source int

// The sources, lowest first.
const (
	// SourceDefault is the default in the program.
	SourceDefault Source = iota
	// SourceLibpq is a variable of PostgreSQL's client library, such as
	// PGHOST, which pgx and the client programs read by themselves.
	SourceLibpq
	// SourceFile is pgmedic.yaml.
	SourceFile
	// SourceEnvFile is a .env file.
	SourceEnvFile
	// SourceEnvironment is the environment of the process.
	SourceEnvironment
	// SourceFlag is the command line.
	SourceFlag
)

// Origin says where a value came from.
type Origin struct {
	Source Source
	// File is the file's name as the user knows it, for the two files.
	File string
	// Line is the line in pgmedic.yaml, from 1.
	Line int
	// Name is the environment name or the flag with its dashes.
	Name string
}

// Given reports whether the user set the value for pgmedic, so that it is
// neither a default nor left to libpq.
func (o Origin) Given() bool { return o.Source >= SourceFile }

// String names the origin: default, file pgmedic.yaml:12, .env DB_HOST,
// environment DB_HOST or flag --host.
func (o Origin) String() string {
	switch o.Source {
	case SourceFile:
		return fmt.Sprintf("file %s:%d", o.File, o.Line)
	case SourceEnvFile:
		return o.File + " " + o.Name
	case SourceEnvironment, SourceLibpq:
		return "environment " + o.Name
	case SourceFlag:
		return "flag " + o.Name
	default:
		return "default"
	}
}

// subject begins an error about key: it names the place and what is there.
func (o Origin) subject(key string) string {
	switch o.Source {
	case SourceFile:
		return fmt.Sprintf("%s:%d: %s", o.File, o.Line, key)
	case SourceEnvFile:
		return o.File + ": " + o.Name
	case SourceEnvironment, SourceLibpq, SourceFlag:
		return o.Name
	default:
		return key
	}
}

// Value is one setting with its value and where that came from.
type Value struct {
	// Key, Env and Secret are those of Key.
	Key    string
	Env    string
	Secret bool
	// Value is the value as a user would write it. A secret is hidden; of a
	// URL everything but the password and the parameters is shown.
	Value  string
	Origin Origin
}

// Origin returns where the setting of the dotted key came from. An unknown
// key has the zero Origin, a default.
func (c *Config) Origin(key string) Origin { return c.origins[key] }

// Folder is the folder that relative paths within the setting of the dotted key start
// from, such as those in the parameters of a URL: that of the file that has the setting,
// or the working folder. Settings that are paths themselves are absolute already.
func (c *Config) Folder(key string) string { return c.folders[key] }

// Effective returns every setting in the order of Config, with secrets hidden.
func (c *Config) Effective() []Value {
	var values []Value
	for _, f := range fields() {
		v := Value{Key: f.key, Env: f.env, Secret: f.secret, Value: f.text(c), Origin: c.origins[f.key]}
		if v.Origin.Source == SourceLibpq {
			v.Value = c.libpq[f.key]
		}
		if r, kept := c.references[f.key]; kept && !r.read {
			v.Value = r.String()
		}
		values = append(values, v)
	}
	return slices.Concat(values, c.copyValues(), c.scheduleValues(), c.notificationValues())
}

func labelText(labels map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, k+"="+labels[k])
	}
	return strings.Join(pairs, ", ")
}

// listSeparator is what separates the folders of a list in the environment.
func listSeparator() string { return string(os.PathListSeparator) }
