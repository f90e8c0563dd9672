// Package schematest writes the JSON Schemas of docs/schema from the Go types whose JSON
// they describe, and checks documents by them. Nothing but tests imports it.
package schematest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// Schema is a file of docs/schema, and the type that it describes.
type Schema struct {
	// File is its name: list.schema.json.
	File string
	// Title and Description are those of the whole. Readers are told by it that later
	// versions add fields.
	Title, Description string
	Type               reflect.Type
	// Written is true of a schema whose descriptions and enumerations people write into the
	// file. Those of others are the comments and constants of the types.
	Written bool
}

// Path is where a schema is, on the machine that compiled the tests.
func Path(file string) string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "docs", "schema", file)
}

// Hold fails a test if a schema is not that of its type. With update it writes the schema:
// read the difference before you commit it.
func Hold(t *testing.T, s Schema, update bool) {
	t.Helper()
	text, err := os.ReadFile(Path(s.File))
	if err != nil && !update {
		t.Fatal(err)
	}
	w := &writer{schema: s, comments: newComments(t), names: map[string]reflect.Type{}}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &w.old); err != nil {
			t.Fatalf("%s: %v", s.File, err)
		}
	}
	testkit.Golden(t, Path(s.File), w.whole(t), update)
}

var (
	null   = regexp.MustCompile(`\bnil\b`)
	zero   = regexp.MustCompile(`\b([Zz]ero|nil|or empty)\b`)
	absent = map[string]string{"Zero": "Absent", "zero": "absent", "nil": "absent", "or empty": "or absent"}
)

// inJSON says of a value in JSON what a comment says of it in Go.
func inJSON(text string, optional bool) string {
	if !optional {
		return null.ReplaceAllString(text, "null")
	}
	return zero.ReplaceAllStringFunc(text, func(was string) string { return absent[was] })
}

// object is JSON whose keys keep their order.
type object []member

type member struct {
	key   string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, x := range []any{m.key, m.value} {
			if j > 0 {
				b.WriteByte(':')
			}
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			if err := e.Encode(x); err != nil {
				return nil, err
			}
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// writer describes types. Of the schema that is there it keeps that a list is never null,
// and what people wrote where they write.
type writer struct {
	schema   Schema
	comments *comments
	old      map[string]any
	defs     object
	names    map[string]reflect.Type
}

func (w *writer) whole(t *testing.T) string {
	t.Helper()
	whole := object{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", w.schema.Title}, {"description", w.schema.Description}}
	whole = append(whole, w.structure(w.schema.Type, w.old)...)
	if len(w.defs) > 0 {
		whole = append(whole, member{"$defs", w.defs})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(whole); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// structure describes a struct.
func (w *writer) structure(typ reflect.Type, old map[string]any) object {
	was, _ := old["properties"].(map[string]any)
	properties, required := object{}, []string{}
	for _, field := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" || !field.IsExported() {
			continue
		}
		optional := options != ""
		for i := range field.Index[:len(field.Index)-1] {
			// What a struct has by a pointer to another one is there or not as a whole.
			optional = optional || typ.FieldByIndex(field.Index[:i+1]).Type.Kind() == reflect.Pointer
		}
		known, _ := was[name].(map[string]any)
		described := w.value(field.Type, optional, known)
		if !w.schema.Written {
			owner := typ
			for _, i := range field.Index[:len(field.Index)-1] {
				if owner = owner.Field(i).Type; owner.Kind() == reflect.Pointer {
					owner = owner.Elem()
				}
			}
			if text := w.comments.field(owner, field.Name); text != "" {
				text = inJSON(text, optional)
				described = append(described, member{"description", text})
			}
		}
		properties = append(properties, member{name, described})
		if !optional {
			required = append(required, name)
		}
	}
	o := object{{"type", "object"}, {"properties", properties}}
	if len(required) > 0 {
		o = append(o, member{"required", required})
	}
	if old == nil || old["additionalProperties"] == false {
		o = append(o, member{"additionalProperties", false})
	}
	return o
}

// value describes a field, with what the old schema said of it.
func (w *writer) value(typ reflect.Type, optional bool, old map[string]any) object {
	o := w.kind(typ, optional, old)
	if w.schema.Written {
		for _, key := range []string{"enum", "pattern", "description"} {
			if old[key] != nil {
				o = append(o, member{key, old[key]})
			}
		}
	} else if values := w.comments.constants(typ); len(values) > 0 {
		o = append(o, member{"enum", values})
	}
	return o
}

func (w *writer) kind(typ reflect.Type, optional bool, old map[string]any) object {
	items, _ := old["items"].(map[string]any)
	switch {
	case typ.Kind() == reflect.Pointer && (optional || old["$ref"] != nil):
		return w.kind(typ.Elem(), false, old)
	case typ.Kind() == reflect.Pointer:
		described := w.kind(typ.Elem(), false, old)
		if described[0].key == "$ref" {
			return object{{"anyOf", []object{described, {{"type", "null"}}}}}
		}
		described[0].value = []any{described[0].value, "null"}
		return described
	case typ == reflect.TypeFor[time.Time]():
		return object{{"type", "string"}, {"format", "date-time"}}
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return object{{"type", "string"}}
	case typ.Kind() == reflect.Struct:
		return w.reference(typ, old)
	case typ.Kind() == reflect.Slice && (optional || old["type"] == "array"):
		// With optional an empty one is absent; else somebody wrote that it is never null.
		return object{{"type", "array"}, {"items", w.value(typ.Elem(), false, items)}}
	case typ.Kind() == reflect.Slice:
		return object{{"type", []string{"array", "null"}}, {"items", w.value(typ.Elem(), false, items)}}
	case typ.Kind() == reflect.Map:
		values, _ := old["additionalProperties"].(map[string]any)
		return object{{"type", "object"}, {"additionalProperties", w.value(typ.Elem(), false, values)}}
	}
	return object{{"type", scalar(typ)}}
}

// reference describes a struct once and refers to it.
func (w *writer) reference(typ reflect.Type, old map[string]any) object {
	name := snake(strings.TrimSuffix(typ.Name(), "Row"))
	if was, ok := old["$ref"].(string); ok && w.schema.Written {
		name = strings.TrimPrefix(was, "#/$defs/")
	} else if other := w.names[name]; other != nil && other != typ {
		name = snake(filepath.Base(typ.PkgPath())) + "_" + name
	}
	if w.names[name] == nil {
		w.names[name] = typ
		defs, _ := w.old["$defs"].(map[string]any)
		was, _ := defs[name].(map[string]any)
		described := w.structure(typ, was)
		text := w.comments.typ(typ)
		if w.schema.Written {
			text, _ = was["description"].(string)
		}
		if text != "" {
			described = append(described, member{"description", text})
		}
		w.defs = append(w.defs, member{name, described})
	}
	return object{{"$ref", "#/$defs/" + name}}
}

func scalar(typ reflect.Type) string {
	switch kind := typ.Kind(); {
	case kind == reflect.Bool:
		return "boolean"
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return "integer"
	case kind == reflect.Float64:
		return "number"
	case kind == reflect.String:
		return "string"
	}
	panic(fmt.Sprintf("a schema of %s is not known", typ))
}

// snake turns BackupState into backup_state.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// jsonName is the name of a struct's field in JSON.
func jsonName(typ reflect.Type, field string) string {
	f, ok := typ.FieldByName(field)
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if !ok || slices.Contains([]string{"", "-"}, name) {
		return ""
	}
	return name
}
