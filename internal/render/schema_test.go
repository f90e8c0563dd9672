package render_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/pgmedic/pgmedic/internal/render"
)

var update = flag.Bool("update", false, "write the schema anew")

const schemaFile = "../../docs/schema/report.schema.json"

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

// schemaWriter describes the types of a report. What people wrote into the
// schema that is there (descriptions, enumerations) is kept.
type schemaWriter struct {
	old  map[string]any
	defs object
	done map[reflect.Type]bool
}

func updateSchema(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	w := &schemaWriter{done: map[reflect.Type]bool{}}
	if err := json.Unmarshal(text, &w.old); err != nil {
		t.Fatal(err)
	}
	whole := object{
		{"$schema", w.old["$schema"]}, {"title", w.old["title"]}, {"description", w.old["description"]},
	}
	whole = append(whole, w.structure(reflect.TypeFor[render.Report](), w.old)...)
	whole = append(whole, member{"$defs", w.defs})
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(whole); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(schemaFile, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// structure describes a struct.
func (w *schemaWriter) structure(typ reflect.Type, old map[string]any) object {
	was, _ := old["properties"].(map[string]any)
	properties, required := object{}, []string{}
	for _, field := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		known, _ := was[name].(map[string]any)
		properties = append(properties, member{name, w.value(field.Type, known)})
		if options != "omitempty" {
			required = append(required, name)
		}
	}
	return object{{"type", "object"}, {"properties", properties}, {"required", required}, {"additionalProperties", false}}
}

// value describes a field, with what the old schema said of it.
func (w *schemaWriter) value(typ reflect.Type, old map[string]any) object {
	var o object
	switch {
	case typ == reflect.TypeFor[time.Time]():
		o = object{{"type", "string"}, {"format", "date-time"}}
	case typ == reflect.TypeFor[*time.Time]():
		o = object{{"type", []string{"string", "null"}}, {"format", "date-time"}}
	case typ.Kind() == reflect.Pointer && old["$ref"] != nil:
		o = w.reference(typ.Elem())
	case typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct:
		o = object{{"anyOf", []object{w.reference(typ.Elem()), {{"type", "null"}}}}}
	case typ.Kind() == reflect.Pointer:
		o = object{{"type", []string{scalar(typ.Elem()), "null"}}}
	case typ.Kind() == reflect.Struct:
		o = w.reference(typ)
	case typ.Kind() == reflect.Slice && old["type"] == "array":
		// Somebody wrote that it is never null.
		o = object{{"type", "array"}, {"items", w.value(typ.Elem(), nil)}}
	case typ.Kind() == reflect.Slice:
		o = object{{"type", []string{"array", "null"}}, {"items", w.value(typ.Elem(), nil)}}
	default:
		o = object{{"type", scalar(typ)}}
	}
	for _, key := range []string{"enum", "description"} {
		if old[key] != nil {
			o = append(o, member{key, old[key]})
		}
	}
	return o
}

// reference describes a struct once and refers to it.
func (w *schemaWriter) reference(typ reflect.Type) object {
	name := snake(typ.Name())
	if !w.done[typ] {
		w.done[typ] = true
		defs, _ := w.old["$defs"].(map[string]any)
		old, _ := defs[name].(map[string]any)
		described := w.structure(typ, old)
		if old["description"] != nil {
			described = append(described, member{"description", old["description"]})
		}
		w.defs = append(w.defs, member{name, described})
	}
	return object{{"$ref", "#/$defs/" + name}}
}

func scalar(typ reflect.Type) string {
	switch typ.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "string"
	default:
		panic("describe " + typ.String())
	}
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
