package schematest

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// schema is the part of JSON Schema that ours use.
type schema struct {
	Ref        string             `json:"$ref"`
	Defs       map[string]*schema `json:"$defs"`
	Type       any                `json:"type"` // a name or a list of names
	Format     string             `json:"format"`
	Pattern    string             `json:"pattern"`
	Enum       []any              `json:"enum"`
	AnyOf      []*schema          `json:"anyOf"`
	Items      *schema            `json:"items"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	// Additional is false, or the schema of a map's values.
	Additional json.RawMessage `json:"additionalProperties"`
}

// Check fails a test if a document is not what a schema describes, or has what the schema
// does not name, although that lets readers pass over it.
func Check(t *testing.T, file string, document []byte) {
	t.Helper()
	problems, err := Problems(file, document)
	if err != nil {
		t.Errorf("%v:\n%.2000s", err, document)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", file, p)
	}
}

// Problems returns what of a document is not as a schema says.
func Problems(file string, document []byte) ([]string, error) {
	text, err := os.ReadFile(Path(file))
	if err != nil {
		return nil, err
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var tree any
	if err := json.Unmarshal(document, &tree); err != nil {
		return nil, fmt.Errorf("a document of %s: %w", file, err)
	}
	problems := s.check(&s, "$", tree)
	slices.Sort(problems)
	return problems, nil
}

func (s *schema) check(root *schema, path string, value any) []string {
	if s.Ref != "" {
		def := root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
		if def == nil {
			return []string{path + ": no definition " + s.Ref}
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
		return []string{fmt.Sprintf("%s: %v is not %v", path, value, s.Type)}
	}
	if s.Enum != nil && !slices.Contains(s.Enum, value) {
		return []string{fmt.Sprintf("%s: %v is not one of %v", path, value, s.Enum)}
	}
	switch v := value.(type) {
	case string:
		return s.checkText(path, v)
	case map[string]any:
		return s.checkObject(root, path, v)
	case []any:
		var wrong []string
		for i, x := range v {
			wrong = append(wrong, s.Items.check(root, fmt.Sprintf("%s[%d]", path, i), x)...)
		}
		return wrong
	}
	return nil
}

func (s *schema) checkText(path, text string) []string {
	if s.Format == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			return []string{path + ": " + err.Error()}
		}
	}
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
		return []string{fmt.Sprintf("%s: %q is not as %s", path, text, s.Pattern)}
	}
	return nil
}

func (s *schema) checkObject(root *schema, path string, o map[string]any) (wrong []string) {
	var values *schema
	if len(s.Additional) > 0 && s.Additional[0] == '{' {
		if err := json.Unmarshal(s.Additional, &values); err != nil {
			return []string{path + ": " + err.Error()}
		}
	}
	for key, x := range o {
		property := s.Properties[key]
		if property == nil {
			property = values
		}
		if property == nil {
			wrong = append(wrong, path+"."+key+": not in the schema")
			continue
		}
		wrong = append(wrong, property.check(root, path+"."+key, x)...)
	}
	for _, key := range s.Required {
		if _, ok := o[key]; !ok {
			wrong = append(wrong, path+"."+key+": missing")
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
