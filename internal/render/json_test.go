package render_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
)

// schema is the part of JSON Schema that ours uses.
type schema struct {
	Ref                  string             `json:"$ref"`
	Defs                 map[string]*schema `json:"$defs"`
	Type                 any                `json:"type"` // a name or a list of names
	Enum                 []any              `json:"enum"`
	AnyOf                []*schema          `json:"anyOf"`
	Items                *schema            `json:"items"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	seen                 bool
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	text, err := os.ReadFile("../../docs/schema/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// check returns what of a value breaks the schema, and marks what it used.
func (s *schema) check(root *schema, path string, value any) []string {
	s.seen = true
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		def := root.Defs[name]
		if def == nil {
			return []string{path + ": no definition " + name}
		}
		return def.check(root, path, value)
	}
	if len(s.AnyOf) > 0 {
		for _, choice := range s.AnyOf {
			if choice.check(root, path, value) == nil {
				return nil
			}
		}
		return s.AnyOf[0].check(root, path, value)
	}
	if !s.takes(value) {
		return []string{fmt.Sprintf("%s: %v is no %v", path, value, s.Type)}
	}
	if s.Enum != nil && !slices.Contains(s.Enum, value) {
		return []string{fmt.Sprintf("%s: %v is none of %v", path, value, s.Enum)}
	}
	var wrong []string
	switch v := value.(type) {
	case map[string]any:
		for key, x := range v {
			if s.Properties[key] == nil {
				wrong = append(wrong, path+"."+key+": not in the schema")
				continue
			}
			wrong = append(wrong, s.Properties[key].check(root, path+"."+key, x)...)
		}
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				wrong = append(wrong, path+"."+key+": missing")
			}
		}
	case []any:
		for i, x := range v {
			wrong = append(wrong, s.Items.check(root, fmt.Sprintf("%s[%d]", path, i), x)...)
		}
	}
	return wrong
}

// takes reports whether a value has one of the schema's types.
func (s *schema) takes(value any) bool {
	types, ok := s.Type.([]any)
	if !ok {
		types = []any{s.Type}
	}
	kind := "null"
	switch v := value.(type) {
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case map[string]any:
		kind = "object"
	case []any:
		kind = "array"
	case float64:
		kind = "number"
		if v == float64(int64(v)) && slices.Contains(types, any("integer")) {
			kind = "integer"
		}
	}
	return slices.Contains(types, any(kind))
}

// unseen returns the properties that no check has used.
func (s *schema) unseen(path string) []string {
	var out []string
	for name, p := range s.Properties {
		if !p.seen {
			out = append(out, path+"."+name)
		}
	}
	for name, d := range s.Defs {
		out = append(out, d.unseen(name)...)
	}
	return out
}

func asJSON(t *testing.T, r render.Report) (text []byte, tree any) {
	t.Helper()
	var b bytes.Buffer
	if err := render.JSON(&b, r); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &tree); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), tree
}

func TestJSONAndItsSchemaAgree(t *testing.T) {
	s := readSchema(t)
	var full render.Report
	rendertest.Fill(reflect.ValueOf(&full).Elem(), 0)
	for _, r := range []*reading.Reading{full.Reading, full.Reading.Before, full.Reading.Databases[0]} {
		r.Tables.Items[0].Kind = "table"
	}
	for name, r := range map[string]render.Report{"full": full, "troubled": rendertest.ReportOn(rendertest.Clinic()), "healthy": rendertest.ReportOn(rendertest.Healthy())} {
		_, tree := asJSON(t, r)
		for _, wrong := range s.check(s, name, tree) {
			t.Error(wrong)
		}
	}
	if unseen := s.unseen("report"); len(unseen) > 0 {
		t.Errorf("in the schema and not in a full report: %v", unseen)
	}
	for name, d := range s.Defs {
		if d.AdditionalProperties == nil || *d.AdditionalProperties {
			t.Errorf("%s lets fields in that it doesn't name", name)
		}
	}
}

func TestReportSurvivesJSON(t *testing.T) {
	want := rendertest.ReportOn(rendertest.Clinic())
	text, _ := asJSON(t, want)
	var got render.Report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("went in\n%+v and came out\n%+v", want, got)
	}
	if !bytes.Contains(text, []byte("\"findings\": [")) || bytes.Contains(text, []byte(`\u003c`)) {
		t.Error("findings must be a list, and SQL readable")
	}
	if empty, _ := asJSON(t, rendertest.ReportOn(rendertest.Healthy())); !bytes.Contains(empty, []byte(`"findings": []`)) {
		t.Errorf("no findings must be an empty list: %s", empty)
	}
}
