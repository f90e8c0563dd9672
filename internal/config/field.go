package config

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/hidden"
)

// Key documents one setting.
type Key struct {
	// Key is the dotted path in the file: database.host.
	Key string
	// Env is the environment name, or empty where only the file has it.
	Env string
	// Default is the default as text, or empty.
	Default string
	// Secret is true where the value is never shown and may be file:/path, env:NAME or
	// the reference of a manager of secrets.
	Secret bool
	// Enum are the values that it can have, where those are few.
	Enum []string
	// Doc says in one line what the setting is.
	Doc string
}

// Keys returns every setting in the order of Config.
func Keys() []Key {
	var keys []Key
	for _, f := range fields() {
		keys = append(keys, f.keyed())
	}
	return keys
}

// KeyOf returns one setting, or false where there is none of that key. It looks at the
// fields on the way alone: the command line asks for each of its flags, at every start.
func KeyOf(key string) (Key, bool) { return keyOf(reflect.TypeFor[Config](), key) }

func keyOf(t reflect.Type, rest string) (Key, bool) {
	first, below, deeper := strings.Cut(rest, ".")
	for sf := range t.Fields() {
		name := sf.Tag.Get("yaml")
		switch {
		case sf.Anonymous: // its settings stand among those around it
			if k, ok := keyOf(sf.Type, rest); ok {
				return k, true
			}
		case name != first || name == "" || name == "-":
		case sf.Type.Kind() == reflect.Struct:
			k, ok := keyOf(sf.Type, below)
			k.Key = first + "." + k.Key
			return k, ok && deeper
		default:
			f := newField(sf, first, nil)
			return f.keyed(), !deeper
		}
	}
	return Key{}, false
}

// field is one setting as the tags of Config describe it.
type field struct {
	key, env, def, doc string
	rule               string
	secret, path       bool
	enum, libpq        []string
	min, max           string // empty where there is no bound
	index              []int
	typ                reflect.Type
}

// section is one mapping of the file.
type section struct{ key, doc string }

// fields returns the settings in the order of Config.
func fields() []field {
	fs, _ := describe(reflect.TypeFor[Config](), "", nil)
	return fs
}

// sections returns the mappings of the file in the order of Config.
func sections() []section {
	_, ss := describe(reflect.TypeFor[Config](), "", nil)
	return ss
}

func describe(t reflect.Type, prefix string, index []int) (fs []field, ss []section) {
	for sf := range t.Fields() {
		name := sf.Tag.Get("yaml")
		at := append(append([]int(nil), index...), sf.Index...)
		if sf.Anonymous { // its settings stand among those around it
			inner, below := describe(sf.Type, prefix, at)
			fs, ss = append(fs, inner...), append(ss, below...)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		key := prefix + name
		if sf.Type.Kind() == reflect.Struct {
			ss = append(ss, section{key: key, doc: sf.Tag.Get("doc")})
			inner, below := describe(sf.Type, key+".", at)
			fs, ss = append(fs, inner...), append(ss, below...)
			continue
		}
		fs = append(fs, newField(sf, key, at))
	}
	return fs, ss
}

func newField(sf reflect.StructField, key string, index []int) field {
	return field{
		key: key, env: sf.Tag.Get("env"), def: sf.Tag.Get("default"), doc: sf.Tag.Get("doc"),
		rule:   sf.Tag.Get("rule"),
		secret: sf.Tag.Get("secret") == "true",
		path:   sf.Tag.Get("path") == "true",
		enum:   split(sf.Tag.Get("enum"), ","),
		libpq:  split(sf.Tag.Get("libpq"), ","),
		min:    sf.Tag.Get("min"), max: sf.Tag.Get("max"),
		index: index, typ: sf.Type,
	}
}

func (f field) keyed() Key {
	return Key{Key: f.key, Env: f.env, Default: f.def, Secret: f.secret, Enum: f.enum, Doc: f.doc}
}

// isList and isMap say which form a setting has in the file; the others are
// single values.
func (f field) isList() bool { return f.typ.Kind() == reflect.Slice }
func (f field) isMap() bool  { return f.typ.Kind() == reflect.Map }

// isAssertions is true of one of the two settings that only the file can have.
func (f field) isAssertions() bool { return f.typ == reflect.TypeFor[[]Assertion]() }

// isMutes is true of the other one.
func (f field) isMutes() bool { return f.typ == reflect.TypeFor[[]Mute]() }

func (f field) isDuration() bool { return f.typ == reflect.TypeFor[time.Duration]() }

// text returns the field's value in cfg as a user would write it. Secrets are
// hidden.
func (f field) text(cfg *Config) string {
	v := reflect.ValueOf(cfg).Elem().FieldByIndex(f.index)
	if url, ok := v.Interface().(Secret); ok && f.rule == "url" {
		return hidden.RedactURL(url.Reveal())
	}
	if patterns, ok := v.Interface().([]string); ok && f.rule == "patterns" {
		return strings.Join(patterns, ", ")
	}
	return textOf(v)
}

// textOf writes a value as a user would. Secrets are hidden.
func textOf(value reflect.Value) string {
	switch v := value.Interface().(type) {
	case Secret:
		return v.String()
	case time.Duration:
		return durationText(v)
	case []string:
		return strings.Join(v, listSeparator())
	case map[string]string:
		return labelText(v)
	case []Assertion:
		return assertionText(v)
	case []Mute:
		return muteText(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case string:
		return v
	}
	return ""
}

// durationText writes 5m0s as 5m, and whole days as 7d.
func durationText(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func split(s, sep string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, sep)
}
