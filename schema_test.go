package pgmedic_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
)

// words are the values that a type of text may have, as the schemas list them.
var words = map[reflect.Type][]string{
	reflect.TypeFor[pgmedic.Method]():     {string(pgmedic.MethodPlain), string(pgmedic.MethodParallel), string(pgmedic.MethodPhysical)},
	reflect.TypeFor[pgmedic.CopyFormat](): {string(pgmedic.CopyText), string(pgmedic.CopyBinary)},
	reflect.TypeFor[pgmedic.Purpose]():    {string(pgmedic.PurposeRegular), string(pgmedic.PurposeSafety)},
	reflect.TypeFor[pgmedic.ObjectRole](): {
		string(pgmedic.RoleDump), string(pgmedic.RoleSchema), string(pgmedic.RoleRest), string(pgmedic.RolePack),
		string(pgmedic.RoleGlobals), string(pgmedic.RoleInventory), string(pgmedic.RoleSums), string(pgmedic.RoleRecovery),
		string(pgmedic.RoleFiles), string(pgmedic.RoleServerManifest), string(pgmedic.RoleSettings),
	},
	reflect.TypeFor[pgmedic.PhysicalKind](): {string(pgmedic.PhysicalFull), string(pgmedic.PhysicalIncremental)},
	reflect.TypeFor[pgmedic.PageFault]():    {string(pgmedic.PageFaultChecksum), string(pgmedic.PageFaultHeader)},
	reflect.TypeFor[pgmedic.Wall](): {
		string(pgmedic.WallOwnUser), string(pgmedic.WallFiles), string(pgmedic.WallNetwork), string(pgmedic.WallSockets),
		string(pgmedic.WallProcesses), string(pgmedic.WallPrivileges), string(pgmedic.WallMemory), string(pgmedic.WallLimits),
	},
	reflect.TypeFor[pgmedic.ReceiptKind](): {string(pgmedic.ReceiptVerify), string(pgmedic.ReceiptDrill), string(pgmedic.ReceiptRestore)},
	reflect.TypeFor[pgmedic.Comparison]():  {string(pgmedic.ComparedCounts), string(pgmedic.ComparedValues)},
	reflect.TypeFor[pgmedic.Outcome](): {
		string(pgmedic.OutcomeOK), string(pgmedic.OutcomeWarn), string(pgmedic.OutcomeFailed), string(pgmedic.OutcomeSkipped),
	},
	reflect.TypeFor[pgmedic.Proof](): {
		string(pgmedic.ProofTaken), string(pgmedic.ProofIntact), string(pgmedic.ProofVerified), string(pgmedic.ProofProven),
		string(pgmedic.ProofFailed),
	},
}

// schema is the part of JSON Schema that ours use.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Enum       []string           `json:"enum"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
	Additional *schema            `json:"additionalProperties"`
	Defs       map[string]*schema `json:"$defs"`
}

func readSchema(t *testing.T, name string) *schema {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("docs", "schema", name))
	if err != nil {
		t.Fatal(err)
	}
	s := &schema{}
	if err := json.Unmarshal(data, s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// schemaProblems returns where a schema does not describe the JSON of a type.
func schemaProblems(root *schema, typ reflect.Type) []string {
	c := &schemaChecker{root: root, used: map[string]bool{}}
	c.check(typ.Name(), root, typ)
	for name := range root.Defs {
		if !c.used[name] {
			c.report("$defs/"+name, "is used nowhere")
		}
	}
	slices.Sort(c.problems)
	return c.problems
}

type schemaChecker struct {
	root     *schema
	used     map[string]bool
	problems []string
}

func (c *schemaChecker) report(at, format string, args ...any) {
	c.problems = append(c.problems, at+": "+fmt.Sprintf(format, args...))
}

func (c *schemaChecker) check(at string, s *schema, typ reflect.Type) {
	if s == nil {
		c.report(at, "has no schema")
		return
	}
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/$defs/")
		c.used[name] = true
		if s = c.root.Defs[name]; s == nil {
			c.report(at, "refers to %s, which is not there", name)
			return
		}
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if want := jsonType(typ); s.Type != want {
		c.report(at, "is of type %q in the schema, %q in JSON", s.Type, want)
		return
	}
	switch {
	case typ == reflect.TypeFor[time.Time]():
		if s.Format != "date-time" {
			c.report(at, "is a time and not so in the schema")
		}
	case typ.Kind() == reflect.Struct:
		c.checkFields(at, s, typ)
	case typ.Kind() == reflect.Slice:
		c.check(at+"[]", s.Items, typ.Elem())
	case typ.Kind() == reflect.Map:
		c.check(at+"{}", s.Additional, typ.Elem())
	case !slices.Equal(s.Enum, words[typ]):
		c.report(at, "may be %q in the schema, %q in Go", s.Enum, words[typ])
	}
}

func (c *schemaChecker) checkFields(at string, s *schema, typ reflect.Type) {
	known := map[string]bool{}
	for field := range typ.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		known[name] = true
		property, ok := s.Properties[name]
		if !ok {
			c.report(at, "the schema lacks %q", name)
			continue
		}
		if required := options != "omitempty"; required != slices.Contains(s.Required, name) {
			c.report(at, "%q is required: %t in Go, %t in the schema", name, required, !required)
		}
		c.check(at+"."+name, property, field.Type)
	}
	for name := range s.Properties {
		if !known[name] {
			c.report(at, "the schema has %q, the type has not", name)
		}
	}
}

func jsonType(typ reflect.Type) string {
	switch typ.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "string"
	case reflect.Slice:
		return "array"
	case reflect.Struct, reflect.Map:
		if typ == reflect.TypeFor[time.Time]() {
			return "string"
		}
		return "object"
	}
	return "a type that the test does not know: " + typ.String()
}

func TestSchemas(t *testing.T) {
	for name, typ := range map[string]reflect.Type{
		"manifest.schema.json": reflect.TypeFor[pgmedic.Backup](),
		"receipt.schema.json":  reflect.TypeFor[pgmedic.Receipt](),
	} {
		for _, problem := range schemaProblems(readSchema(t, name), typ) {
			t.Errorf("docs/schema/%s: %s", name, problem)
		}
	}
}

// TestSchemasCanFail breaks the manifest's schema in every way that
// schemaProblems is there to find.
func TestSchemasCanFail(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(*schema)
		want   string
	}{
		"field missing":          {func(s *schema) { delete(s.Properties, "labels") }, `the schema lacks "labels"`},
		"field missing below":    {func(s *schema) { delete(s.Defs["table"].Properties, "rows") }, `Backup.tables[]: the schema lacks "rows"`},
		"field too many":         {func(s *schema) { s.Properties["extra"] = &schema{Type: "string"} }, `the schema has "extra"`},
		"wrong type":             {func(s *schema) { s.Properties["id"].Type = "integer" }, `Backup.id: is of type "integer"`},
		"wrong type in a list":   {func(s *schema) { s.Defs["database"].Properties["tablespaces"].Items.Type = "number" }, `tablespaces[]: is of type "number"`},
		"wrong type in a map":    {func(s *schema) { s.Properties["labels"].Additional.Type = "number" }, `labels{}: is of type "number"`},
		"optional, not required": {func(s *schema) { s.Required = append(s.Required, "labels") }, `"labels" is required: false in Go`},
		"required, not optional": {func(s *schema) { s.Required = s.Required[1:] }, `"format" is required: true in Go`},
		"no time":                {func(s *schema) { s.Properties["started_at"].Format = "" }, "Backup.started_at: is a time"},
		"word missing":           {func(s *schema) { s.Properties["purpose"].Enum = []string{"regular"} }, `Backup.purpose: may be ["regular"]`},
		"reference to nothing":   {func(s *schema) { s.Properties["seal"].Ref = "#/$defs/nothing" }, "refers to nothing"},
		"definition unused":      {func(s *schema) { s.Defs["extra"] = &schema{} }, "$defs/extra: is used nowhere"},
		"list of nothing":        {func(s *schema) { s.Properties["steps"].Items = nil }, "Backup.steps[]: has no schema"},
	} {
		t.Run(name, func(t *testing.T) {
			s := readSchema(t, "manifest.schema.json")
			test.damage(s)
			problems := strings.Join(schemaProblems(s, reflect.TypeFor[pgmedic.Backup]()), "\n")
			if !strings.Contains(problems, test.want) {
				t.Errorf("found %q, want one with %q", problems, test.want)
			}
		})
	}
}
